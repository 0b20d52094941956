"""The tables, figures and claims of the lab book, from scores made by hand."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from eval.cluster import cluster_names
from eval.evidence.maps import map_figure
from eval.evidence.measures import AUC, PROBE, SUMMARY, Measure
from eval.evidence.numbers import signed
from eval.labbook import tables
from eval.labbook.answers import answer
from eval.labbook.book import Book
from eval.labbook.claims import table
from eval.labbook.drawings import CLOUDS, drawing, overlay
from eval.labbook.estimates import best, difference, estimate
from eval.labbook.floors import floors
from eval.labbook.page import render
from eval.labbook.panels import names
from eval.labbook.queries import queries
from eval.report import overlays
from eval.studies.peel.study import STUDY
from tests.parts.embeddings import numbers
from tests.parts.shapes import (
    ACCURACIES,
    CLASSES,
    EIGENMAPS,
    FULL,
    IMAGES,
    NEIGHBORS,
    NO_VARIANCE,
    QUERIES,
    VARIANTS,
    chapter,
    collect,
    compared,
    evidence,
    filled,
    over_seeds,
    publish_claims,
    publish_compare,
    publish_images,
    publish_of_variant,
    publish_scores,
    text,
)
from train.data.scores import Value
from train.tracking.panels import color


@pytest.fixture
def everything(peel_home: Path) -> None:
    """The test's own PEEL_HOME holds all that was made of every variant."""
    shutil.copytree(filled(), peel_home)


# ---- numbers over seeds ----------------------------------------------------------------------------------------------


def test_the_summary_shows_mean_spread_count_and_interval(everything: None) -> None:
    publish_compare(over_seeds("probe/top1", FULL, [0.673, 0.661], [0.652, 0.684]))
    rows = dict(re.findall(r'<tr data-variant="([^"]+)">(.*?)</tr>', tables.summary(collect()), re.S))
    cell = re.findall(r"<td.*?</td>", rows[FULL])[0]
    spread = float(np.std([66.1, 67.3], ddof=1))
    assert text(cell) == f"66.7 % ± {spread:.1f} (n = 2) 65.2 to 68.4 %"
    value = re.search(r'data-value="([^"]+)"', cell)
    assert value and float(value[1]) == pytest.approx(0.667)
    assert text(re.findall(r"<td.*?</td>", rows[NO_VARIANCE])[0]) == "14.1 % 13.1 to 15.1 %"


def test_what_knowing_nothing_gives_is_marked_from_the_scores_that_it_stands_in(everything: None) -> None:
    for mark, left in (("project/pca/first", "30.00"), ("probe/chance", "33.33"), (0.25, "25.00")):
        measure = Measure("project", "project/tsne/purity", "Purity", "percent", 1, mark)
        assert f'class="chance" style="left:{left}%"' in tables.cell(collect(), measure, FULL, set(), bar=True)


def test_a_difference_is_the_same_whichever_way_it_was_compared() -> None:
    publish_images()
    for variant in (FULL, NEIGHBORS):
        publish_scores("probe", {"probe/top1": 0.5}, variant)
    publish_compare(compared("probe/top1", NEIGHBORS, FULL, -0.1, [-0.2, -0.05]))
    book = collect((FULL, NEIGHBORS), None)
    gap = difference(book, PROBE, FULL, NEIGHBORS)
    assert gap and (gap.value, gap.interval, gap.verdict) == (0.1, (0.05, 0.2), "higher")
    other = difference(book, PROBE, NEIGHBORS, FULL)
    assert other and (other.value, other.interval, other.verdict) == (-0.1, (-0.2, -0.05), "lower")


def test_a_comparison_against_other_anomalies_is_left_aside(everything: None) -> None:
    publish_compare(over_seeds("anomaly/auc", FULL, [0.9, 0.92], [0.8, 0.95]), anomalies="photos")
    auc = estimate(collect(), AUC, FULL)
    assert auc and (auc.value, auc.n) == (0.673, 1)


def test_what_does_not_differ_from_the_best_is_best_too(everything: None) -> None:
    top = "shapes-patches"
    assert best(collect(), PROBE) == {top}
    publish_compare(compared("probe/top1", top, FULL, 0.017, [-0.01, 0.03]))
    assert best(collect(), PROBE) == {top, FULL}


