"""The lab book as one HTML file: everything inside it, nothing fetched, the same bytes for the same evidence."""

import base64
import hashlib
import importlib.resources
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import plotly.offline

from eval.labbook.chapters import CHAPTERS, Chapter, Panel
from eval.labbook.drawings import Drawing, drawing, overlay, rows_by_name
from eval.labbook.evidence import Book, Evidence, Source
from eval.labbook.markup import Html, data, join, tag
from eval.labbook.measures import by_class, numbers, summary
from eval.labbook.thumbnails import Sprite, address
from train.tracking.problem import Problem

COLUMNS = {"map": 4, "plot": 3, "picture": 4}  # at most so many stand side by side
SHOWN_CLASSES = 20  # more have no example image in the head of the page


def render(book: Book) -> str:
    """The page. Raises Problem where a map's points and the images of the data set do not fit together."""
    sprite = Sprite.of(book.images.test)
    content = _Content(book)
    chapters = [content.chapter(chapter) for chapter in CHAPTERS]
    # The end of a script element is the only text that could end it.
    plotly_js = plotly.offline.get_plotlyjs().replace("</script", "<\\/script")
    script = _file("script.js")
    return string.Template(_file("template.html")).substitute(
        policy=_policy(plotly_js, script),
        title=tag("title", f"{book.images.name}: lab book"),
        style=_file("style.css"),
        contents=_contents(),
        head=_head(book),
        summary=summary(book),
        chapters=join(*chapters),
        sources=_sources(book),
        sprite=tag("img", id="sprite", hidden=True, alt="", src=sprite.address),
        settings=data({"size": sprite.size, "columns": sprite.columns, "templates": content.templates}, id="settings"),
        plotly=plotly_js,
        script=script,
    )


