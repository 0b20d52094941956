"""The probe's most certain mistakes. A probe publishes no probabilities: its layer is fitted again, on the embeddings that
it was made from and with the penalty that it chose, which takes seconds."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.evidence.mistakes import Mistake, certain_mistakes
from eval.evidence.numbers import number
from eval.labbook.book import Book
from eval.labbook.markup import Html, join, panel_id, tag
from eval.labbook.opening import best_variant
from train.data.embeddings import Embeddings
from train.tracking import Input, Problem
from train.tracking.stage import Stage

COUNT = 24  # mistakes of a variant


@dataclass(frozen=True)
class Gallery:
    """source: the embeddings that the probe was made from."""

    source: Input
    mistakes: Sequence[Mistake]


def with_mistakes(stage: Stage, book: Book) -> Book:
    """The book with the mistakes of its subject and of its best variant, as far as their embeddings are here."""
    variants = dict.fromkeys(filter(None, (book.variant(book.study.subject), best_variant(book))))
    galleries = {}
    for variant in variants:
        with contextlib.suppress(
            Problem
        ):  # embeddings that are damaged, or at no server: all else is shown without them
            if gallery := _gallery(stage, book, variant):
                galleries[variant] = gallery
    return replace(book, galleries=galleries)


def _gallery(stage: Stage, book: Book, variant: str) -> Gallery | None:
    """None where there is no probe, or not what it was made from."""
    from eval.evidence.linear_probe import refit  # late: torch takes two seconds

    reading = book.evidence.get(("probe", variant))
    penalty = reading.scores.values.get("probe/regularisation") if reading else None
    if reading is None or not isinstance(penalty, int | float):
        return None
    made_from = [entry for entry in reading.source.origin.inputs if entry.startswith("embeddings@")]
    here = stage.store.find("embeddings", reading.source.alias)
    if here is None or f"embeddings@{here.digest}" not in made_from:
        return None
    source = stage.fetch("embeddings", reading.source.alias)
    embeddings = Embeddings.load(source.folder)
    embeddings.check_of(book.images)
    labels = np.asarray(embeddings.test_labels)
    rows = np.flatnonzero(np.asarray(embeddings.train_labels) >= 0)
    logits = refit(
        embeddings.train[rows],
        embeddings.train_labels[rows],
        embeddings.test,
        len(embeddings.classes),
        float(penalty),
    )
    right = reading.scores.samples.get("probe/top1")
    if right is not None and len(right) == len(labels):  # what the probe got right is no mistake of its
        labels = np.where(right, -1, labels)
    return Gallery(source, certain_mistakes(logits, labels, COUNT))


def mistakes(book: Book) -> Html:
    """Each variant's mistakes: image, class, what it was taken for, how sure the probe was. A click shows the point in the
    variant's map, where it has one."""
    parts = []
    for variant, gallery in book.galleries.items():
        shown = _map(book, variant)
        items = [tag("li", _card(book, mistake, shown)) for mistake in gallery.mistakes]
        inside = tag("ul", *items, class_="mistakes") if items else tag("p", "None: every test image is right.")
        note = " A click shows the point in the map." if shown and items else ""
        head = tag("h3", f"{variant}: {'the' if len(items) == COUNT else 'all'} {len(items)}" if items else variant)
        parts.append(tag("section", head, tag("p", note, class_="title"), inside, class_="row", data_variant=variant))
    return join(
        tag("p", "Which test images is the probe wrong about, and surest of?", class_="question"),
        *parts,
    )


def _card(book: Book, mistake: Mistake, shown: str | None) -> Html:
    classes = book.images.classes
    parts = (
        tag("canvas", class_="thumb", data_row=mistake.row, aria_hidden="true"),
        tag("span", tag("strong", classes[mistake.true]), " taken for ", tag("strong", classes[mistake.taken])),
        tag("small", f"{number(mistake.certainty, 'percent')} sure"),
    )
    if shown is None:
        return tag("div", *parts, class_="mistake")
    return tag("button", *parts, type="button", class_="mistake", data_point=mistake.row, data_map=shown)


def _map(book: Book, variant: str) -> str | None:
    """The id of the last panel of a variant that shows test images as points."""
    panels = [panel for chapter in book.study.chapters for panel in chapter.panels if panel.thumbnails]
    ids = [panel_id(p.artifact, variant, p.path) for p in panels if book.shows(p.artifact, variant, p.path)]
    return ids[-1] if ids else None
