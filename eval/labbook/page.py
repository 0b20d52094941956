"""The lab book as one HTML file: everything inside it, nothing fetched, the same bytes for the same evidence."""

import base64
import hashlib
import importlib.resources
import string

import numpy as np
import plotly.offline

from eval.labbook import claims as verdicts
from eval.labbook.answers import answer
from eval.labbook.book import Book, lineage
from eval.labbook.chapter import Chapter
from eval.labbook.drawings import style
from eval.labbook.floors import floors
from eval.labbook.gallery import mistakes
from eval.labbook.graph import lineages
from eval.labbook.markup import Html, data, join, tag
from eval.labbook.opening import opening
from eval.labbook.panels import Panels
from eval.labbook.tables import by_class, numbers, summary
from eval.labbook.thumbnails import Sprite
from train.data.images import UNLABELED, Images

SCRIPTS = ("figures.js", "maps.js", "controls.js")
LEFT_OUT = (
    "What reads or compares classes is left out: probes, nearest neighbors' accuracy, purity, agreement of clusters with classes."
    " Training, collapse, maps, retrieval, clusters and anomalies need no label."
)
SHOWN_CLASSES = 20  # more have no example image in the head of the page


def render(book: Book) -> str:
    """The page. Raises Problem where a map's points and the images of the data set do not fit together."""
    sprite = Sprite.of(book.images.test)
    panels = Panels(book)
    chapters = [_chapter(book, chapter, panels) for chapter in book.study.chapters]
    # The end of a script element is the only text that could end it.
    plotly_js = plotly.offline.get_plotlyjs().replace("</script", "<\\/script")
    script = "\n".join(file(name) for name in SCRIPTS)
    return string.Template(file("template.html")).substitute(
        policy=policy(plotly_js, script),
        title=tag("title", f"{book.images.name}: lab book{'' if book.study.default else f' of {book.study.name}'}"),
        style=file("style.css"),
        contents=_contents(book),
        head=_head(book),
        findings=opening(book),
        toggles=_toggles(book),
        chosen=_chosen(book),
        summary=summary(book),
        chapters=join(*chapters),
        floors=section("floors", "Floors", floors(book, book.study.floors)) if book.study.floors else "",
        mistakes=section("mistakes", "Most certain mistakes", mistakes(book)) if book.galleries else "",
        claims=section("claims", "Claims", verdicts.table(book)) if book.study.claims else "",
        sources=_sources(book),
        sprite=tag("img", id="sprite", hidden=True, alt="", src=sprite.address),
        settings=data({"size": sprite.size, "columns": sprite.columns, "templates": panels.templates}, id="settings"),
        plotly=plotly_js,
        script=script,
    )


def file(name: str) -> str:
    """One of the files beside this one."""
    return importlib.resources.files("eval.labbook").joinpath(name).read_text(encoding="utf-8")


