"""A chapter of the lab book: a question, the figures and numbers that bear on it, and how its answer is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from eval.evidence.measures import Measure

if TYPE_CHECKING:
    from eval.labbook.book import Book
    from eval.labbook.writing import Writer


@dataclass(frozen=True)
class Panel:
    """A figure or picture of every variant, side by side; `overlay` puts the variants' curves into one figure.

    content: "queries" is a picture with a row for each query image, shown query by query. only: of an overlay, the name
    of the traces that it takes. measure: of an overlay, whose value and interval its legend has, as the tables do. thumbnails: pointing at a point shows the test image whose row the figure carries.
    note: how to read it.
    """

    artifact: str
    path: str
    label: str
    content: Literal["figure", "picture", "queries"] = "figure"
    overlay: bool = False
    only: str | None = None
    measure: Measure | None = None
    thumbnails: bool = False
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """number: of its question, which claims name. answer: writes the sentences from the scores. rule: by which rule their
    words are chosen, for the reader. representations: those that it is about, all where none is named.
    side_by_side: all panels of a variant stand in one row, instead of one panel of all variants.
    by_class: path in `probe` and title of a table with a column a class."""

    number: int
    anchor: str
    title: str
    question: str
    panels: tuple[Panel, ...]
    measures: tuple[Measure, ...]
    answer: "Callable[[Writer], None]"
    rule: str = ""
    representations: tuple[str, ...] = ()
    side_by_side: bool = False
    by_class: tuple[str, str] | None = None

    def variants(self, book: "Book") -> tuple[str, ...]:
        """Those that it shows, in the order of the book."""
        own = [book.variant(name) for name in self.representations]
        return tuple(variant for variant in book.variants if not own or variant in own)


# What chapters of several studies show.
PCA = Panel("project", "project/pca", "PCA", thumbnails=True)
TSNE = Panel("project", "project/tsne", "t-SNE", thumbnails=True)
PER_CLASS = Panel("probe", "probe/per_class", "Accuracy of the probe, by class", overlay=True, only="representation")
COLLAPSE = Panel("training", "training/collapse", "Effective rank during training", overlay=True, only="effective rank")
