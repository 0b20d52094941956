"""The tables of the lab book: a row a variant, a column a measure; a reader sorts them and hides rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from eval.evidence.comparison import Difference, Estimate, Interval
from eval.evidence.measures import Measure
from eval.evidence.numbers import number, signed, span
from eval.labbook.book import Book
from eval.labbook.estimates import best, difference, estimate
from eval.labbook.markup import Html, command, join, reference, tag

VERDICTS = {"better": "higher", "worse": "lower", "no difference shown": "none", "not decided": "undecided"}
UNIT: Interval = (0.0, 1.0)  # the scale of shares


def summary(book: Book) -> Html:
    """The first table, and what its numbers rest on."""
    return join(
        *_basis(book),
        _table("Every variant side by side", book, book.summary, book.variants, "summary", bar=True),
    )


def numbers(book: Book, measures: Sequence[Measure], variants: Sequence[str], title: str) -> Html:
    """A chapter's table."""
    return _table(title, book, book.applicable(measures), variants, "numbers")


def by_class(book: Book, artifact: str, path: str, title: str) -> Html:
    """A column a class, of a measure that is a list in class order."""
    rows, absent = [], {}
    for variant in book.variants:
        values: Any = book.value(artifact, variant, path)
        if not isinstance(values, list):
            absent[variant] = book.missing(artifact, variant)
            continue
        cells = [
            tag("td", tag("span", number(values[index], "percent"), class_="value"), data_value=values[index])
            if index < len(values) and values[index] is not None
            else _missing(book, artifact, variant, path)
            for index in range(len(book.images.classes))
        ]
        rows.append(row(variant, cells))
    table = box(title, ["Variant", *book.images.classes], rows, "numbers") if rows else ""
    return tag("details", tag("summary", title), table, _left_out(absent))


def differences(book: Book, base: str, measures: Sequence[Measure]) -> Html:
    """`base` minus every other variant, with the verdict on each difference."""
    title = f"{base} minus the others"
    measures = book.applicable(measures)
    rows = []
    for variant in book.variants:
        if variant == base:
            continue
        cells = []
        for measure in measures:
            gap = difference(book, measure, base, variant)
            if gap is None:
                missing = [name for name in (base, variant) if estimate(book, measure, name) is None]
                cells.append(_missing(book, measure.artifact, missing[0], measure.path))
                continue
            cells.append(
                tag(
                    "td",
                    tag("span", signed(gap.value, measure.form), class_="value"),
                    tag("small", span(gap.interval, measure.form).removesuffix(" %")) if gap.interval else "",
                    verdict(gap, measure),
                    data_value=gap.value,
                )
            )
        rows.append(row(variant, cells, f"{base} {variant}"))
    return box(
        title, [f"{base} minus", *(measure.label for measure in measures)], rows, "pairs", [m.about for m in measures]
    )


def _basis(book: Book) -> list[Html]:
    """How many seeds the numbers come from, and whether they are the newest."""
    notes = []
    if book.compare is None:
        notes.append(
            join("One seed each; the intervals cover test images alone. Over seeds, with the differences: ",
                 command(book.comparing))
        )  # fmt: skip
    if outdated := book.outdated:
        references = [part for text in outdated for part in (", ", reference(text))][1:]
        notes.append(
            join("Made anew since the comparison, so that means and pictures may differ: ", *references, ". Compare again: ",
                 command(book.comparing))
        )  # fmt: skip
    return [tag("p", note, class_="absent") for note in notes]


def _table(
    title: str, book: Book, measures: Sequence[Measure], variants: Sequence[str], kind: str, bar: bool = False
) -> Html:
    if not measures:
        return tag("p", "– (unlabeled)", class_="absent")
    winners = {measure.path: best(book, measure) & set(variants) for measure in measures}
    absent = {
        variant: book.missing(measures[0].artifact, variant)
        for variant in variants
        if not any(_has(book, measure, variant) for measure in measures)
    }
    rows = [
        row(variant, [cell(book, measure, variant, winners[measure.path], bar) for measure in measures])
        for variant in variants
        if variant not in absent
    ]
    heads = ["Variant", *(measure.label for measure in measures)]
    table = box(title, heads, rows, kind, [measure.about for measure in measures]) if rows else ""
    return join(table, _left_out(absent))


def _has(book: Book, measure: Measure, variant: str) -> bool:
    return bool(estimate(book, measure, variant) or book.value(measure.artifact, variant, measure.path))


def _left_out(reasons: Mapping[str, str]) -> Html:
    """The variants that a table has no row of, and why; nothing where there are none."""
    if not reasons:
        return join()
    notes = [tag("span", f"– {variant} ({reason}) ", data_variant=variant) for variant, reason in reasons.items()]
    return tag("p", *notes, class_="absent")


def cell(book: Book, measure: Measure, variant: str, winners: set[str], bar: bool = False) -> Html:
    """The value, over how many seeds, its interval; a dash with the reason where there is none."""
    mean = estimate(book, measure, variant)
    if mean is None:
        value = book.value(measure.artifact, variant, measure.path)
        return (
            tag("td", _text(book, measure, value)) if value else _missing(book, measure.artifact, variant, measure.path)
        )
    return value_cell(measure, mean, variant in winners, _bar(book, measure, variant, mean) if bar else "")