def test_versions_made_after_the_comparison_are_named() -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": 0.5}, FULL)
    publish_compare({f"compare/source/{FULL}/probe": ["probe:v0"]})
    assert collect((FULL,), None).outdated == []
    publish_scores("probe", {"probe/top1": 0.6}, FULL)
    book = collect((FULL,), None)
    assert book.outdated == ["probe:shapes-vicreg"]
    assert '<code class="reference">probe:shapes-vicreg</code>' in tables.summary(book)


def test_differences_from_vicreg_carry_verdict_and_both_variants(everything: None) -> None:
    publish_compare(compared("probe/top1", "shapes-untrained", FULL, -0.253, [-0.26, -0.24]))
    rows = dict(re.findall(r'<tr data-variant="([^"]+)">(.*?)</tr>', floors(collect(), chapter(0)), re.S))
    assert list(rows) == [f"{FULL} {variant}" for variant in VARIANTS if variant != FULL]
    first = re.findall(r"<td.*?</td>", rows[f"{FULL} shapes-untrained"])[0]
    assert text(first) == "+25.3 points 24.0 to 26.0 better"


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [(0.532, "percent", "+53.2 points"), (-0.001, "percent", "−0.1 points"), (0.0, "percent", "0.0 points"),
     (0.25, "share", "+0.250"), (-0.25, "decimal", "−0.250")],
)  # fmt: skip
def test_differences_are_written_with_their_sign(value: float, form: Any, expected: str) -> None:
    assert signed(value, form) == expected


# ---- figures ---------------------------------------------------------------------------------------------------------


def overlaid(book: Book, artifact: str, path: str, only: str | None = None) -> list[dict[str, Any]]:
    drawings = {
        variant: drawing(book.evidence[artifact, variant].scores.figures[path])
        for variant in book.variants
        if (artifact, variant) in book.evidence
    }
    traces: list[dict[str, Any]] = overlay(drawings, book.variants, only).data["data"]
    return traces


def test_one_roc_figure_holds_the_curve_of_every_variant_with_its_auc(everything: None) -> None:
    traces = overlaid(collect(), "anomaly", "anomaly/roc")
    present = [variant for variant in VARIANTS if variant != EIGENMAPS]
    assert [trace["name"] for trace in traces] == [
        *(f"{variant}: AUC {ACCURACIES[variant]:.3f}" for variant in present), "chance: AUC 0.5",
    ]  # fmt: skip
    assert [trace.get("meta") for trace in traces] == [*({"variant": variant} for variant in present), None]


def test_the_legend_of_a_map_says_in_words_what_a_cluster_is_and_has_no_color_of_a_variant() -> None:
    groups = cluster_names(np.array([[13, 7, 0], [0, 0, 0]]), ("7", "5 % wool", "x"))
    places = np.zeros((2, 2), np.float32)
    cloud = drawing(map_figure("Clusters", ("", ""), places, np.array([0, 1]), groups, np.array([0, 1]), places))
    assert [key[0] for key in cloud.keys] == ["cluster 0, 65 % of it 7", "cluster 1, empty", "center"]
    assert [key[1] for key in cloud.keys] == [*CLOUDS[:2], "black"]


def test_the_curves_of_a_measure_are_called_by_the_value_and_interval_of_the_tables(everything: None) -> None:
    publish_compare(over_seeds("anomaly/auc", FULL, [0.671, 0.669], [0.6512, 0.6913]))
    book = collect()
    (panel,) = chapter(9).panels
    legend = names(book, panel)
    assert legend and legend[FULL] == f"{FULL}: AUC 0.670 (0.651 to 0.691)"
    assert "0.670" in tables.cell(book, AUC, FULL, set()) and "0.651 to 0.691" in tables.cell(book, AUC, FULL, set())
    drawings = {variant: book.drawing("anomaly", variant, "anomaly/roc") for variant in (FULL, NEIGHBORS)}
    traces = overlay(drawings, book.variants, names=legend).data["data"]
    assert [trace["name"] for trace in traces] == [legend[FULL], legend[NEIGHBORS], "chance: AUC 0.5"]


def test_each_objective_has_one_figure_with_train_and_test_of_every_variant(everything: None) -> None:
    traces = overlaid(collect(), "training", "training/invariance")
    trained = ("shapes-untrained", FULL, NO_VARIANCE, NEIGHBORS)
    assert [trace["meta"]["variant"] for trace in traces] == [variant for variant in trained for _ in range(2)]
    assert [trace["name"] for trace in traces[::2]] == list(trained)
    assert [trace["name"] for trace in traces[1::2]] == [f"{variant}: test set, once an epoch" for variant in trained]
    assert [trace["showlegend"] for trace in traces] == [True, False] * 4
    ends = [numbers(trace["y"])[-1] for trace in traces]
    assert ends == [ACCURACIES[variant] for variant in trained for _ in range(2)]


