"""A chapter's figures and pictures: a cell for each variant, or one for all, and below each where it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from eval.evidence.numbers import number, span
from eval.evidence.readings import Reading
from eval.labbook.book import Book, again, lineage
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.drawings import Drawing, overlay, rows_by_name
from eval.labbook.estimates import estimate
from eval.labbook.markup import Html, command, data, join, panel_id, reference, tag
from eval.labbook.queries import queries
from eval.labbook.thumbnails import address
from train.tracking import Input, Problem


@dataclass(frozen=True)
class _Row:
    """Cells that stand beside each other, by variant; the only one of a figure that shows several is "".

    kind: of what is in them (map, plot, picture). heading: what all share. absent: why others have none.
    """

    kind: str
    heading: Html
    cells: Mapping[str, Html]
    absent: Html

    def html(self, variant: str | None = None) -> Html:
        """variant: whose row it is, where it is one variant's."""
        cells = tag("div", *self.cells.values(), class_="cells") if self.cells else ""
        return tag("section", self.heading, cells, self.absent, class_=f"row {self.kind}s", data_variant=variant)


class Panels:
    """Every panel of one page, and what they share: numbers, ids that are given once, templates of plotly."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.templates: list[Any] = []
        self._number = count(1)
        self._named: set[str] = set()

    def of(self, chapter: Chapter) -> Html:
        """The chapter's panels, row by row. Panels that have a single cell stand together in one row."""
        variants = chapter.variants(self.book)
        if chapter.side_by_side:
            return self._by_variant(chapter.panels, variants)
        parts: list[str] = []
        together: list[_Row] = []
        for panel in chapter.panels:
            row = None if panel.content == "queries" else self._row(panel, variants)
            alone = row is not None and len(row.cells) == 1
            if not alone or (together and row and together[0].kind != row.kind):
                parts += _joined(together)
                together = []
            if row is None:
                parts.append(self._queries(panel, variants))
            elif alone:
                together.append(row)
            else:
                parts.append(row.html())
        return join(*parts, *_joined(together))

    def _by_variant(self, panels: Sequence[Panel], variants: Sequence[str]) -> Html:
        """A row a variant with all its panels; what the panels of all variants share stands above, once."""
        columns = [self._row(panel, variants, by_variant=True) for panel in panels]
        rows = []
        for variant in variants:
            cells = {str(index): row.cells[variant] for index, row in enumerate(columns) if variant in row.cells}
            if cells:
                rows.append(_Row(columns[0].kind, tag("h3", variant), cells, join()).html(variant))
        above = tag("section", *(row.heading for row in columns), class_="row legends")
        absent = dict.fromkeys(row.absent for row in columns)
        return join(above, tag("div", *rows, class_="side-by-side"), *absent)

    def _queries(self, panel: Panel, variants: Sequence[str]) -> Html:
        """Pictures that are shown query by query, each with a row a variant."""
        present = self._readings(panel, variants)
        parts = [
            tag("h3", panel.label),
            tag("p", panel.note, class_="title") if panel.note else "",
            queries(self.book, variants),
            self._absent(panel, variants, present),
            _lines({variant: reading.source for variant, reading in present.items()}),
        ]
        return tag("section", *parts, class_="row")

    def _readings(self, panel: Panel, variants: Sequence[str]) -> dict[str, Reading]:
        """The evidence of the variants that have this panel."""
        readings = {variant: self.book.evidence.get((panel.artifact, variant)) for variant in variants}
        return {variant: reading for variant, reading in readings.items() if reading and _has(reading, panel)}

    def _row(self, panel: Panel, variants: Sequence[str], by_variant: bool = False) -> _Row:
        """One panel of the variants that have it, and why the others have none."""
        present = self._readings(panel, variants)
        absent = self._absent(panel, variants, present)
        note = tag("p", panel.note, class_="title") if panel.note else ""
        if not present:
            return _Row("plot", tag("h3", panel.label), {}, absent)
        alone = len(present) == 1 and not by_variant
        sources = {variant: reading.source for variant, reading in present.items()}
        headings = {variant: panel.label if alone or by_variant else variant for variant in present}
        if panel.content == "picture":
            pictures = {v: self._picture(panel, v, reading, headings[v], alone) for v, reading in present.items()}
            return _Row("picture", join() if alone else join(tag("h3", panel.label), note), pictures, absent)
        drawings = {variant: self.book.drawing(panel.artifact, variant, panel.path) for variant in present}
        if panel.overlay and all(plot.kind == "plot" for plot in drawings.values()):
            plot = overlay(drawings, self.book.variants, panel.only, names(self.book, panel))
            return _Row("plot", join(), {"": self._figure(panel, plot, sources, panel.label, panel.note)}, absent)
        # What all figures of the row say stands above it, once: the legend, and the title but for the variant's name.
        group = self._group()
        first = next(iter(drawings.values()))
        common = not alone and all(plot.kind == "map" and plot.keys == first.keys for plot in drawings.values())
        titles = {
            plot.title.removeprefix(variant).removesuffix(variant).strip(" ,:–") for variant, plot in drawings.items()
        }
        shared = not alone and len(titles) == 1
        cells = {}
        for variant, plot in drawings.items():
            own = group if common else self._group()
            title = "" if shared or plot.title == panel.label else plot.title
            legend = "" if common else _legend(plot, own)
            cells[variant] = self._figure(
                panel, plot, {variant: sources[variant]}, headings[variant], title, own, legend
            )
        heading = join(
            tag("h3", panel.label),
            *(tag("p", title, class_="title") for title in titles if shared and title != panel.label),
            note,
            _legend(first, group) if common else "",
        )
        hushed = alone or (by_variant and not common)  # the cells say it all
        return _Row(first.kind, join() if hushed else heading, cells, absent)

    def _group(self) -> str:
        return f"group-{next(self._number)}"

    def _figure(
        self,
        panel: Panel,
        plot: Drawing,
        sources: Mapping[str, Input],
        heading: str,
        title: str,
        group: str = "",
        legend: str = "",
    ) -> Html:
        """sources: by variant; the figure belongs to its only variant, or shows several."""
        number = next(self._number)
        only = next(iter(sources)) if len(sources) == 1 else ""
        content: dict[str, Any] = {"kind": plot.kind, **plot.data}
        if plot.kind == "map":
            thumbnails = panel.thumbnails and bool(rows_by_name(plot))
            if thumbnails:
                self._check_rows(plot, sources[only])
            content.update(group=group, link=panel.artifact, thumbnails=thumbnails)
        else:
            content["layout"] = {**content["layout"], "template": self._template(content["layout"].get("template"))}
        description = f"{panel.label}{' of ' + only if only else ''}. {plot.title}".rstrip(". ") + "."
        if plot.kind == "map":
            description += " Arrow keys step through the points, plus and minus zoom, 0 shows all."
        element = tag(
            "div",
            class_=f"drawing {plot.kind}",
            id=f"drawing-{number}",
            role="application" if plot.kind == "map" else "img",
            aria_label=description,
            tabindex=0 if plot.kind == "map" else None,
        )
        above = tag("div", tag("h4", heading), tag("p", title, class_="title") if title else "", legend)
        return self._cell(panel, sources, [above, element, data(content, class_="figure")])

    def _picture(self, panel: Panel, variant: str, evidence: Reading, heading: str, alone: bool) -> Html:
        picture = evidence.scores.pictures[panel.path]
        image = tag(
            "img",
            src=address(picture),
            alt=f"{panel.label}, for {variant}. {panel.note}".strip(),
            width=picture.width,
            height=picture.height,
            decoding="async",
            class_="picture",
        )
        above = tag("div", tag("h4", heading), tag("p", panel.note, class_="title") if alone and panel.note else "")
        return self._cell(panel, {variant: evidence.source}, [above, image])

    def _cell(self, panel: Panel, sources: Mapping[str, Input], parts: Sequence[str]) -> Html:
        """A figure with its sources below. Where a panel stands in two chapters, links lead to the first."""
        names = {variant: panel_id(panel.artifact, variant, panel.path) for variant in sources}
        anchors = [tag("span", id=name, class_="anchor") for name in names.values() if name not in self._named]
        self._named.update(names.values())
        belongs = next(iter(sources)) if len(sources) == 1 else None
        return tag("figure", *anchors, *parts, tag("figcaption", _lines(sources)), class_="cell", data_variant=belongs)

    def _check_rows(self, plot: Drawing, source: Input) -> None:
        """The rows that a map names must be test images, and of the class that the map says: else it was made from
        other images, and would show wrong thumbnails."""
        labels = np.asarray(self.book.images.test_labels)
        classes = self.book.images.classes
        for name, rows in rows_by_name(plot).items():
            fits = not len(rows) or (rows.min() >= 0 and rows.max() < len(labels))
            if not fits or (name in classes and (labels[rows] != classes.index(name)).any()):
                raise Problem(
                    f"{source.version.reference} was made from other images than {self.book.images_source.version.reference};"
                    f" remake it: {again(source.origin) or 'python -m ' + source.origin.stage}"
                )

    def _absent(self, panel: Panel, variants: Sequence[str], present: Mapping[str, Reading]) -> Html:
        """Why each of the other variants has no such panel; where none has it, what would make it."""
        missing = [variant for variant in variants if variant not in present]
        if not missing:
            return join()
        reasons = {variant: self.book.missing(panel.artifact, variant, panel.path) for variant in missing}
        notes = [tag("span", f"– {variant} ({reason}) ", data_variant=variant) for variant, reason in reasons.items()]
        cure = "" if self.book.unlabeled(panel.artifact, panel.path) else self.book.cure(panel.artifact, missing[0])
        return tag("p", *notes, command(cure) if cure and not present else "", class_="absent")

    def _template(self, template: Any) -> int | None:
        """Figures share their template: the page holds each once."""
        if template is None:
            return None
        if template not in self.templates:
            self.templates.append(template)
        return self.templates.index(template)