def policy(*scripts: str) -> str:
    """What the browser lets the page do: run these very scripts, show what is inside it, and ask no host for anything."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def section(anchor: str, title: str, content: Html) -> Html:
    return tag("section", tag("h2", title), content, id=anchor, class_="chapter")


def _contents(book: Book) -> Html:
    study = book.study
    entries = [("findings", "", "What was found"), ("summary", "", "Side by side")]
    entries += [("floors", "", "Floors")] if study.floors else []
    entries += [(c.anchor, str(c.number), c.title) for c in study.chapters]
    entries += [("mistakes", "", "Most certain mistakes")] if book.galleries else []
    entries += [("claims", "", "Claims")] if study.claims else []
    entries += [("sources", "", "Sources")]
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
        f"{_classes(images)}"
    ).replace(",", "\N{NARROW NO-BREAK SPACE}")
    asked = [] if book.study.default else [tag("p", book.study.question, class_="question")]
    parts = [tag("h1", images.name), *asked, tag("p", facts, class_="facts"), *_warnings(book)]
    if not images.labeled:
        parts.append(tag("p", tag("strong", "Unlabeled. "), LEFT_OUT, class_="facts", role="note"))
    if 0 < len(images.classes) <= SHOWN_CLASSES:
        labels = np.asarray(images.test_labels)
        examples = []
        for index, name in enumerate(images.classes):
            rows = np.flatnonzero(labels == index)
            picture = tag("canvas", class_="thumb", data_row=int(rows[0]), aria_hidden="true") if len(rows) else ""
            examples.append(tag("li", picture, tag("span", name)))
        parts.append(tag("ul", *examples, class_="classes", aria_label="Classes, each with a test image"))
    return join(*parts)


def _classes(images: Images) -> str:
    """What the first line says of classes, and of how many images they are known where not of all."""
    labels = np.concatenate([images.train_labels, images.test_labels])
    count = int((labels != UNLABELED).sum())
    if not count:
        return "; unlabeled"
    of = "" if count == len(labels) else f"; {count:,} of all have labels"
    return f" in {len(images.classes)} classes{of}"


def _warnings(book: Book) -> list[Html]:
    """Of equal images: what is measured on them says little."""
    against = [book.value("anomaly", variant, "anomaly/duplicates") for variant in book.variants]
    texts = [f"{book.images.name}: {book.images.duplicates}"] if book.images.duplicates else []
    texts += [f"{book.anomalies}: {text}" for text in dict.fromkeys(map(str, filter(None, against)))]
    return [tag("p", tag("strong", "Equal images. "), text, class_="facts", role="note") for text in texts]


def _toggles(book: Book) -> Html:
    """A button for each variant, with the line and the marker that it has in every figure."""
    buttons = []
    for index, variant in enumerate(book.variants):
        look = style(index)
        swatch = tag("canvas", class_="swatch", aria_hidden="true",
                     data_color=look.color, data_symbol=look.symbol, data_dash=look.dash)  # fmt: skip
        name = variant.removeprefix(f"{book.dataset}-")
        buttons.append(tag("button", swatch, name, type="button", data_toggles=variant, aria_pressed="true",
                           title=f"{variant}: click to hide or show it, with Shift to show nothing else"))  # fmt: skip
    return join(*buttons)


def _chosen(book: Book) -> Html:
    """Which variant is marked everywhere, stands first on a phone, and has its lineage drawn: at first the study's subject."""
    subject = book.variant(book.study.subject)
    options = [
        tag("option", variant.removeprefix(f"{book.dataset}-"), value=variant, selected=variant == subject)
        for variant in book.variants
    ]
    return tag("select", *options, id="chosen", aria_label="Chosen variant", autocomplete="off",
               title="Marked in every table, first on a phone; its lineage is drawn")  # fmt: skip


def _chapter(book: Book, chapter: Chapter, panels: Panels) -> Html:
    parts: list[str] = [
        tag("p", f"Question {chapter.number}", class_="eyebrow"),
        tag("h2", chapter.title),
        tag("p", chapter.question, class_="question"),
        panels.of(chapter),
    ]
    variants = chapter.variants(book)
    if chapter.measures:
        parts.append(numbers(book, chapter.measures, variants, f"{chapter.title} in numbers"))
    if chapter.by_class and book.images.labeled:
        parts.append(by_class(book, "probe", *chapter.by_class))
    return tag("section", *parts, answer(book, chapter), id=chapter.anchor, class_="chapter")


def _sources(book: Book) -> Html:
    """Every artifact that the page shows, with whole digests."""
    head = [tag("th", text, scope="col") for text in ("Reference", "Version", "Digest", "Made by", "Its lineage")]
    rows = []
    for source in book.sources:
        version = source.version
        rows.append(
            tag(
                "tr",
                tag("th", _copy(source.request), scope="row"),
                tag("td", _copy(version.reference)),
                tag("td", tag("code", version.digest)),
                tag("td", source.origin.stage),
                tag("td", _copy(lineage(source))),
            )
        )
    table = tag("table", tag("caption", "What this page shows, and nothing else"),
                tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sources sortable")  # fmt: skip
    command = f"python -m train.tracking lineage report:{book.study.alias(book.dataset)}"
    return join(
        lineages(book),
        tag("p", "The whole chain, from this page down to the images: ", _copy(command)),
        tag("div", table, class_="box", tabindex=0, role="region", aria_label="Sources"),
    )


def _copy(text: str) -> Html:
    return tag("button", tag("code", text), type="button", data_copy=text, title="copy", class_="copy")
