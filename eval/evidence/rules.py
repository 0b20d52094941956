"""What the measurements say of a rule: it holds, it does not hold, or it is not decided.

A rule compares one quantity with a number, or two quantities with each other:

    probe/top1 of vicreg >= 60 %
    probe/top1 of vicreg > probe/top1 of untrained
    probe/top1 of vicreg - probe/top1 of vicreg-variance0 >= 10 %
    probe/top1 of eigenmaps / probe/chance of eigenmaps <= 2

or is `{all: [RULE, ...]}` or `{any: [RULE, ...]}`. A quantity is a metric path that eval.compare publishes, of a variant
(named without its data set). Two paths are lists by class and take class names: `probe/per_class[cat, dog]` is the mean
accuracy of these classes; `probe/pairs[cat, dog]` how often one is taken for the other, and `probe/pairs[cat, dog]/place`
that pair's place among all pairs, 1 for the most often confused.

A rule is decided by the range of its quantity, and only where the whole range lies on one side. The range is the 95 %
interval; else the values of two or more seeds; else the value itself, of what is declared to depend on no seed. The range
of a difference is the paired interval; else, as that of a ratio, it reaches to the far ends of both terms: then it may be
too wide, never too narrow.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from train.data.scores import Value

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
COMPARISON = re.compile(rf"{TERM}(?: ([-/]) {TERM})? (>=|>|<=|<) (?:(-?\d+(?:\.\d+)?)( ?%)?|{TERM})")


@dataclass(frozen=True)
class Term:
    measure: str
    variant: str

    def __str__(self) -> str:
        return f"{self.measure} of {self.variant}"


@dataclass(frozen=True)
class Comparison:
    """One term, or the difference or ratio of two, and the threshold that it is compared with.

    join: "-" or "/"; empty for one term. percent: whether the figures are written in percent.
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


Rule = Comparison | Group


def parse(given: object) -> Rule:
    """The rule of a YAML node. Raises ValueError, with what is wrong in words, where it is none."""
    if isinstance(given, str):
        return _comparison(given)
    if isinstance(given, dict) and len(given) == 1 and set(given) <= {"all", "any"}:
        ((kind, parts),) = given.items()
        if isinstance(parts, list) and parts:
            return Group(kind == "all", tuple(parse(part) for part in parts))
    raise ValueError(f"{given!r} is no rule; write a comparison, or all: or any: over a list of rules")


def _comparison(text: str) -> Comparison:
    found = COMPARISON.fullmatch(" ".join(text.split()))
    if found is None:
        raise ValueError(f"{text!r} is no rule; write for instance: probe/top1 of vicreg >= 60 %")
    measure, variant, join, second, of_second, sign, number, percent, other, of_other = found.groups()
    terms = (Term(measure, variant), *([Term(second, of_second)] if join else []))
    if other is None:
        return Comparison(terms, join or "", sign, float(number) / (100 if percent else 1), bool(percent))
    if join:
        raise ValueError(f"{text!r} compares three quantities; compare two, or two with a number")
    return Comparison((*terms, Term(other, of_other)), "-", sign, 0.0, False)


@dataclass(frozen=True)
class Estimate:
    """ends: of the range that decides, None where nothing tells how far off the value may be.

    seeds: how many were measured; None for a difference or ratio, whose terms have their own.
    """

    value: float
    ends: tuple[float, float] | None
    basis: Basis
    seeds: int | None = None


