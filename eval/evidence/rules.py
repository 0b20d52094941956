"""What the measurements say of a rule: it holds, it does not hold, or it is not decided.

A rule compares a quantity (one term, or the difference or ratio of two) with a number, or two terms, or two differences,
with each other:

    probe/top1 of vicreg >= 60 %
    probe/top1 of vicreg > probe/top1 of untrained
    probe/top1 of vicreg - probe/top1 of vicreg-variance0 >= 10 %
    probe/top1 of eigenmaps / probe/chance of eigenmaps <= 2
    probe/top1 of byol-wide - probe/top1 of byol > probe/top1 of simsiam-wide - probe/top1 of simsiam

or is `{all: [RULE, ...]}` or `{any: [RULE, ...]}`, or `{undecidable: WHY}` of what no measurement can decide as it is claimed.
A term is a metric path that eval.compare publishes, of a variant
(named without its data set). Two paths are lists by class and take class names: `probe/per_class[cat, dog]` is the mean
accuracy of these classes; `probe/pairs[cat, dog]` how often one is taken for the other, and `probe/pairs[cat, dog]/place`
that pair's place among all pairs, 1 for the most often confused.

A rule is decided by the range of its quantity, and only where the whole range lies on one side. The range is the 95 %
interval; else the values of two or more seeds; else the value itself, of what is declared to depend on no seed. The range
of a difference is the paired interval; else, as that of a ratio, it reaches to the far ends of both terms: then it may be
too wide, never too narrow.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

from eval.evidence.comparison import Comparison, Interval
from eval.evidence.numbers import Form, bare, exact, number

Verdict = Literal["holds", "does not hold", "not decided"]
# What a range consists of, the most telling first; that of two terms is the last of theirs.
Basis = Literal["constant", "interval", "far ends", "seeds", "one seed"]
Figure = list[Any]  # [label, value, [low, high] or None]

SIGNS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    ">=": ("at least", operator.ge),
    ">": ("more than", operator.gt),
    "<=": ("at most", operator.le),
    "<": ("less than", operator.lt),
}
SELECTION = re.compile(r"(probe/per_class|probe/pairs)\[([^][]+)\](/place)?")
MEASURE = r"[\w@]+(?:/[\w@]+)+|probe/per_class\[[^][]+\]|probe/pairs\[[^][,]+,[^][,]+\](?:/place)?"
TERM = rf"({MEASURE}) of ([\w.-]+)"
INEQUALITY = re.compile(rf"{TERM}(?: ([-/]) {TERM})? (>=|>|<=|<) (?:(-?\d+(?:\.\d+)?)( ?%)?|{TERM}(?: (-) {TERM})?)")


@dataclass(frozen=True)
class Term:
    measure: str
    variant: str

    def __str__(self) -> str:
        return f"{self.measure} of {self.variant}"


@dataclass(frozen=True)
class Inequality:
    """One term, the difference or ratio of two, or the difference of two differences, and the threshold for it.

    join: "-" or "/"; empty for one term. percent: whether the figures read in percent.
    """

    terms: tuple[Term, ...]
    join: str
    sign: str
    threshold: float
    percent: bool


@dataclass(frozen=True)
class Group:
    """every: whether all parts are needed, or any one of them."""

    every: bool
    parts: tuple["Rule", ...]


@dataclass(frozen=True)
class Undecidable:
    """why: a sentence for the reader."""

    why: str


Rule = Inequality | Group | Undecidable


def parse(node: object) -> Rule:
    """The rule of a YAML node. Raises ValueError, with what is wrong in words, where it is none."""
    if isinstance(node, str):
        return _inequality(node)
    if isinstance(node, dict) and len(node) == 1 and set(node) <= {"all", "any"}:
        ((kind, parts),) = node.items()
        if isinstance(parts, list) and parts:
            return Group(kind == "all", tuple(parse(part) for part in parts))
    if isinstance(node, dict) and set(node) == {"undecidable"} and isinstance(why := node["undecidable"], str) and why:
        return Undecidable(why)
    raise ValueError(
        f"{node!r} is not a rule; write a comparison, or all: or any: over a list of rules, or undecidable: and why"
    )


def _inequality(text: str) -> Inequality:
    match = INEQUALITY.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError(f"{text!r} is not a rule; write for instance: probe/top1 of vicreg >= 60 %")
    measure, variant, join, second, of_second, sign, threshold, percent, other, of_other, minus, *last = match.groups()
    terms = (Term(measure, variant), *([Term(second, of_second)] if join else []))
    if other is None:
        return Inequality(terms, join or "", sign, float(threshold) / (100 if percent else 1), bool(percent))
    if join == "-" and minus:
        return Inequality((*terms, Term(other, of_other), Term(*last)), "-", sign, 0.0, False)
    if join or minus:
        raise ValueError(f"{text!r} compares three quantities; compare two, two with a number, or two differences")
    return Inequality((*terms, Term(other, of_other)), "-", sign, 0.0, False)


# -- what was measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """What a rule decides on: a term, or the difference or ratio of two.

    ends: of the range that decides, None where nothing tells how far off the value may be. seeds: how many there are; None
    for a difference or ratio, whose terms have their own.
    """

    value: float
    ends: Interval | None
    basis: Basis
    seeds: int | None = None


class Inapplicable(str):
    """Why a rule cannot be asked of a data set at all: it has no such class."""


@dataclass(frozen=True)
class Measurements:
    """seedless: the variants and metric paths that depend on no seed."""

    comparison: Comparison
    seedless: frozenset[str] = frozenset()

    def label(self, term: Term) -> str:
        against = term.measure.startswith("anomaly/") and self.comparison.anomalies
        return f"{term} against {against}" if against else str(term)

    def of(self, term: Term) -> Quantity | str:
        """The measurement, or in words why there is none."""
        variant, selection = self.comparison.full(term.variant), SELECTION.fullmatch(term.measure)
        if variant not in self.comparison.variants:
            return f"{variant} was not compared"
        if selection and (absent := self._absent(selection[2], variant)):
            return Inapplicable(f"{self.comparison.dataset} has no class {absent}")
        if selection:
            seeds: Sequence[float] = self._selection(selection, variant)
            value, interval = sum(seeds) / len(seeds) if seeds else 0.0, None
        elif estimate := self.comparison.estimate(term.measure, variant):
            value, interval, seeds = estimate.value, estimate.interval, estimate.seeds
        else:
            seeds = ()
        if not seeds:
            return f"{self.label(term)} was not measured"
        if interval:
            return Quantity(value, interval, "interval", len(seeds))
        if {term.variant, term.measure} & self.seedless and min(seeds) == max(seeds):
            return Quantity(value, (value, value), "constant", len(seeds))
        if len(seeds) > 1:
            return Quantity(value, (min(seeds), max(seeds)), "seeds", len(seeds))
        return Quantity(value, None, "one seed", 1)

    def _absent(self, names: str, variant: str) -> str | None:
        """The first of these classes that the data set does not have."""
        classes = self.comparison.list_by_seed("probe/classes", variant)
        return next((name for name in _names(names) if classes and name not in classes[0]), None)

    def _selection(self, selection: re.Match[str], variant: str) -> list[float]:
        """By seed, what `PATH[CLASS, ...]` takes from a list by class or by pair of classes."""
        path, names, place = selection[1], _names(selection[2]), selection[3]
        by_seed = self.comparison.list_by_seed(path, variant)
        if path == "probe/per_class":
            rows = zip(self.comparison.list_by_seed("probe/classes", variant), by_seed, strict=True)
            return [sum(rates[classes.index(name)] for name in names) / len(names) for classes, rates in rows]
        return [
            float(at if place else rate)
            for pairs in by_seed
            for at, (one, other, rate) in enumerate(pairs, start=1)
            if {one, other} == set(names)
        ]

    def combination(self, inequality: Inequality, parts: Sequence[Quantity]) -> Quantity | str:
        """What is compared, from its terms; in words why there is nothing."""
        if not inequality.join:
            return parts[0]
        if len(parts) == 4:
            one, other = (
                self.combination(
                    replace(inequality, terms=inequality.terms[place : place + 2]), parts[place : place + 2]
                )
                for place in (0, 2)
            )
            assert isinstance(one, Quantity) and isinstance(other, Quantity)  # only a ratio can fail
            parts = (one, other)
        elif inequality.join == "-" and (difference := self._difference(*inequality.terms)):
            return difference
        left, right = parts
        below, above = right.ends or (right.value, right.value)
        if inequality.join == "/" and below <= 0 <= above:
            return f"{inequality.terms[1]} may be 0, and nothing is divided by it"
        apply = operator.sub if inequality.join == "-" else operator.truediv
        value = float(apply(left.value, right.value))
        within = product(left.ends or (left.value,), right.ends or (right.value,))
        corners = [float(apply(*ends)) for ends in within]
        if not all(map(math.isfinite, (value, *corners))):
            return f"{inequality.terms[0]} is too large to be divided by {inequality.terms[1]}"
        if left.ends is None or right.ends is None:
            return Quantity(value, None, "one seed")
        basis = max(left.basis, right.basis, key=get_args(Basis).index)
        both = left.basis == right.basis == "interval"
        return Quantity(value, (min(corners), max(corners)), "far ends" if both else basis)

    def _difference(self, left: Term, right: Term) -> Quantity | None:
        """The paired difference of one measure of two variants."""
        if left.measure != right.measure:
            return None
        difference = self.comparison.difference(
            left.measure, self.comparison.full(left.variant), self.comparison.full(right.variant)
        )
        return (
            Quantity(difference.value, difference.interval, "interval") if difference and difference.interval else None
        )


def _names(selection: str) -> list[str]:
    return [name.strip() for name in selection.split(",")]


# -- what it decides ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What one inequality came to. parts: its terms by label, where they were measured. quantity: what is compared, or why
    there is nothing."""

    inequality: Inequality
    parts: tuple[tuple[str, Quantity], ...]
    quantity: Quantity | str

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.quantity, str) or self.quantity.ends is None:
            return "not decided"
        meets = SIGNS[self.inequality.sign][1]
        low, high = (meets(end, self.inequality.threshold) for end in self.quantity.ends)
        if low != high:
            return "not decided"
        return "holds" if low else "does not hold"

    @property
    def figures(self) -> list[Figure]:
        labels = list(self.parts)
        if self.inequality.join and isinstance(self.quantity, Quantity):
            labels.append((self.combination, self.quantity))
        return [[label, part.value, list(part.ends) if part.ends else None] for label, part in labels]

    @property
    def why(self) -> str:
        """`probe/top1 of vicreg is 67.3 % (66.4 to 68.2, 2 seeds), the claim needs at least 60 %`."""
        inequality = self.inequality
        if isinstance(self.quantity, str):
            return self.quantity
        of_terms: Form = "percent" if inequality.percent and inequality.join != "/" else "figure"
        sentence = ", ".join(f"{label} is {with_range(part, of_terms)}" for label, part in self.parts)
        if inequality.join:
            sentence += f": the {self.combination} is {with_range(self.quantity, self._form)}"
        needed = f"{SIGNS[inequality.sign][0]} {self._threshold}"
        return f"{sentence}, the claim needs {needed}{self.reservation}"

    @property
    def combination(self) -> str:
        """What several terms are compared by."""
        if len(self.inequality.terms) == 4:
            return "difference of the differences"
        return "difference" if self.inequality.join == "-" else "ratio"

    @property
    def _form(self) -> Form:
        if not self.inequality.percent:
            return "figure"
        return "points" if self.inequality.join == "-" else "percent"

    @property
    def _threshold(self) -> str:
        return exact(self.inequality.threshold, self._form)

    @property
    def reservation(self) -> str:
        """What limits the verdict, behind a comma; empty where nothing does."""
        quantity = self.quantity
        if isinstance(quantity, str):
            return ""
        if self.verdict != "not decided":
            pairs = "pairs of " if self.inequality.join else ""
            return f", and all {pairs}seeds agree" if quantity.basis == "seeds" else ""
        reasons = {"seeds": "the seeds disagree", "one seed": "one seed without an interval decides nothing"}
        return f", but {reasons.get(quantity.basis, f'the interval includes {self._threshold}')}"


