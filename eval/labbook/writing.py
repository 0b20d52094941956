"""Sentences from numbers: words are chosen by rule, and what is missing is named with the command that makes it."""

from collections.abc import Sequence
from typing import Any

from eval.labbook.book import Book
from eval.labbook.chapter import shown
from eval.labbook.estimates import (
    Difference,
    Estimate,
    Form,
    Measure,
    difference,
    estimate,
    number,
    signed,
    span,
)
from eval.labbook.markup import Html, command, join, panel_id, tag

# The methods that answers speak of, as they stand in a sentence.
NAMES = {
    "vicreg": "VICReg",
    "vicreg-variance0": "VICReg without variance",
    "vicreg-neighbors": "the neighbor variant",
    "eigenmaps": "Laplacian Eigenmaps",
    "untrained": "the untrained network",
    "pixels": "raw pixels",
    "patches": "whitened patches",
}


FULL, NO_VARIANCE, NEIGHBORS, EIGENMAPS = "vicreg", "vicreg-variance0", "vicreg-neighbors", "eigenmaps"
FLOORS = ("untrained", "pixels", "patches")


class Writer:
    """Writes one answer: `say` adds a sentence, and whatever is asked for and not there becomes a gap."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.sentences: list[Html] = []
        self.gaps: dict[str, str] = {}  # what is missing: the command that makes it

    def say(self, *parts: str) -> None:
        """A sentence, its first letter a capital; text is escaped."""
        sentence = join(*parts)
        self.sentences.append(Html(sentence[:1].upper() + sentence[1:]))

    def here(self, method: str) -> bool:
        return self.book.variant(method) in self.book.variants

    def value(self, artifact: str, path: str, method: str) -> Any:
        """What seed 0 has at `path`; where nothing is, a gap, unless this method cannot have it."""
        variant = self.book.variant(method)
        known = self.book.value(artifact, variant, path)
        if known is None:
            self._miss(artifact, path, variant)
        return known

    def estimate(self, measure: Measure, method: str) -> Estimate | None:
        variant = self.book.variant(method)
        known = estimate(self.book, measure, variant)
        if known is None:
            self._miss(measure.artifact, measure.path, variant)
        return known

    def told(self, measure: Measure, method: str) -> str | None:
        """`67.3 % (95 % interval 66.4 to 68.2 %, 2 seeds)`."""
        known = self.estimate(measure, method)
        return told(known, measure.form) if known else None

    def difference(self, measure: Measure, first: str, second: str) -> Difference | None:
        """`first` minus `second`; a gap where one of them is missing, or where nobody has compared them over seeds."""
        estimates = [self.estimate(measure, method) for method in (first, second)]
        if None in estimates:
            return None
        if self.book.compare is None:
            self.gaps["no interval of the differences"] = self.book.comparing
        return difference(self.book, measure, *(self.book.variant(method) for method in (first, second)))

    def change(self, subject: str, measure: Measure, before: str, after: str) -> Difference | None:
        """Says how a measure changes from one method to another, and whether for the better."""
        found = self.difference(measure, after, before)
        ends = [self.estimate(measure, method) for method in (before, after)]
        if found is None or ends[0] is None or ends[1] is None:
            return None
        verb = {"higher": "rises", "lower": "falls"}.get(found.verdict, "goes")
        start, end = (number(known.value, measure.form) for known in ends if known)
        self.say(
            f"{subject} {verb} from {start} to {end} ({apart(found, measure.form)}): {found.word(measure)}{_why(found)}."
        )
        return found

    def versus(self, subject: str, measure: Measure, first: str, second: str) -> Difference | None:
        """Says a measure of two methods, and which has the better of it."""
        found = self.difference(measure, first, second)
        values = [self.estimate(measure, method) for method in (first, second)]
        if found is None or values[0] is None or values[1] is None:
            return None
        one, other = (number(known.value, measure.form) for known in values if known)
        self.say(
            f"{subject}: {one} for {NAMES[first]}, {other} for {NAMES[second]} ({apart(found, measure.form)}):"
            f" {self.verdict(found, measure, first, second)}."
        )
        return found

    def verdict(self, found: Difference, measure: Measure, first: str, second: str) -> str:
        """Which of two is better (higher, where the measure does not rank), or that this is not shown."""
        if not found.decided:
            return f"{found.verdict}{_why(found)}"
        word = "better" if measure.better else "higher"
        ahead = first if (found.verdict == "higher") == (measure.better >= 0) else second
        return f"{NAMES[ahead]} {'are' if ahead in ('eigenmaps', 'pixels', 'patches') else 'is'} {word}"

    def look(self, panels: Sequence[tuple[str, str, str, str]]) -> None:
        """Points at panels: (artifact, panel path, method, what it is). Those that are not on the page are left out."""
        links: list[str] = []
        for artifact, path, method, name in panels:
            variant = self.book.variant(method)
            if shown(self.book, artifact, variant, path):
                target = f"#{panel_id(artifact, variant, path)}"
                links += [", ", tag("a", name, href=target, data_shows=variant)]
        if links:
            self.say("See ", *links[1:], ".")

    def _miss(self, artifact: str, path: str, variant: str) -> None:
        book = self.book
        if reason := book.impossible(artifact, variant):
            self.gaps[f"{artifact} of {variant}: {reason}"] = ""
        elif variant not in book.variants:
            self.gaps[f"{variant} is not on this page"] = book.cure(artifact, variant)
        elif artifact == "anomaly" and book.anomalies is None:
            self.gaps["no set of anomalies was named"] = "python -m eval.report --variants ... --anomalies IMAGES"
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


def told(known: Estimate, form: Form) -> str:
    about = []
    if known.interval:
        about.append(f"95 % interval {span(known.interval, form)}")
    if known.n > 1:
        about.append(f"{known.n} seeds")
    return number(known.value, form) + (f" ({', '.join(about)})" if about else "")


def apart(found: Difference, form: Form) -> str:
    """`difference −53.2 points, 95 % interval −54.0 to −52.3`."""
    text = f"difference {signed(found.value, form)}"
    if found.interval:
        text += f", 95 % interval {span(found.interval, form).removesuffix(' %')}"
    return text


def _why(found: Difference) -> str:
    return ", without an interval" if found.verdict == "not decided" else ""


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