@dataclass(frozen=True)
class Measurements:
    """values: what eval.compare published. seedless: the variants and metric paths that depend on no seed."""

    values: Mapping[str, Value]
    seedless: frozenset[str] = frozenset()

    @property
    def dataset(self) -> str:
        return str(self.values["compare/dataset"])

    @property
    def anomalies(self) -> str | None:
        name = self.values["compare/anomalies"]
        return None if name is None else str(name)

    def full(self, variant: str) -> str:
        return f"{self.dataset}-{variant}"

    def label(self, term: Term) -> str:
        against = term.measure.startswith("anomaly/") and self.anomalies
        return f"{term} against {against}" if against else str(term)

    def of(self, term: Term) -> Estimate | str:
        """What was measured, or in words why nothing was."""
        variant, chosen = self.full(term.variant), SELECTION.fullmatch(term.measure)
        listed = self.values["compare/variants"]
        if not isinstance(listed, list) or variant not in listed:
            return f"{variant} was not compared"
        path = f"{term.measure}/{variant}"
        if chosen and (absent := self._absent(chosen[2], variant)):
            return f"{self.dataset} has no class {absent}"
        by_seed = self._selected(chosen, variant) if chosen else self._by_seed(path)
        seeds = [float(value) for value in by_seed if isinstance(value, int | float)]
        if not seeds:
            return f"{self.label(term)} was not measured"
        mean = self.values.get(f"{path}/mean")
        value = float(mean) if isinstance(mean, int | float) else sum(seeds) / len(seeds)
        if ends := self._ends(f"{path}/interval"):
            return Estimate(value, ends, "interval", len(seeds))
        if {term.variant, term.measure} & self.seedless and min(seeds) == max(seeds):
            return Estimate(value, (value, value), "constant", len(seeds))
        if len(seeds) > 1:
            return Estimate(value, (min(seeds), max(seeds)), "seeds", len(seeds))
        return Estimate(value, None, "one seed", 1)

    def _by_seed(self, path: str) -> list[Any]:
        values = self.values.get(f"{path}/seeds")
        return values if isinstance(values, list) else []

    def _ends(self, path: str) -> tuple[float, float] | None:
        ends = self.values.get(path)
        return (float(ends[0]), float(ends[1])) if isinstance(ends, list) else None

    def _absent(self, names: str, variant: str) -> str | None:
        """The first of these classes that the data set does not have."""
        classes = self._by_seed(f"probe/classes/{variant}")
        return next((name for name in _names(names) if classes and name not in classes[0]), None)

    def _selected(self, chosen: re.Match[str], variant: str) -> list[float]:
        """By seed, what `PATH[CLASS, ...]` takes from a list by class or by pair of classes."""
        measure, names, place = chosen[1], _names(chosen[2]), chosen[3]
        if measure == "probe/per_class":
            classes = self._by_seed(f"probe/classes/{variant}")
            rows = zip(classes, self._by_seed(f"{measure}/{variant}"), strict=True)
            return [sum(rates[known.index(name)] for name in names) / len(names) for known, rates in rows]
        return [
            float(at if place else rate)
            for pairs in self._by_seed(f"{measure}/{variant}")
            for at, (one, other, rate) in enumerate(pairs, start=1)
            if {one, other} == set(names)
        ]

    def difference(self, left: Term, right: Term) -> tuple[float, tuple[float, float]] | None:
        """Of one measure of two variants, with the paired interval, which is published for one order of the two."""
        one, other = self.full(left.variant), self.full(right.variant)
        for first, second, sign in ((one, other, 1), (other, one, -1)):
            path = f"{left.measure}/{first}-minus-{second}"
            value, ends = self.values.get(f"{path}/difference"), self._ends(f"{path}/interval")
            if left.measure == right.measure and isinstance(value, int | float) and ends:
                low, high = sorted(sign * end for end in ends)
                return sign * float(value), (low, high)
        return None

    def combined(self, comparison: Comparison, parts: Sequence[Estimate]) -> Estimate | str:
        """What is compared, from its one or two terms; in words why there is nothing."""
        if not comparison.join:
            return parts[0]
        left, right = parts
        if comparison.join == "-" and (paired := self.difference(*comparison.terms)):
            return Estimate(*paired, "interval")
        below, above = right.ends or (right.value, right.value)
        if comparison.join == "/" and below <= 0 <= above:
            return f"{comparison.terms[1]} may be 0, and nothing is divided by it"
        apply = operator.sub if comparison.join == "-" else operator.truediv
        value = float(apply(left.value, right.value))
        if left.ends is None or right.ends is None:
            return Estimate(value, None, "one seed")
        basis = max(left.basis, right.basis, key=get_args(Basis).index)
        corners = [float(apply(*ends)) for ends in product(left.ends, right.ends)]
        both = left.basis == right.basis == "interval"
        return Estimate(value, (min(corners), max(corners)), "far ends" if both else basis)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",")]