def _file(name: str) -> str:
    return importlib.resources.files("eval.labbook").joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """What the browser lets the page do: run these very scripts, show what is inside it, and ask no host for anything."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _contents() -> Html:
    entries = [("summary", "", "Summary"), *((c.anchor, c.questions, c.title) for c in CHAPTERS)]
    entries.append(("sources", "", "Sources"))
    return join(
        *(
            tag("li", tag("a", tag("span", questions, class_="question-number"), title, href=f"#{anchor}"))
            for anchor, questions, title in entries
        )
    )


def _head(book: Book) -> Html:
    images = book.images
    facts = (
        f"{len(images.train):,} training and {len(images.test):,} test images of {images.size} × {images.size} pixels"
        f" in {len(images.classes)} classes"
    ).replace(",", "\N{NARROW NO-BREAK SPACE}")
    parts = [tag("h1", images.name), tag("p", facts, class_="facts")]
    if len(images.classes) <= SHOWN_CLASSES:
        labels = np.asarray(images.test_labels)
        examples = []
        for index, name in enumerate(images.classes):
            rows = np.flatnonzero(labels == index)
            picture = tag("canvas", class_="thumb", data_row=int(rows[0]), aria_hidden="true") if len(rows) else ""
            examples.append(tag("li", picture, tag("span", name)))
        parts.append(tag("ul", *examples, class_="classes", aria_label="Classes, each with a test image"))
    return join(*parts)


class _Content:
    """The chapters, and what they share: numbered figures and the templates of plotly."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.templates: list[Any] = []
        self._number = count(1)

    def chapter(self, chapter: Chapter) -> Html:
        book = self.book
        found = {
            variant: book.evidence[chapter.artifact, variant]
            for variant in book.variants
            if (chapter.artifact, variant) in book.evidence
        }
        parts: list[str] = [
            tag("p", f"Question{'s' if len(chapter.questions) > 2 else ''} {chapter.questions}", class_="eyebrow"),
            tag("h2", chapter.title),
            tag("p", chapter.question, class_="question"),
        ]
        if found:
            parts.append(numbers(book, chapter.measures, f"{chapter.title} in numbers"))
            if chapter.by_class:
                parts.append(by_class(book, chapter.artifact, *chapter.by_class))
            # One variant's figures stand beside each other; those of several stand row by row.
            drawn = [v for v, e in found.items() if any(_has(e, panel) for panel in chapter.panels)]
            if len(drawn) == 1:
                parts.append(self._together(chapter, drawn[0], found[drawn[0]]))
            else:
                parts += [self._row(chapter, panel, found) for panel in chapter.panels]
        else:
            parts.append(tag("p", "Nothing made for these variants. ", tag("code", chapter.cure), class_="absent"))
        return tag("section", *parts, id=chapter.anchor, class_="chapter")

    def _together(self, chapter: Chapter, variant: str, evidence: Evidence) -> Html:
        """All panels of the only variant that has any, in one row that wraps."""
        cells = []
        kind = "picture"
        for panel in chapter.panels:
            if not _has(evidence, panel):
                continue
            if panel.content == "picture":
                cells.append(self._picture(panel, variant, evidence, panel.label))
            else:
                shown = drawing(evidence.scores.figures[panel.path])
                kind = shown.kind if kind != "plot" else kind
                group = self._group()
                cells.append(
                    self._figure(
                        chapter, panel, variant, shown, [evidence.source], group, panel.label,
                        "" if shown.title == panel.label else shown.title, _legend(shown, group),
                    )
                )  # fmt: skip
        absent = self._absent(chapter, [other for other in self.book.variants if other != variant])
        return _cells(kind, cells, tag("h3", variant), absent)

    def _row(self, chapter: Chapter, panel: Panel, found: Mapping[str, Evidence]) -> Html:
        """One panel of every variant that has it."""
        having = {variant: evidence for variant, evidence in found.items() if _has(evidence, panel)}
        if not having:
            return join()
        absent = self._absent(chapter, [variant for variant in self.book.variants if variant not in having])
        if panel.content == "picture":
            pictures = [self._picture(panel, variant, evidence) for variant, evidence in having.items()]
            note = tag("p", panel.note, class_="title") if panel.note else ""
            return _cells("picture", pictures, join(tag("h3", panel.label), note), absent)
        drawings = {variant: drawing(evidence.scores.figures[panel.path]) for variant, evidence in having.items()}
        if panel.overlay and all(shown.kind == "plot" for shown in drawings.values()):
            sources = [evidence.source for evidence in having.values()]
            cell = self._figure(chapter, panel, "", overlay(drawings), sources, "", None, "", None)
            return _cells("plot", [cell], tag("h3", panel.label), absent)
        # What all figures of the row say stands above it, once: the legend, and the title but for the variant's name.
        group = self._group()
        first = next(iter(drawings.values()))
        common_legend = all(shown.kind == "map" and shown.keys == first.keys for shown in drawings.values())
        titles = {
            shown.title.removeprefix(variant).removesuffix(variant).strip(" ,:–") for variant, shown in drawings.items()
        }
        cells = []
        for variant, shown in drawings.items():
            own = group if common_legend else self._group()
            legend = None if common_legend else _legend(shown, own)
            title = shown.title if len(titles) > 1 else ""
            source = having[variant].source
            cells.append(self._figure(chapter, panel, variant, shown, [source], own, variant, title, legend))
        heading = join(
            tag("h3", panel.label),
            *(tag("p", title, class_="title") for title in titles if len(titles) == 1 and title != panel.label),
            _legend(first, group) or "" if common_legend else "",
        )
        return _cells(first.kind, cells, heading, absent)

    def _group(self) -> str:
        return f"group-{next(self._number)}"

    def _figure(
        self,
        chapter: Chapter,
        panel: Panel,
        variant: str,
        shown: Drawing,
        sources: Sequence[Source],
        group: str,
        heading: str | None,
        title: str,
        legend: Html | None,
    ) -> Html:
        number = next(self._number)
        content: dict[str, Any] = {"kind": shown.kind, **shown.data}
        if shown.kind == "map":
            thumbnails = panel.thumbnails and bool(rows_by_name(shown))
            if thumbnails:
                self._check_rows(shown, sources[0])
            content.update(group=group, link=chapter.artifact, thumbnails=thumbnails)
        else:
            content["layout"] = {**content["layout"], "template": self._template(content["layout"].get("template"))}
        of = f"{panel.label}{' of ' + variant if variant else ''}"
        described = f"{of}. {shown.title}".rstrip(". ") + "."
        if shown.kind == "map":
            described += " Arrow keys step through the points, plus and minus zoom, 0 shows all."
        drawn = tag(
            "div",
            class_=f"drawing {shown.kind}",
            id=f"drawing-{number}",
            role="application" if shown.kind == "map" else "img",
            aria_label=described,
            tabindex=0 if shown.kind == "map" else None,
        )
        return tag(
            "figure",
            tag("h4", heading) if heading else "",
            tag("p", title, class_="title") if title else "",
            legend or "",
            drawn,
            data(content, class_="figure"),
            tag("figcaption", *(_source(source) for source in sources)),
            class_="cell",
        )

    def _check_rows(self, shown: Drawing, source: Source) -> None:
        """The rows that a map names must be test images, and of the class that the map says: else it was made from
        other images, and would show wrong thumbnails."""
        labels = np.asarray(self.book.images.test_labels)
        classes = self.book.images.classes
        for name, rows in rows_by_name(shown).items():
            fits = not len(rows) or (rows.min() >= 0 and rows.max() < len(labels))
            if not fits or (name in classes and (labels[rows] != classes.index(name)).any()):
                raise Problem(
                    f"{source.version.reference} was made from other images than {self.book.images_source.version.reference};"
                    f" remake it: python -m {source.stage} --embeddings {source.asked.partition(':')[2]}"
                )

    def _picture(self, panel: Panel, variant: str, evidence: Evidence, heading: str | None = None) -> Html:
        picture = evidence.scores.pictures[panel.path]
        described = f"{panel.label}, for {variant}."
        queries = evidence.scores.values.get("retrieve/queries")
        if panel.path.startswith("retrieve/") and isinstance(queries, list):
            described += f" One row for each of {len(queries)} queries, the query first."
        described = f"{described} {panel.note}".strip()
        image = tag(
            "img",
            src=address(picture),
            alt=described,
            width=picture.width,
            height=picture.height,
            loading="lazy",
            class_="picture",
        )
        note = tag("p", panel.note, class_="title") if heading and panel.note else ""
        source = tag("figcaption", _source(evidence.source))
        return tag("figure", tag("h4", heading or variant), note, image, source, class_="cell")

    def _absent(self, chapter: Chapter, variants: Iterable[str]) -> Html:
        reasons = [
            f"{v} ({'no figure' if (chapter.artifact, v) in self.book.evidence else self.book.missing(chapter.artifact, v)})"
            for v in variants
        ]
        return tag("p", f"– {', '.join(reasons)}", class_="absent") if reasons else join()

    def _template(self, template: Any) -> int | None:
        """Figures share their template: the page holds each once."""
        if template is None:
            return None
        if template not in self.templates:
            self.templates.append(template)
        return self.templates.index(template)


