"""The answers of the lab book: other numbers give other words, and what is missing is named."""

import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from eval.labbook import tables
from eval.labbook.answers import answer
from eval.labbook.book import Book
from eval.labbook.claims import table
from eval.labbook.floors import floors
from eval.studies.peel.study import STUDY
from tests.parts.shapes import (
    EIGENMAPS,
    FULL,
    NEIGHBORS,
    NO_VARIANCE,
    Values,
    chapter,
    collect,
    compared,
    filled,
    over_seeds,
    publish_compare,
    publish_images,
    publish_scores,
    text,
)


@pytest.fixture
def everything(peel_home: Path) -> None:
    """The test's own PEEL_HOME holds all that was made of every variant."""
    shutil.copytree(filled(), peel_home)


def prose(book: Book, number: int) -> str:
    """Verdict and points of an answer alone."""
    parts = re.match(
        r'.*<h3>Answer</h3><p class="finding">(.*?)</p>(?:<ul class="points">(.*?)</ul>)?',
        answer(book, chapter(number)),
        re.S,
    )
    assert parts
    return text(" ".join(filter(None, parts.groups())))


def verdict(book: Book, number: int) -> str:
    """What an answer says first, in bold."""
    match = re.search(r'<p class="finding"><strong>(.*?)</strong></p>', answer(book, chapter(number)), re.S)
    assert match
    return text(match[1])


def commands(book: Book, number: int) -> list[str]:
    return [
        html.unescape(match)
        for match in re.findall(r'<code class="command">(.*?)</code>', answer(book, chapter(number)))
    ]


def publish_ablation(worse: Values) -> Book:
    """VICReg with and without variance: probe and maps, and their comparison."""
    publish_images()
    for variant, top1, rank, first in ((FULL, 0.673, 35.1, 0.24), (NO_VARIANCE, 0.141, 1.8, 0.97)):
        publish_scores("probe", {"probe/top1": top1}, variant)
        maps: Values = {"collapse/effective_rank": rank, "project/pca/first": first, "collapse/std": rank / 35}
        publish_scores("project", maps, variant)
    publish_compare(worse)
    return collect((FULL, NO_VARIANCE), None)


@pytest.mark.parametrize(
    ("ends", "verb", "words"),
    [
        ([0.523, 0.54], "falls", "worse"),
        ([-0.6, -0.5], "rises", "better"),
        ([-0.1, 0.6], "goes", "no difference shown"),
        (None, "goes", "not decided, without an interval"),
    ],
)
def test_the_interval_of_the_difference_chooses_the_words(ends: list[float] | None, verb: str, words: str) -> None:
    book = publish_ablation(compared("probe/top1", FULL, NO_VARIANCE, 0.532, ends))
    sentences = prose(book, 4)
    assert (
        f"With the variance term removed the probe {verb} from 67.3 % to 14.1 % (difference −53.2 points" in sentences
    )
    assert f"): {words}." in sentences
    if ends:
        low, high = (f"{-100 * end:.1f}".replace("-", "−") for end in reversed(ends))
        assert f", 95 % interval {low} to {high})" in sentences


def test_answer_without_variance_points_at_rank_axis_and_probe_together() -> None:
    sentences = prose(publish_ablation(compared("probe/top1", FULL, NO_VARIANCE, 0.532, [0.523, 0.54])), 4)
    assert "The effective rank falls from 35.1 to 1.8." in sentences
    assert "The share of the variance on the first PCA axis rises from 24.0 % to 97.0 %." in sentences
    assert "the picture agrees with the accuracy" in sentences


def test_a_collapse_without_a_worse_probe_does_not_explain_the_accuracy() -> None:
    sentences = prose(publish_ablation(compared("probe/top1", FULL, NO_VARIANCE, 0.0, [-0.1, 0.1])), 4)
    assert "the picture does not explain the accuracy" in sentences


@pytest.mark.parametrize(
    ("seeds", "ends", "words"),
    [
        ([0.67, 0.68], [0.66, 0.69], "at least the 60 % that the exercise asks for"),
        ([0.5, 0.52], [0.49, 0.55], "below the 60 % that the exercise asks for"),
        ([0.59, 0.62], [0.57, 0.64], "whether it reaches 60 % is not decided"),
    ],
)
def test_the_whole_interval_decides_whether_60_percent_are_reached(
    seeds: list[float], ends: list[float], words: str
) -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": seeds[0]}, FULL)
    publish_compare(over_seeds("probe/top1", FULL, seeds, ends))
    sentences = prose(collect((FULL,), None), 3)
    interval = " to ".join(f"{100 * end:.1f}" for end in ends)
    assert verdict(collect((FULL,), None), 3).startswith(
        f"The probe classifies {100 * np.mean(seeds):.1f} % of the test"
    )
    assert words in verdict(collect((FULL,), None), 3)
    assert f"{100 * np.mean(seeds):.1f} % (95 % interval {interval} %, 2 seeds)" in sentences


