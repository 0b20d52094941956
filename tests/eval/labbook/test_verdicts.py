"""Claims on the page: who makes them, why they hold in plain words and the page's numbers, and which cannot be asked."""

import shutil
from pathlib import Path

import pytest

from eval.claims import entries
from eval.evidence.claims import Claims
from eval.evidence.comparison import Comparison
from eval.evidence.measures import MEASURES
from eval.evidence.rules import SELECTION, Group, Inequality, Measurements, Rule, decide
from eval.labbook.book import Book
from eval.labbook.claims import about, table
from eval.studies.all import STUDIES
from eval.studies.peel.study import STUDY
from tests.parts.comparisons import comparison_values
from tests.parts.shapes import collect, filled, publish, publish_compare, text
from train.data.scores import Scores, Value

CLASSES = ["cat", "<dog>", "ship"]


@pytest.fixture
def everything(peel_home: Path) -> None:
    shutil.copytree(filled(), peel_home)


def compared() -> dict[str, Value]:
    return comparison_values(
        {
            "probe/top1": {
                "vicreg": ([0.673], [0.664, 0.682]),
                "vicreg-variance0": ([0.141], [0.13, 0.15]),
                "untrained": ([0.42], [0.41, 0.43]),
            },
            "probe/chance": {"vicreg-variance0": ([0.1], None)},
        },
        {("probe/top1", "vicreg", "untrained"): (0.253, [0.24, 0.26])},
        {"probe/classes": {"vicreg": [CLASSES]}, "probe/per_class": {"vicreg": [[0.7, 0.6, 0.5]]}},
        anomalies="letters",
    )


def decided(values: dict[str, Value]) -> Book:
    """A book with the study's own claims, decided of this comparison."""
    publish_compare(values)
    assert STUDY.claims
    claims, comparison = Claims.load(STUDY.claims, STUDY.questions), Comparison(values)
    decisions = [decide(claim.rule, Measurements(comparison, claims.seedless)) for claim in claims.claims]
    publish("claims", Scores(entries(claims.claims, decisions, comparison)), None, {"dataset": "shapes"})
    return collect()


def row(book: Book, claim: str) -> str:
    return text(table(book).partition(f'<tr id="claim-{claim}">')[2].partition("</tr>")[0])


def test_a_verdict_is_explained_in_the_words_and_numbers_of_the_page(everything: None) -> None:
    book = decided(compared())
    assert "The linear probe: 67.3 % (66.4 to 68.2 %) for VICReg; needed: at least 60 %" in row(
        book, "probe-reaches-60"
    )
    assert (
        "The linear probe: 67.3 % (66.4 to 68.2 %) for VICReg, 42.0 % (41.0 to 43.0 %) for the untrained network; difference"
        " 25.3 points (24.0 to 26.0 points); needed: more than 0 points"
    ) in row(book, "vicreg-over-untrained")
    assert "probe/top1" not in row(book, "without-variance-near-chance")
    assert "ratio 1.410 (1.300 to 1.500); needed: at most 2" in row(book, "without-variance-near-chance")


def test_sources_have_their_names_and_numbers_the_page_s_form(everything: None) -> None:
    book = decided(compared())
    assert "solution A: 72 %, solution B: 62.7 %" in row(book, "probe-reaches-60")
    assert "solution B, the weaker form" in row(book, "eigenmaps-worse-than-vicreg")
    assert "our own question" in row(book, "vicreg-over-untrained")
    for study in STUDIES.values():
        assert study.claims
        for claim in Claims.load(study.claims, study.questions).claims:
            assert any(claim.who.startswith(name) for name in study.sources), (study.name, claim.who)


def test_what_the_data_set_does_not_have_is_a_footnote_and_is_not_counted(everything: None) -> None:
    book = decided(compared())
    markup = table(book)
    counted, _, note = markup.partition('<div class="footnote">')
    assert "Not asked of shapes: 3 claims" in text(note) and "Shapes has no class airplane" in text(note)
    assert "Vehicles are separated better" in text(note) and "Vehicles are" not in text(counted)
    apart = [claim for claim, (_, decision) in book.decisions.items() if not decision.applicable]
    assert len(apart) == 3 and f"Verdicts on {len(book.decisions) - 3} claims" in text(markup)
    assert "Vehicles are" not in text(about(book, 2)) and "t-SNE separates" in text(about(book, 2))
    assert all(f'id="claim-{claim}"' in note for claim in apart)


def test_a_verdict_on_another_comparison_keeps_the_words_that_it_was_published_with(everything: None) -> None:
    decided(compared())
    publish_compare(compared() | {"probe/top1/shapes-vicreg/mean": 0.7})
    assert "probe/top1 of vicreg is 67.3 %" in row(collect(), "probe-reaches-60")


def test_every_measure_of_a_rule_has_a_name() -> None:
    for study in STUDIES.values():
        assert study.claims
        names = {*MEASURES, *(measure.path for measure in study.measures)}
        for claim in Claims.load(study.claims, study.questions).claims:
            for inequality in inequalities(claim.rule):
                for term in inequality.terms:
                    assert term.measure in names or SELECTION.fullmatch(term.measure), (claim.id, term.measure)


def inequalities(rule: Rule) -> list[Inequality]:
    if isinstance(rule, Group):
        return [one for part in rule.parts for one in inequalities(part)]
    return [rule] if isinstance(rule, Inequality) else []
