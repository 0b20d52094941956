"""Sentences from numbers: words are chosen by rule, and what is missing is named with the command that makes it."""

import shlex
from collections.abc import Sequence
from typing import Any

from eval.evidence.comparison import Difference, Estimate
from eval.evidence.measures import Measure
from eval.evidence.numbers import Form, number, signed, span
from eval.labbook.book import Book
from eval.labbook.estimates import difference, estimate, leaders
from eval.labbook.markup import Html, command, join, panel_id, tag

UNLABELED = "the images are unlabeled, and what compares with classes is left out"


class Writer:
    """Writes one answer: `conclude` is its verdict, `say` adds a sentence, and whatever an answer needs and the book lacks
    becomes a gap. Where nothing is concluded, the verdict is that of the first comparison.

    `name`, `first`, `second`: representations of the study.
    """

    def __init__(self, book: Book) -> None:
        self.book = book
        self.sentences: list[Html] = []
        self.conclusions: list[Html] = []
        self._leads: list[Html] = []  # what each comparison comes to
        self.gaps: dict[str, str] = {}  # what is missing: the command that makes it

    def say(self, *parts: str) -> None:
        """A sentence, its first letter a capital; text is escaped."""
        self.sentences.append(_sentence(*parts))

    def conclude(self, *parts: str) -> None:
        """A sentence of the verdict."""
        self.conclusions.append(_sentence(*parts))

    @property
    def verdict(self) -> list[Html]:
        """The sentences that stand first, in bold."""
        return self.conclusions or self._leads[:1]

    def label(self, name: str) -> str:
        """What a sentence calls it."""
        return self.book.study.by_name[name].label

    def has(self, name: str) -> bool:
        return self.book.variant(name) in self.book.variants

    def value(self, artifact: str, path: str, name: str) -> Any:
        """What seed 0 has at `path`; where nothing is, a gap, unless this representation cannot have it."""
        variant = self.book.variant(name)
        value = self.book.value(artifact, variant, path)
        if value is None:
            self._miss(artifact, path, variant)
        return value

    def estimate(self, measure: Measure, name: str) -> Estimate | None:
        variant = self.book.variant(name)
        mean = estimate(self.book, measure, variant)
        if mean is None:
            self._miss(measure.artifact, measure.path, variant)
        return mean

    def phrase(self, measure: Measure, name: str) -> str | None:
        """`67.3 % (95 % interval 66.4 to 68.2 %, 2 seeds)`."""
        mean = self.estimate(measure, name)
        return phrase(mean, measure.form) if mean else None

    def difference(self, measure: Measure, first: str, second: str) -> Difference | None:
        """`first` minus `second`; a gap where one of them is missing, or where nobody has compared them over seeds."""
        estimates = [self.estimate(measure, name) for name in (first, second)]
        if None in estimates:
            return None
        if self.book.compare is None:
            self.gaps["no interval of the differences"] = self.book.comparing
        return difference(self.book, measure, *(self.book.variant(name) for name in (first, second)))

    def change(self, subject: str, measure: Measure, before: str, after: str) -> Difference | None:
        """Says how a measure changes from one representation to another, and whether for the better."""
        change = self.difference(measure, after, before)
        ends = [self.estimate(measure, name) for name in (before, after)]
        if change is None or ends[0] is None or ends[1] is None:
            return None
        verb = {"higher": "rises", "lower": "falls"}.get(change.verdict, "goes")
        start, end = (number(mean.value, measure.form) for mean in ends if mean)
        words = f"{change.word(measure)}{_without_interval(change)}"
        self._leads.append(_sentence(f"{subject}{' is' if change.decided else ':'} {words}."))
        self.say(f"{subject} {verb} from {start} to {end} ({distance(change, measure.form)}): {words}.")
        return change

    def versus(self, subject: str, measure: Measure, first: str, second: str) -> Difference | None:
        """Says a measure of two representations, and which has the better of it."""
        gap = self.difference(measure, first, second)
        means = [self.estimate(measure, name) for name in (first, second)]
        if gap is None or means[0] is None or means[1] is None:
            return None
        one, other = (number(mean.value, measure.form) for mean in means if mean)
        outcome = self.outcome(gap, measure, first, second)
        self._leads.append(_sentence(f"{subject}: {outcome}."))
        self.say(
            f"{subject}: {one} for {self.label(first)}, {other} for {self.label(second)} ({distance(gap, measure.form)}):"
            f" {outcome}."
        )
        return gap

    def leaders(self, measure: Measure, names: Sequence[str]) -> str:
        """The best of some representations with its value, and those that are not shown to differ from it."""
        variants = {self.book.variant(name): name for name in names}
        means = {variant: mean for variant in variants if (mean := estimate(self.book, measure, variant))}
        winners = leaders(measure, means, lambda one, other: difference(self.book, measure, one, other)) or set(means)
        ranking = sorted(winners, key=lambda variant: -measure.better * means[variant].value)
        first, *ties = [f"{self.label(variants[v])} ({number(means[v].value, measure.form)})" for v in ranking]
        return f"{first}; not shown to differ: {series(ties)}" if ties else first

    def outcome(self, gap: Difference, measure: Measure, first: str, second: str) -> str:
        """Which of two is better (higher, where the measure does not rank), or that this is not shown."""
        if not gap.decided:
            return f"{gap.verdict}{_without_interval(gap)}"
        word = "better" if measure.better else "higher"
        ahead = self.book.study.by_name[first if (gap.verdict == "higher") == (measure.better >= 0) else second]
        return f"{ahead.label} {'are' if ahead.plural else 'is'} {word}"

    def look(self, panels: Sequence[tuple[str, str, str, str]]) -> None:
        """Points at panels: (artifact, panel path, representation, what it is). Those that are not on the page are left out."""
        links: list[str] = []
        for artifact, path, name, what in panels:
            variant = self.book.variant(name)
            if self.book.shows(artifact, variant, path):
                target = f"#{panel_id(artifact, variant, path)}"
                links += [", ", tag("a", what, href=target, data_shows=variant)]
        if links:
            self.say("See ", *links[1:], ".")

    def _miss(self, artifact: str, path: str, variant: str) -> None:
        book = self.book
        if book.unlabeled(artifact, path):
            self.gaps[UNLABELED] = ""
        elif reason := book.impossible(artifact, variant):
            self.gaps[f"{artifact} of {variant}: {reason}"] = ""
        elif variant not in book.variants:
            self.gaps[f"{variant} is not on this page"] = book.cure(artifact, variant)
        elif artifact == "anomaly" and book.anomalies is None:
            again = shlex.join(book.study.reporting(("...",), "IMAGES"))
            self.gaps["no set of anomalies was named"] = f"python -m {again}"
        elif (artifact, variant) not in book.evidence:
            self.gaps[f"{artifact} of {variant} is not made"] = book.cure(artifact, variant)
        else:
            self.gaps[f"{artifact} of {variant} holds no {path}; make it again"] = book.cure(artifact, variant)

    def missing(self) -> Html:
        """The gaps as a list; nothing where there are none."""
        if not self.gaps:
            return join()
        items = [tag("li", what, *([": ", command(cure)] if cure else []), ".") for what, cure in self.gaps.items()]
        return tag("ul", *items, class_="missing")


def _sentence(*parts: str) -> Html:
    """Its first letter a capital; text is escaped."""
    return Html(capital(join(*parts)))


def capital(text: str) -> str:
    """The first letter a capital."""
    return text[:1].upper() + text[1:]


def phrase(mean: Estimate, form: Form) -> str:
    about = []
    if mean.interval:
        about.append(f"95 % interval {span(mean.interval, form)}")
    if mean.n > 1:
        about.append(f"{mean.n} seeds")
    return number(mean.value, form) + (f" ({', '.join(about)})" if about else "")


def distance(gap: Difference, form: Form) -> str:
    """`difference −53.2 points, 95 % interval −54.0 to −52.3`."""
    text = f"difference {signed(gap.value, form)}"
    if gap.interval:
        text += f", 95 % interval {span(gap.interval, form).removesuffix(' %')}"
    return text


def _without_interval(gap: Difference) -> str:
    return ", without an interval" if gap.verdict == "not decided" else ""


def share(value: float) -> str:
    """A round share: `80 %`."""
    return f"{value:.0%}".replace("%", " %")


def series(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
