"""What decided a claim, in the page's words and numbers: from the rule and the comparison, not from the text of the verdict."""

from collections.abc import Mapping

from eval.evidence.claims import Claims
from eval.evidence.comparison import Comparison
from eval.evidence.measures import MEASURES, Measure
from eval.evidence.numbers import Form, exact, number, span
from eval.evidence.readings import score_names
from eval.evidence.rules import (
    SELECTION,
    SIGNS,
    Decision,
    Finding,
    Group,
    Measurements,
    Quantity,
    Rule,
    Term,
    decide,
)
from eval.labbook.book import Book
from eval.labbook.markup import Html, join, tag
from eval.labbook.writing import capital


def decisions(book: Book) -> dict[str, tuple[Rule, Decision]]:
    """By claim, its rule and what that says of the comparison on this page; without those whose published verdict rests on
    other figures, as that of an older comparison or an older rule does."""
    if book.claims is None or book.compare is None or book.study.claims is None:
        return {}
    claims = Claims.load(book.study.claims, book.study.questions)
    published, values = book.claims.scores.values, book.compare.scores.values
    measurements = Measurements(Comparison(values), claims.seedless)
    pairs = {}
    for claim in claims.claims:
        if f"claims/{claim.id}/verdict" not in published:
            continue
        decision = decide(claim.rule, measurements)
        old = (published.get(f"claims/{claim.id}/{key}") for key in ("verdict", "figures"))
        if (decision.verdict, decision.figures) == tuple(old):
            pairs[claim.id] = claim.rule, decision
    return pairs


def reason(book: Book, rule: Rule, decision: Decision) -> Html:
    """Why the verdict is what it is: a line for each comparison of the rule."""
    if not decision.findings:
        return join(capital(decision.why))
    lines = list(dict.fromkeys((_line(book, finding), finding.verdict) for finding in decision.findings))
    if len(lines) == 1:
        return join(lines[0][0])
    need = "All are needed:" if isinstance(rule, Group) and rule.every else "One is enough:"
    return join(need, tag("ul", *(tag("li", f"{line} ({verdict})") for line, verdict in lines)))


def needs_labels(book: Book, decision: Decision) -> bool:
    """Whether a claim is not decided because the images are unlabeled."""
    measures = [_measure(book, term) for finding in decision.findings for term in finding.inequality.terms]
    return decision.verdict == "not decided" and len(book.applicable(measures)) < len(measures)


def _line(book: Book, finding: Finding) -> str:
    inequality, quantity = finding.inequality, finding.quantity
    if isinstance(quantity, str):
        return capital(_absence(book, finding, quantity))
    parts = [part for _, part in finding.parts]
    measures = [_measure(book, term) for term in inequality.terms]
    same = len({measure.path for measure in measures}) == 1
    if same:
        values = [
            f"{_value(part, measure.form)} for {_label(book, term)}"
            for part, measure, term in zip(parts, measures, inequality.terms, strict=True)
        ]
        text = f"{measures[0].words}: {', '.join(values)}"
    else:
        text = ", ".join(
            f"{measure.words} {_value(part, measure.form)}"
            + (f" of {_label(book, term)}" if len({term.variant for term in inequality.terms}) > 1 else "")
            for part, measure, term in zip(parts, measures, inequality.terms, strict=True)
        )
    form = measures[0].form
    if inequality.join:
        form = "decimal" if inequality.join == "/" else "points" if form == "percent" else form
        form = "percent" if inequality.join == "/" and inequality.percent else form
        text += f"; {finding.combination} {_value(quantity, form)}"
    needed = f"{SIGNS[inequality.sign][0]} {exact(inequality.threshold, form)}"
    return capital(f"{text}; needed: {needed}{finding.reservation}")


def _absence(book: Book, finding: Finding, why: str) -> str:
    """What was not measured, its terms in words."""
    for term in finding.inequality.terms:
        why = why.replace(str(term), f"{_measure(book, term).words} of {_label(book, term)}")
    return why


def _value(quantity: Quantity, form: Form) -> str:
    text = number(quantity.value, form)
    ends = f" ({span(quantity.ends, form)})" if quantity.ends and quantity.basis != "constant" else ""
    return text + ends


def _label(book: Book, term: Term) -> str:
    return book.label(book.variant(term.variant))


def _measure(book: Book, term: Term) -> Measure:
    """What the page calls a measure of a rule."""
    measures: Mapping[str, Measure] = {**MEASURES, **{measure.path: measure for measure in book.study.measures}}
    if term.measure in measures:
        return measures[term.measure]
    if selection := SELECTION.fullmatch(term.measure):
        names = " and ".join(filter(None, selection[2].replace(" ", "").rsplit(",", 1))).replace(",", ", ")
        if selection[1].endswith("per_class"):
            return Measure("probe", term.measure, f"Accuracy on {names}", "percent")
        place = "Place among the entangled pairs of" if selection[3] else "Confusion of"
        return Measure("probe", term.measure, f"{place} {names}", "count" if selection[3] else "percent")
    name = term.measure.partition("/")[0]
    artifact = name if name in score_names() else "training"  # whose paths have other first words
    return Measure(artifact, term.measure, term.measure.replace("/", ", "), "figure")