def _has(evidence: Evidence, panel: Panel) -> bool:
    return panel.path in (evidence.scores.figures if panel.content == "figure" else evidence.scores.pictures)


def _cells(kind: str, cells: Sequence[Html], heading: Html, absent: Html) -> Html:
    """A row of figures; as many columns as leave the fewest gaps."""
    most = COLUMNS[kind]
    columns = min(most, len(cells))
    if kind == "plot" and len(cells) > most:
        columns = 2 if len(cells) == 4 else 4
    inside = tag("div", *cells, class_="cells", style=f"--columns:{columns}")
    return tag("section", heading, inside, absent, class_=f"row {kind}s")


def _legend(shown: Drawing, group: str) -> Html | None:
    """Buttons that hide and show the traces of every map in `group`. A plot brings its own."""
    if shown.kind == "plot":
        return None
    keys = []
    for index, (name, color, symbol) in enumerate(shown.keys):
        swatch = tag("canvas", class_="swatch", data_color=color, data_symbol=symbol, aria_hidden="true")
        keys.append(tag("button", swatch, name, type="button", data_trace=index, aria_pressed="true"))
    return tag("div", *keys, class_="legend", data_group=group, role="group", aria_label="Show or hide")


def _source(source: Source) -> Html:
    """Reference and digest; a click copies the reference, or the command that shows the lineage."""
    version = source.version
    return tag(
        "span",
        tag("button", source.asked, type="button", data_copy=source.asked, title="copy the reference"),
        " → ",
        tag("button", version.reference, type="button", data_copy=version.reference, title="copy the version"),
        " ",
        tag("code", version.digest[:12], title=version.digest, class_="digest"),
        " ",
        tag("button", "lineage", type="button", data_copy=source.lineage, title=f"copy: {source.lineage}"),
        class_="source",
    )


def _sources(book: Book) -> Html:
    """Every artifact that the page shows, with whole digests."""
    head = [tag("th", text, scope="col") for text in ("Reference", "Version", "Digest", "Made by", "Its lineage")]
    rows = []
    for source in (book.images_source, *(evidence.source for evidence in book.evidence.values())):
        version = source.version
        rows.append(
            tag(
                "tr",
                tag("th", _copy(source.asked), scope="row"),
                tag("td", _copy(version.reference)),
                tag("td", tag("code", version.digest)),
                tag("td", source.stage),
                tag("td", _copy(source.lineage)),
            )
        )
    table = tag("table", tag("caption", "What this page shows, and nothing else"),
                tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sources")  # fmt: skip
    command = f"python -m train.tracking lineage report:{book.images_source.asked.partition(':')[2]}"
    return join(
        tag("p", "The whole chain, from this page down to the images: ", _copy(command)),
        tag("div", table, class_="box", tabindex=0, role="region", aria_label="Sources"),
    )


def _copy(text: str) -> Html:
    return tag("button", tag("code", text), type="button", data_copy=text, title="copy", class_="copy")
