"""The retrieved images query by query: below each query a row a variant, so that methods are compared on the same image."""

from collections.abc import Sequence

import PIL.Image

from eval.evidence.pictures import GAP
from eval.labbook.book import Book
from eval.labbook.markup import Html, join, panel_id, tag
from eval.labbook.thumbnails import address
from train.data.images import class_name

KINDS = {"retrieve/nearest": "nearest", "retrieve/farthest": "most distant"}  # panel path: what it shows


def queries(book: Book, variants: Sequence[str]) -> Html:
    """Variants that were not asked about the same images as the first are named, and not shown.

    The published pictures hold a row for each query, the query first, apart from the images that it found.
    """
    rows_of = {variant: book.value("retrieve", variant, "retrieve/queries") for variant in variants}
    present = [variant for variant in variants if rows_of[variant] and _pictures(book, variant)]
    if not present:
        return join()
    rows = rows_of[present[0]]
    assert isinstance(rows, list)
    alike = [variant for variant in present if rows_of[variant] == rows]
    # Where a claim's link to a variant's picture leads.
    anchors = [
        tag("span", id=panel_id("retrieve", variant, path), class_="anchor") for variant in alike for path in KINDS
    ]
    blocks = [_query(book, alike, row, place, len(rows)) for place, row in enumerate(rows)]
    others = [variant for variant in present if variant not in alike]
    notes = [tag("span", f"– {other} (other query images than {present[0]}) ", data_variant=other) for other in others]
    return join(*anchors, *blocks, tag("p", *notes, class_="absent") if notes else "")


def _pictures(book: Book, variant: str) -> dict[str, PIL.Image.Image] | None:
    """None where one is missing, or has less than a line of pixels a query."""
    evidence = book.evidence.get(("retrieve", variant))
    pictures = evidence.scores.pictures if evidence else {}
    rows = book.value("retrieve", variant, "retrieve/queries")
    least = GAP + (len(rows) if isinstance(rows, list) else 0)
    return pictures if all(path in pictures and pictures[path].height >= least for path in KINDS) else None


def _query(book: Book, variants: Sequence[str], row: int, place: int, count: int) -> Html:
    """row: of the query among the training images. place: of its row in the pictures, which have `count`."""
    name = class_name(book.images.classes, int(book.images.train_labels[row]))
    first = (_pictures(book, variants[0]) or {})["retrieve/nearest"]
    query = _image(_cut(first, place, count)[0], f"The query, training image {row}: {name}.")
    head = tag("tr", tag("th", "Variant", scope="col"), *(tag("th", kind, scope="col") for kind in KINDS.values()))
    body = []
    for variant in variants:
        pictures = _pictures(book, variant) or {}
        cells = [
            tag("td", _image(_cut(pictures[path], place, count)[1], f"{name}: the {kind} images for {variant}."))
            for path, kind in KINDS.items()
        ]
        body.append(tag("tr", tag("th", variant, scope="row"), *cells, data_variant=variant))
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="strips")
    box = tag("div", table, class_="box", tabindex=0, role="region", aria_label=f"Images found for {name}")
    return tag("section", tag("h4", name), query, box, class_="query")


def _cut(picture: PIL.Image.Image, place: int, count: int) -> tuple[PIL.Image.Image, PIL.Image.Image]:
    """The query and the images that it found, of one row of a published picture (eval.evidence.pictures.grid)."""
    step = (picture.height - GAP) // count
    top, bottom = place * step, place * step + step + GAP
    query = picture.crop((0, top, min(step + GAP, picture.width), bottom))
    results = picture.crop((min(step + step // 4, picture.width - 1), top, picture.width, bottom))
    return query, results


def _image(picture: PIL.Image.Image, described: str) -> Html:
    return tag(
        "img",
        src=address(picture),
        alt=described,
        width=picture.width,
        height=picture.height,
        decoding="async",
        class_="picture",
    )