def value_cell(measure: Measure, mean: Estimate, won: bool = False, *more: Html | str) -> Html:
    """won: whether it is the best, or not shown to differ from it. more: what stands below the interval."""
    parts = [tag("span", number(mean.value, measure.form), class_="value")]
    if mean.spread is not None:
        spread = number(mean.spread, measure.form).removesuffix(" %")
        parts.append(tag("small", f" ± {spread} (n = {mean.n})", class_="spread"))
    if won:
        parts.append(tag("abbr", "best", title="the best, or not shown to differ from it", class_="best"))
    if mean.interval:
        parts.append(tag("small", span(mean.interval, measure.form)))
    return tag("td", *parts, *more, class_="won" if won else None, data_value=mean.value)


def missing_cell(reason: str) -> Html:
    return tag("td", "–, ", tag("small", reason), class_="missing")


def verdict(gap: Difference, measure: Measure) -> Html:
    word = gap.word(measure)
    return tag("span", word, class_="verdict", data_verdict=VERDICTS.get(word, word))


def _missing(book: Book, artifact: str, variant: str, path: str) -> Html:
    return missing_cell(book.missing(artifact, variant, path))


def _text(book: Book, measure: Measure, value: Any) -> Html:
    """A value that is no number."""
    if measure.form == "confused":
        pairs = [f"{_name(book, true)} → {_name(book, taken)} {number(rate, 'percent')}" for true, taken, rate in value]
        return join(*(tag("span", pair, class_="line") for pair in pairs[:5]))
    if measure.form == "most":
        sets = [str(entry["set"]) for entry in value]
        return join(", ".join(f"{sets.count(name)} of {name}" for name in dict.fromkeys(sets)))
    return tag("span", number(value, measure.form), class_="value")


def _name(book: Book, label: Any) -> str:
    classes = book.images.classes
    return classes[label] if isinstance(label, int) and 0 <= label < len(classes) else str(label)


def _bar(book: Book, measure: Measure, variant: str, mean: Estimate) -> Html:
    """On a scale that the whole column shares."""
    estimates = [estimate(book, measure, other) for other in book.variants]
    values = [other.value for other in estimates if other]
    ends = UNIT if measure.form in ("percent", "share") else (min(0.0, *values), max(0.0, *values) or 1.0)
    mark = measure.mark
    chance = book.value(mark.partition("/")[0], variant, mark) if isinstance(mark, str) else mark
    return value_bar(mean, ends, chance if isinstance(chance, int | float) else None)


def value_bar(mean: Estimate, ends: Interval, chance: float | None) -> Html:
    """Value and interval on a scale with these ends; a tick at `chance`, what knowing nothing would give."""
    low, high = ends

    def place(at: float) -> float:
        return 100 * (min(max(at, low), high) - low) / (high - low)

    def between(kind: str, ends: Interval) -> Html:
        left, right = sorted(place(end) for end in ends)
        return tag("i", class_=kind, style=f"left:{left:.2f}%;width:{right - left:.2f}%")

    marks = [between("reach", (0.0, mean.value))]
    if mean.interval:
        marks.append(between("interval", mean.interval))
    if chance is not None:
        marks.append(tag("i", class_="chance", style=f"left:{place(chance):.2f}%"))
    return tag("span", *marks, class_="bar", aria_hidden="true")


def row(variant: str, cells: Sequence[Html], belongs: str = "") -> Html:
    """belongs: the variants that it is about, where that is not `variant` alone."""
    return tag("tr", tag("th", variant, scope="row"), *cells, data_variant=belongs or variant)


def box(title: str, heads: Sequence[str], rows: Sequence[Html], kind: str, about: Sequence[str] = ()) -> Html:
    titles = ["", *about, *[""] * (len(heads) - 1 - len(about))]
    head = [tag("th", text, scope="col", title=title or None) for text, title in zip(heads, titles, strict=True)]
    table = tag(
        "table",
        tag("caption", title),
        tag("thead", tag("tr", *head)),
        tag("tbody", *rows),
        class_=f"{kind} sortable",
    )
    # A box of its own that scrolls sideways: the keyboard must reach it.
    return tag("div", table, class_="box", tabindex=0, role="region", aria_label=title)


def summary_frame(book: Book) -> pd.DataFrame:
    """The first table as plain numbers: each measure, the ends of its interval, its spread and seeds where taken."""
    columns: dict[str, list[Any]] = {"variant": list(book.variants)}
    for measure in book.summary:
        means = [estimate(book, measure, variant) for variant in book.variants]
        columns[measure.path] = [mean and mean.value for mean in means]
        if any(mean and mean.interval for mean in means):
            for index, end in enumerate(("low", "high")):
                columns[f"{measure.path}/{end}"] = [
                    mean.interval[index] if mean and mean.interval else None for mean in means
                ]
        if any(mean and mean.spread is not None for mean in means):
            columns[f"{measure.path}/spread"] = [mean and mean.spread for mean in means]
            columns[f"{measure.path}/seeds"] = [mean and mean.n for mean in means]
    return pd.DataFrame(columns, dtype=object)