def names(book: Book, panel: Panel) -> dict[str, str] | None:
    """What an overlay's legend calls the variants whose measure it shows: `VARIANT: AUC 0.983 (0.974 to 0.991)`."""
    if panel.measure is None:
        return None
    texts = dict(zip(book.variants, book.variants, strict=True))
    for variant in book.variants:
        if mean := estimate(book, panel.measure, variant):
            ends = f" ({span(mean.interval, panel.measure.form)})" if mean.interval else ""
            texts[variant] = f"{variant}: {panel.measure.words} {number(mean.value, panel.measure.form)}{ends}"
    return texts


def _joined(rows: Sequence[_Row]) -> list[Html]:
    """Rows of one cell each as one row; what they say of absent variants is said once."""
    if not rows:
        return []
    cells = {str(index): cell for index, row in enumerate(rows) for cell in row.cells.values()}
    absent = dict.fromkeys(row.absent for row in rows)
    return [_Row(rows[0].kind, join(), cells, join(*absent)).html()]


def _has(evidence: Reading, panel: Panel) -> bool:
    return panel.path in (evidence.scores.figures if panel.content == "figure" else evidence.scores.pictures)


def _legend(plot: Drawing, group: str) -> str:
    """Buttons that hide and show the traces of every map in `group`. A plot brings its own."""
    if plot.kind == "plot":
        return ""
    keys = []
    for index, (name, color, symbol) in enumerate(plot.keys):
        swatch = tag("canvas", class_="swatch", data_color=color, data_symbol=symbol, aria_hidden="true")
        keys.append(tag("button", swatch, name, type="button", data_trace=index, aria_pressed="true"))
    return tag("div", *keys, class_="legend", data_group=group, role="group", aria_label="Show or hide")


def _lines(sources: Mapping[str, Input]) -> Html:
    """Those of one variant are read at once, those of several unfolded."""
    lines = join(*(tag("span", _line(source), data_variant=variant) for variant, source in sources.items()))
    return lines if len(sources) < 2 else tag("details", tag("summary", "Sources"), lines, class_="lines")


def _line(source: Input) -> Html:
    """Reference, version and digest, and buttons that copy the reference or the command that shows the lineage."""
    version = source.version
    return tag(
        "span",
        reference(source.request),
        " → ",
        tag("code", version.reference, class_="version"),
        " ",
        tag("code", version.digest[:12], title=version.digest, class_="digest"),
        " ",
        tag("button", "copy", type="button", data_copy=source.request, aria_label=f"copy {source.request}"),
        " ",
        tag("button", "lineage", type="button", data_copy=lineage(source), title=f"copy: {lineage(source)}"),
        class_="source",
    )
