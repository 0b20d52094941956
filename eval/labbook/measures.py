"""The numbers of the lab book: where each stands in the scores, how it is written, which way is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from eval.labbook.evidence import Book
from eval.labbook.markup import Html, join, tag

Form = Literal["percent", "share", "decimal", "tenth", "scale", "count", "percents", "text", "confused", "most"]


@dataclass(frozen=True)
class Measure:
    """path: in the scores of `artifact`; an interval is looked for at `path/interval`.

    better: 1 where more is better, -1 where less is, 0 where a number describes and does not rank.
    mark: path of the value that knowing nothing would give, or that value.
    """

    artifact: str
    path: str
    label: str
    form: Form = "decimal"
    better: int = 0
    mark: str | float | None = None
    about: str = ""


SUMMARY = (
    Measure("probe", "probe/top1", "Probe, representation", "percent", 1, "probe/chance",
            "Test accuracy of a linear probe on the representation, in percent"),
    Measure("probe", "probe/features/top1", "Probe, features", "percent", 1, "probe/chance",
            "Test accuracy of a linear probe on what the encoder's head reads, in percent"),
    Measure("training", "knn/top1", "kNN", "percent", 1, None,
            "Accuracy of nearest neighbors on held-out training images at the end of training, in percent"),
    Measure("anomaly", "anomaly/auc", "Anomaly AUC", "share", 1, 0.5,
            "Area under the ROC curve: how often an anomaly scores higher than a normal test image"),
    Measure("cluster", "cluster/silhouette/clusters", "Silhouette, clusters", "decimal", 1, None,
            "Silhouette of the k-means clusters in the representation"),
    Measure("cluster", "cluster/silhouette/classes", "Silhouette, classes", "decimal", 1, None,
            "Silhouette of the class labels in the representation"),
    Measure("retrieve", "retrieve/precision@5", "Precision@5", "percent", 1, "probe/chance",
            "How many of the 5 nearest images are of the image's own class, in percent"),
    Measure("project", "collapse/effective_rank", "Effective rank", "tenth", 0, None,
            "How many dimensions the test representations fill; it describes and is not ranked"),
)  # fmt: skip


def number(value: Any, form: Form) -> str:
    """A value as text."""
    if form == "percents":
        return " and ".join(number(part, "percent") for part in value)
    if isinstance(value, str):
        return value
    if form == "percent":
        return f"{100 * value:.1f} %"
    if form == "count":
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if form == "scale":
        return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
    digits = 3 if form != "tenth" and abs(value) < 10 else 1
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval(book: Book, measure: Measure, variant: str) -> tuple[float, float] | None:
    ends = book.value(measure.artifact, variant, f"{measure.path}/interval")
    return (float(ends[0]), float(ends[1])) if isinstance(ends, list) and len(ends) == 2 else None


def best(book: Book, measure: Measure) -> set[str]:
    """The variants with the best value, as it is written; none where there is no other to compare it with."""
    values = {variant: book.value(measure.artifact, variant, measure.path) for variant in book.variants}
    numbers = {variant: value for variant, value in values.items() if isinstance(value, int | float)}
    if not measure.better or not numbers:
        return set()
    top = number(max(numbers.values(), key=lambda value: measure.better * value), measure.form)
    winners = {variant for variant, value in numbers.items() if number(value, measure.form) == top}
    return winners if len(winners) < len(numbers) else set()


def cell(book: Book, measure: Measure, variant: str, winners: set[str], bar: bool = False) -> Html:
    """A table cell: the value, its interval, and a dash with the reason where there is none."""
    value = book.value(measure.artifact, variant, measure.path)
    if value is None or value == []:
        return _missing(book, measure.artifact, variant)
    parts: list[str] = [tag("span", _text(book, measure, variant), class_="value")]
    if variant in winners:
        parts.append(tag("abbr", "best", title="best of the variants compared", class_="best"))
    ends = interval(book, measure, variant)
    if ends:
        parts.append(tag("small", " to ".join(number(end, measure.form) for end in ends).replace(" % to", " to")))
    if bar and isinstance(value, int | float):
        parts.append(_bar(book, measure, variant, float(value), ends))
    return tag("td", *parts, class_="won" if variant in winners else None)


def _missing(book: Book, artifact: str, variant: str, rows: int | None = None) -> Html:
    return tag("td", "– ", tag("small", book.missing(artifact, variant)), class_="missing", rowspan=rows)


def _text(book: Book, measure: Measure, variant: str) -> str:
    value: Any = book.value(measure.artifact, variant, measure.path)
    if measure.form == "confused":
        return join(
            *(
                tag("span", f"{_name(book, true)} → {_name(book, predicted)} {number(rate, 'percent')}", class_="line")
                for true, predicted, rate in value[:5]
            )
        )
    if measure.form == "most":
        sets = [str(entry["set"]) for entry in value]
        return ", ".join(f"{sets.count(name)} of {name}" for name in dict.fromkeys(sets))
    return number(value, measure.form)


def _name(book: Book, label: Any) -> str:
    return book.images.classes[label] if isinstance(label, int) else str(label)


def _bar(book: Book, measure: Measure, variant: str, value: float, ends: tuple[float, float] | None) -> Html:
    """Value and interval on a scale that the whole column shares; a tick where knowing nothing would be."""
    values = [book.value(measure.artifact, other, measure.path) for other in book.variants]
    numbers = [float(known) for known in values if isinstance(known, int | float)]
    low, high = (0.0, 1.0) if measure.form in ("percent", "share") else (min(0.0, *numbers), max(0.0, *numbers) or 1.0)

    def place(at: float) -> float:
        return 100 * (min(max(at, low), high) - low) / (high - low)

    marks = [tag("i", class_="reach", style=f"left:{place(0):.2f}%;width:{place(value) - place(0):.2f}%")]
    if value < 0:
        marks = [tag("i", class_="reach", style=f"left:{place(value):.2f}%;width:{place(0) - place(value):.2f}%")]
    if ends:
        width = place(ends[1]) - place(ends[0])
        marks.append(tag("i", class_="interval", style=f"left:{place(ends[0]):.2f}%;width:{width:.2f}%"))
    chance = book.value("probe", variant, measure.mark) if isinstance(measure.mark, str) else measure.mark
    if isinstance(chance, int | float):
        marks.append(tag("i", class_="chance", style=f"left:{place(chance):.2f}%"))
    return tag("span", *marks, class_="bar", aria_hidden="true")


def summary(book: Book) -> Html:
    """The first table: a row a variant, a column a measure."""
    winners = {measure.path: best(book, measure) for measure in SUMMARY}
    head = [tag("th", "Variant", scope="col")]
    head += [tag("th", measure.label, scope="col", title=measure.about) for measure in SUMMARY]
    rows = [
        tag(
            "tr",
            tag("th", variant, scope="row"),
            *(cell(book, measure, variant, winners[measure.path], bar=True) for measure in SUMMARY),
        )
        for variant in book.variants
    ]
    return _table("Every variant side by side", head, rows, "summary")


def numbers(book: Book, measures: Sequence[Measure], title: str) -> Html:
    """A chapter's table: a row a measure, a column a variant."""
    head = [tag("td"), *(tag("th", variant, scope="col") for variant in book.variants)]
    rows = []
    for index, measure in enumerate(measures):
        winners = best(book, measure)
        cells = []
        for variant in book.variants:
            if (measure.artifact, variant) in book.evidence:
                cells.append(cell(book, measure, variant, winners))
            elif index == 0:  # one dash stands for the whole column
                cells.append(_missing(book, measure.artifact, variant, rows=len(measures)))
        rows.append(tag("tr", tag("th", measure.label, scope="row", title=measure.about or None), *cells))
    return _table(title, head, rows, "numbers")