@dataclass(frozen=True)
class Decision:
    """why: one sentence with the figures. findings: one for each inequality of the rule, in its order."""

    verdict: Verdict
    why: str
    findings: tuple[Finding, ...]

    @property
    def applicable(self) -> bool:
        """Whether the data set has what it asks about, or it is decided all the same."""
        return self.verdict != "not decided" or not any(isinstance(f.quantity, Inapplicable) for f in self.findings)

    @property
    def figures(self) -> list[Figure]:
        figures = [figure for finding in self.findings for figure in finding.figures]
        return [figure for index, figure in enumerate(figures) if figure not in figures[:index]]


def decide(rule: Rule, measurements: Measurements) -> Decision:
    """A group is decided by the parts that are: one that does not hold decides `all`, one that holds decides `any`."""
    if isinstance(rule, Undecidable):
        return Decision("not decided", rule.why, ())
    if isinstance(rule, Inequality):
        finding = evaluate(rule, measurements)
        return Decision(finding.verdict, finding.why, (finding,))
    parts = [decide(part, measurements) for part in rule.parts]
    order: list[Verdict] = ["does not hold", "not decided", "holds"]
    verdict = (min if rule.every else max)((part.verdict for part in parts), key=order.index)
    whys = {part.why: part.verdict for part in parts}
    why = f"; {'and' if rule.every else 'or'} ".join(f"{sentence} ({part})" for sentence, part in whys.items())
    if len(whys) == 1:
        why = parts[0].why
    return Decision(verdict, why, tuple(finding for part in parts for finding in part.findings))


def evaluate(inequality: Inequality, measurements: Measurements) -> Finding:
    terms = [(measurements.label(term), measurements.of(term)) for term in inequality.terms]
    parts = tuple((label, part) for label, part in terms if isinstance(part, Quantity))
    if gap := next((part for _, part in terms if isinstance(part, str)), None):
        return Finding(inequality, parts, gap)
    return Finding(inequality, parts, measurements.combination(inequality, [part for _, part in parts]))


def with_range(quantity: Quantity, form: Form) -> str:
    """`67.3 % (66.4 to 68.2, 2 seeds)`."""
    notes = []
    if quantity.ends and quantity.basis != "constant":
        notes.append(" to ".join(bare(end, form) for end in quantity.ends))
    if quantity.seeds and quantity.basis != "constant":
        notes.append("1 seed" if quantity.seeds == 1 else f"{quantity.seeds} seeds")
    value = number(quantity.value, form)
    return f"{value} ({(' in ' if quantity.basis == 'seeds' else ', ').join(notes)})" if notes else value