@pytest.mark.parametrize(
    ("rise", "words"), [(0.25, "rises by 0.25"), (-0.25, "falls by 0.25"), (0.0, "neither rises nor falls")]
)
def test_a_term_rises_or_falls_with_the_sign_of_its_change(rise: float, words: str) -> None:
    publish_images()
    publish_scores("training", {"training/epochs": 5, "training/invariance/rise": rise}, FULL)
    assert f"the invariance term {words}" in prose(collect((FULL,), None), 1)


def test_a_rise_within_the_spread_of_the_seeds_is_none() -> None:
    publish_images()
    publish_scores("training", {"training/epochs": 5, "training/invariance/rise": 0.2}, FULL)
    publish_compare(over_seeds("training/invariance/rise", FULL, [0.2, -0.15], []))
    assert "the invariance term neither rises nor falls" in prose(collect((FULL,), None), 1)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ([0.1, 0.2], "not the same: generated neighbors cost 15.0 points"),
        ([-0.2, -0.1], "not the same: generated neighbors add 15.0 points"),
        ([-0.2, 0.1], "Whether the probe is the same: no difference shown"),
    ],
)
def test_what_generated_neighbors_add_is_the_difference_of_the_probes(ends: list[float], words: str) -> None:
    publish_images()
    for variant in (FULL, NEIGHBORS):
        publish_scores("probe", {"probe/top1": 0.5}, variant)
    publish_compare(compared("probe/top1", NEIGHBORS, FULL, float(np.sign(sum(ends)) * 0.15), ends))
    assert words in prose(collect((FULL, NEIGHBORS), None), 5)


def test_the_first_comparison_is_the_verdict_where_an_answer_concludes_nothing() -> None:
    publish_images()
    for variant, purity in ((FULL, 0.7), (NEIGHBORS, 0.5)):
        publish_scores("cluster", {"cluster/k": 3, "cluster/purity": purity, "cluster/nmi": purity}, variant)
    publish_compare(
        compared("cluster/purity", FULL, NEIGHBORS, 0.2, [0.1, 0.3])
        | compared("cluster/nmi", FULL, NEIGHBORS, 0.2, [-0.1, 0.3])
    )
    book = collect((FULL, NEIGHBORS), None)
    assert verdict(book, 11) == "Images in the most frequent class of their cluster: VICReg is better."
    assert "with the classes: 0.700 for VICReg, 0.500 for the neighbor variant" in prose(book, 11)


def test_neighbors_closer_in_color_follow_color_more() -> None:
    publish_images()
    for variant, ratio in ((FULL, 0.7), (NEIGHBORS, 0.5)):
        publish_scores("retrieve", {"retrieve/color": ratio}, variant)
    publish_compare(compared("retrieve/color", FULL, NEIGHBORS, 0.2, [0.1, 0.3]))
    assert "0.700 for VICReg, 0.500 for the neighbor variant; the neighbor variant follows color more." in prose(
        collect((FULL, NEIGHBORS), None), 7
    )


@pytest.mark.parametrize(
    ("by_map", "words"),
    [
        ([0.1, 0.2], "VICReg serves classification better, by map and by probe."),
        ([-0.2, -0.1], "Map and probe do not agree"),
        ([-0.1, 0.1], "Which serves classification better by both is not decided."),
    ],
)
def test_eigenmaps_are_judged_by_map_and_probe_together(by_map: list[float], words: str) -> None:
    publish_images()
    for variant in (FULL, EIGENMAPS):
        publish_scores("probe", {"probe/top1": 0.5, "probe/chance": 0.25}, variant)
        publish_scores("project", {"project/tsne/purity": 0.5}, variant)
    publish_compare(
        compared("probe/top1", FULL, EIGENMAPS, 0.15, [0.1, 0.2])
        | compared("project/tsne/purity", FULL, EIGENMAPS, 0.15, by_map)
    )
    sentences = prose(collect((FULL, EIGENMAPS), None), 6)
    assert words in sentences
    assert "2.0 times the accuracy of guessing" in sentences