def test_a_variant_has_its_color_by_its_place_in_the_book_in_every_figure(everything: None) -> None:
    book = collect()
    for artifact, path in (("anomaly", "anomaly/roc"), ("training", "training/variance")):
        colors = {t["meta"]["variant"]: t["line"]["color"] for t in overlaid(book, artifact, path) if "meta" in t}
        assert colors == {variant: color(VARIANTS.index(variant)) for variant in colors}


def test_the_bars_of_all_variants_stand_in_one_figure_representation_alone(everything: None) -> None:
    traces = overlaid(collect(), "probe", "probe/per_class", "representation")
    assert [trace["name"] for trace in traces] == list(VARIANTS)


def test_retrieval_shows_a_row_a_variant_below_each_query(everything: None) -> None:
    book = collect((FULL, NEIGHBORS))
    blocks = re.findall(r'<section class="query">(.*?)</section>', queries(book, book.variants), re.S)
    assert [text(re.findall(r"<h4>.*?</h4>", block)[0]) for block in blocks] == list(CLASSES)
    assert [re.findall(r'<tr data-variant="([^"]+)">', block) for block in blocks] == [[FULL, NEIGHBORS]] * 3
    for place, block in enumerate(blocks):
        query, near, *_ = map(decoded, re.findall(r'src="([^"]+)"', block))
        tile, frame, gap = 64, 4, 2  # of eval.evidence.pictures
        pixels = query[gap + frame : gap + frame + tile : 8, gap + frame : gap + frame + tile : 8]
        np.testing.assert_array_equal(pixels, IMAGES.train[QUERIES[place]])
        nearest = near[gap + frame : gap + frame + tile : 8, gap + frame : gap + frame + tile : 8]
        np.testing.assert_array_equal(nearest, IMAGES.train[QUERIES[place] + 1])


def decoded(address: str) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_variants_that_were_asked_about_other_images_are_named_and_not_shown(everything: None) -> None:
    other = evidence(NEIGHBORS, 0.5)["retrieve"]
    other.values["retrieve/queries"] = [1, 13, 25]
    publish_of_variant("retrieve", other, NEIGHBORS)
    markup = queries(collect((FULL, NEIGHBORS)), (FULL, NEIGHBORS))
    assert f"– {NEIGHBORS} (other query images than {FULL})" in text(markup)
    assert set(re.findall(r'<tr data-variant="([^"]+)">', markup)) == {FULL}


# ---- claims ----------------------------------------------------------------------------------------------------------

CLAIM: Mapping[str, Value] = {
    "number": 5,
    "question": 4,
    "text": "Without the variance term the probe falls near <chance>",
    "who": "A: 17 %, B: 14.66 %",
    "measured": "test accuracy",
    "verdict": "holds",
    "why": "14.1 % is at most twice 10 %.",
    "figures": [],
    "panels": [
        "project:shapes-vicreg#project/pca",
        "anomaly:shapes-vicreg-vs-letters#anomaly/roc",
        "probe:gone#probe/x",
    ],
}


def test_a_claim_stands_in_its_chapter_and_in_the_table_and_leads_to_its_panels(everything: None) -> None:
    publish_claims({"collapse": CLAIM, "other": {**CLAIM, "question": 2, "verdict": "does not hold"}})
    book = collect()
    assert (
        "holds Without the variance term the probe falls near <chance> (solution A: 17 %, solution B: 14.7 %)"
        in text(answer(book, chapter(4)))
    )
    assert "does not hold Without" in text(answer(book, chapter(2))) and "near <chance>" not in text(
        answer(book, chapter(3))
    )
    markup = table(book)
    assert "Verdicts on 2 claims: 1 holds, 1 does not hold, 0 not decided." in text(markup)
    assert "14.1 % is at most twice 10 %." in text(markup)
    row = markup[markup.index('<tr id="claim-collapse">') :].partition("</tr>")[0]
    targets = re.findall(r'<a href="#([^"]+)" data-shows="shapes-vicreg">', row)
    page = render(book)
    assert len(targets) == 2 and all(page.count(f'id="{target}"') == 1 for target in targets)
    assert '<code class="reference">probe:gone#probe/x</code>' in row  # not on this page


# ---- the page --------------------------------------------------------------------------------------------------------