@dataclass(frozen=True)
class Finding:
    """What one comparison came to. parts: its measured terms by label. estimate: what is compared, or why there is nothing."""

    comparison: Comparison
    parts: tuple[tuple[str, Estimate], ...]
    estimate: Estimate | str

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.estimate, str) or self.estimate.ends is None:
            return "not decided"
        meets = SIGNS[self.comparison.sign][1]
        low, high = (meets(end, self.comparison.threshold) for end in self.estimate.ends)
        if low != high:
            return "not decided"
        return "holds" if low else "does not hold"

    @property
    def figures(self) -> list[Figure]:
        labelled = list(self.parts)
        if self.comparison.join and isinstance(self.estimate, Estimate):
            labelled.append((self._quantity, self.estimate))
        return [[label, part.value, list(part.ends) if part.ends else None] for label, part in labelled]

    @property
    def why(self) -> str:
        """`probe/top1 of vicreg is 67.3 % (66.4 to 68.2, 2 seeds), the claim needs at least 60 %`."""
        comparison = self.comparison
        if isinstance(self.estimate, str):
            return self.estimate
        of_terms = " %" if comparison.percent and comparison.join != "/" else ""
        said = ", ".join(f"{label} is {written(part, of_terms)}" for label, part in self.parts)
        if comparison.join:
            said += f": the {self._quantity} is {written(self.estimate, self._unit)}"
        needed = f"{SIGNS[comparison.sign][0]} {self._threshold}"
        return f"{said}, the claim needs {needed}{self._reservation(self.estimate)}"

    @property
    def _quantity(self) -> str:
        return "difference" if self.comparison.join == "-" else "ratio"

    @property
    def _unit(self) -> str:
        if not self.comparison.percent:
            return ""
        return " points" if self.comparison.join == "-" else " %"

    @property
    def _threshold(self) -> str:
        text = f"{self.comparison.threshold * (100 if self._unit else 1):.10g}{self._unit}"
        return text.replace("-", "\N{MINUS SIGN}")

    def _reservation(self, estimate: Estimate) -> str:
        if self.verdict != "not decided":
            pairs = "pairs of " if self.comparison.join else ""
            return f", and all {pairs}seeds agree" if estimate.basis == "seeds" else ""
        reasons = {"seeds": "the seeds disagree", "one seed": "one seed without an interval decides nothing"}
        return f", but {reasons.get(estimate.basis, f'the interval includes {self._threshold}')}"


@dataclass(frozen=True)
class Decision:
    """why: one sentence with the figures. findings: one for each comparison of the rule, in its order."""

    verdict: Verdict
    why: str
    findings: tuple[Finding, ...]

    @property
    def figures(self) -> list[Figure]:
        figures = [figure for finding in self.findings for figure in finding.figures]
        return [figure for index, figure in enumerate(figures) if figure not in figures[:index]]


def decide(rule: Rule, measurements: Measurements) -> Decision:
    """A group is decided by the parts that are: one that does not hold decides `all`, one that holds decides `any`."""
    if isinstance(rule, Comparison):
        finding = find(rule, measurements)
        return Decision(finding.verdict, finding.why, (finding,))
    parts = [decide(part, measurements) for part in rule.parts]
    verdicts = [part.verdict for part in parts]
    order: list[Verdict] = ["does not hold", "not decided", "holds"]
    verdict = (min if rule.every else max)(verdicts, key=order.index)
    whys = {part.why: part.verdict for part in parts}
    why = f"; {'and' if rule.every else 'or'} ".join(f"{said} ({came_to})" for said, came_to in whys.items())
    if len(whys) == 1:
        why = parts[0].why
    return Decision(verdict, why, tuple(finding for part in parts for finding in part.findings))


def find(comparison: Comparison, measurements: Measurements) -> Finding:
    found = [(measurements.label(term), measurements.of(term)) for term in comparison.terms]
    parts = tuple((label, part) for label, part in found if isinstance(part, Estimate))
    if gap := next((part for _, part in found if isinstance(part, str)), None):
        return Finding(comparison, parts, gap)
    return Finding(comparison, parts, measurements.combined(comparison, [part for _, part in parts]))


def written(estimate: Estimate, unit: str) -> str:
    """`67.3 % (66.4 to 68.2, 2 seeds)`."""
    said = []
    if estimate.ends and estimate.basis != "constant":
        said.append(" to ".join(number(end, unit) for end in estimate.ends))
    if estimate.seeds and estimate.basis != "constant":
        said.append("1 seed" if estimate.seeds == 1 else f"{estimate.seeds} seeds")
    value = number(estimate.value, unit) + unit
    return f"{value} ({(' in ' if estimate.basis == 'seeds' else ', ').join(said)})" if said else value


def number(value: float, unit: str) -> str:
    """At most three decimals; counts without."""
    if unit:
        text = f"{100 * value:z.1f}"
    elif abs(value) > 1 and value == round(value):
        text = f"{value:.0f}"
    else:
        text = f"{value:z.3f}" if abs(value) < 10 else f"{value:z.1f}"
    return text.replace("-", "\N{MINUS SIGN}")