@pytest.mark.parametrize(("eye", "words"), [([0.1, 0.2], "agrees"), ([-0.2, -0.1], "does not agree")])
def test_silhouette_agrees_with_the_eye_where_both_put_the_same_method_first(eye: list[float], words: str) -> None:
    publish_images()
    for variant in (FULL, NEIGHBORS):
        publish_scores("cluster", {"cluster/silhouette/clusters": 0.1}, variant)
        publish_scores("project", {"project/tsne/purity": 0.5}, variant)
    publish_compare(
        compared("cluster/silhouette/clusters", FULL, NEIGHBORS, 0.1, [0.05, 0.15])
        | compared("project/tsne/purity", FULL, NEIGHBORS, 0.15, eye)
    )
    assert f"The silhouette {words} with the eye." in prose(collect((FULL, NEIGHBORS), None), 13)


def test_most_anomalous_are_counted_by_their_set() -> None:
    publish_images()
    for variant, letters, alike in ((FULL, 6, 0.9), (NEIGHBORS, 2, 0.3)):
        most = [{"set": "letters" if row < letters else "shapes", "row": row, "score": 1.0} for row in range(7)]
        values: Values = {"anomaly/most": most, "anomaly/against": "letters", "anomaly/most/pixels": alike}
        publish_scores("anomaly", values, variant)
    sentences = prose(collect((FULL, NEIGHBORS)), 10)
    assert "VICReg: 6 of the 7 most anomalous are of letters; they are not near-duplicates" in sentences
    assert "The neighbor variant: 2 of the 7 most anomalous are of letters; they are near-duplicates" in sentences
    assert "By the count VICReg is better." in sentences


def test_with_all_evidence_no_answer_has_a_gap_but_the_comparison(everything: None) -> None:
    book = collect()
    for one in STUDY.chapters:
        sentences = prose(book, one.number)
        assert sentences.endswith(".") and "Not measured" not in sentences and "None" not in sentences
        assert set(commands(book, one.number)) <= {book.comparing}
    assert "raw pixels" in text(floors(book, chapter(0)))


# ---- what is missing -------------------------------------------------------------------------------------------------


def test_a_missing_variant_is_named_with_the_command_that_makes_it() -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": 0.5}, FULL)
    book = collect((FULL,), None)
    assert commands(book, 4)[0] == "python -m train.pretrain --images shapes --preset tiny --variance 0"
    assert commands(book, 5)[0] == "python -m train.pretrain --images shapes --preset tiny --views neighbors"
    assert commands(book, 6)[0] == "python -m train.eigenmaps --embeddings shapes-untrained"
    assert "shapes-vicreg-variance0 is not on this page" in text(answer(book, chapter(4)))


def test_a_missing_evaluation_is_named_with_the_command_that_makes_it() -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": 0.5}, FULL)
    publish_scores("project", {"collapse/effective_rank": 2.0}, NO_VARIANCE)
    book = collect((FULL, NO_VARIANCE))
    assert "python -m eval.probe --embeddings shapes-vicreg-variance0" in commands(book, 4)
    assert "python -m eval.anomaly --embeddings shapes-vicreg --anomalies shapes-vicreg-on-letters" in commands(book, 9)
    assert prose(book, 9) == "Not measured."


def test_a_value_that_an_older_evaluation_lacks_is_named() -> None:
    publish_images()
    publish_scores("retrieve", {"retrieve/precision@5": 0.5}, FULL)
    book = collect((FULL,), None)
    assert "retrieve of shapes-vicreg holds no retrieve/background" in text(answer(book, chapter(7)))
    assert "python -m eval.retrieve --embeddings shapes-vicreg" in commands(book, 7)


def test_without_a_comparison_nothing_is_decided_and_the_command_is_named(everything: None) -> None:
    book = collect((FULL, NO_VARIANCE))
    assert "(difference −53.2 points): not decided, without an interval." in prose(book, 4)
    making = "python -m eval.compare --variants shapes-vicreg shapes-vicreg-variance0 --anomalies letters"
    assert making in commands(book, 4)
    assert making in text(tables.summary(book))
    assert text(table(book)) == f"No claim is decided yet. {making} && python -m eval.claims --compare shapes"


def test_eigenmaps_have_no_anomaly_score_and_the_cell_says_why(everything: None) -> None:
    book = collect()
    rows = dict(re.findall(r'<tr data-variant="([^"]+)">(.*?)</tr>', tables.summary(book), re.S))
    assert "–, transductive" in text(rows[EIGENMAPS])
    assert "–, not trained" in text(rows["shapes-pixels"])
    assert "Laplacian Eigenmaps are transductive" in prose(book, 8)