def by_class(book: Book, artifact: str, path: str, title: str) -> Html:
    """A row a class of a measure that is a list in class order."""
    lists: Mapping[str, Any] = {variant: book.value(artifact, variant, path) for variant in book.variants}
    head = [tag("td"), *(tag("th", variant, scope="col") for variant in book.variants)]
    rows = []
    for index, name in enumerate(book.images.classes):
        cells = []
        for variant in book.variants:
            values = lists[variant]
            if isinstance(values, list) and index < len(values) and values[index] is not None:
                cells.append(tag("td", tag("span", number(values[index], "percent"), class_="value")))
            else:
                cells.append(_missing(book, artifact, variant))
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    return tag("details", tag("summary", title), _table(title, head, rows, "numbers"))


def _table(title: str, head: Sequence[Html], rows: Sequence[Html], kind: str) -> Html:
    table = tag("table", tag("caption", title), tag("thead", tag("tr", *head)), tag("tbody", *rows), class_=kind)
    # A box of its own that scrolls sideways: the keyboard must reach it.
    return tag("div", table, class_="box", tabindex=0, role="region", aria_label=title)


def summary_frame(book: Book) -> pd.DataFrame:
    """The first table as plain numbers, with the ends of each interval."""
    columns: dict[str, list[Any]] = {"variant": list(book.variants)}
    for measure in SUMMARY:
        columns[measure.path] = [book.value(measure.artifact, variant, measure.path) for variant in book.variants]
        ends = [interval(book, measure, variant) for variant in book.variants]
        if any(ends):
            for index, end in enumerate(("low", "high")):
                columns[f"{measure.path}/{end}"] = [pair and pair[index] for pair in ends]
    return pd.DataFrame(columns, dtype=object)