def test_chapters_ask_the_questions_of_the_exercise_in_their_order(everything: None) -> None:
    page = render(collect())
    assert re.findall(r'<p class="eyebrow">Question (\d+)</p>', page) == [str(number) for number in range(1, 14)]
    titles = ["Training", "Maps", "Linear probe", "No variance term", "No generated neighbors", "Laplacian Eigenmaps",
              "Retrieval", "Anomaly detection", "ROC", "Most anomalous", "Clustering", "Maps of the clusters",
              "Silhouette"]  # fmt: skip
    assert [text(title) for title in re.findall(r"<h2>(.*?)</h2>", page) if text(title) in titles] == titles
    # ... and each closes with its answer.
    for one in STUDY.chapters:
        section = page[page.index(f'<section id="{one.anchor}"') :]
        assert section.index('id="answer-') == section.index(f'id="answer-{one.number}"')


def test_text_from_scores_is_escaped(everything: None) -> None:
    book = collect()
    assert "cat and <dog> (12.5 %)" in text(answer(book, chapter(2)))
    assert "<dog>" not in answer(book, chapter(2)) and "<dog>" not in tables.numbers(
        book, STUDY.chapters[2].measures, VARIANTS, ""
    )


def test_the_chapter_without_variance_shows_it_beside_the_full_one_and_nothing_else(everything: None) -> None:
    no_variance = chapter(4)
    assert no_variance.variants(collect()) == (FULL, NO_VARIANCE)
    assert {panel.path for panel in no_variance.panels} >= {"project/pca", "training/collapse"}
    assert {measure.path for measure in no_variance.measures} >= {"probe/top1", "collapse/effective_rank"}


def test_all_tables_name_the_variant_of_each_row(everything: None) -> None:
    book = collect()
    page_tables: list[Callable[[], str]] = [
        lambda: tables.summary(book),
        lambda: tables.by_class(book, "probe", "probe/per_class", "By class"),
        *(lambda c=c: tables.numbers(book, c.measures, VARIANTS, c.title) for c in STUDY.chapters),
    ]
    for table_of in page_tables:
        rows, _, notes = table_of().partition("<tbody>")[2].partition("</tbody>")
        named = re.findall(r'<tr data-variant="([^"]+)">', rows)
        absent = re.findall(r'<span data-variant="([^"]+)">', notes)
        assert named == [variant for variant in VARIANTS if variant not in absent]
        assert sorted(named + absent) == sorted(VARIANTS)


def test_a_row_that_would_say_not_trained_throughout_is_left_out_and_named_below(everything: None) -> None:
    book, measures = collect(), chapter(1).measures
    table = tables.numbers(book, measures, VARIANTS, "Training")
    assert "shapes-pixels" not in table.partition("</table>")[0]
    assert "– shapes-pixels (not trained)" in text(table.partition("</table>")[2])
    # ... with one number it stands in the table, and its other cells say why they are empty.
    mixed = tables.numbers(book, (*measures, PROBE), VARIANTS, "Training")
    assert "shapes-pixels" in mixed.partition("</table>")[0] and "–, not trained" in text(mixed)


def test_the_frame_of_the_run_holds_the_spread_over_seeds(everything: None) -> None:
    publish_compare(over_seeds("probe/top1", FULL, [0.6, 0.7], [0.55, 0.75]))
    frame = tables.summary_frame(collect()).set_index("variant")
    assert frame.loc[FULL, "probe/top1"] == pytest.approx(0.65)
    assert frame.loc[FULL, "probe/top1/spread"] == pytest.approx(np.std([0.6, 0.7], ddof=1))
    assert list(frame.loc[[FULL, NO_VARIANCE], "probe/top1/seeds"]) == [2, 1]
    assert {measure.path for measure in SUMMARY if measure.applies(labeled=True)} <= set(frame.columns)


def test_a_panel_is_on_the_page_where_its_chapter_shows_the_variant(everything: None) -> None:
    book = collect()
    assert book.shows("project", FULL, "project/pca")
    assert book.shows("retrieve", FULL, "retrieve/farthest")
    assert not book.shows("anomaly", EIGENMAPS, "anomaly/roc")
    assert not book.shows("training", "shapes-pixels", "training/collapse")


def test_the_run_of_the_report_gets_the_figures_that_show_every_variant(everything: None) -> None:
    figures = overlays(collect())
    assert {"report/roc", "report/per_class", "report/invariance", "report/collapse"} <= set(figures)
    assert {trace.meta["variant"] for trace in figures["report/per_class"].data} == set(VARIANTS)
