"""The lineage of a variant as a graph: a line an artifact, from the images down to the page, and what was made from what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.evidence.readings import Reading
from eval.labbook.book import Book
from eval.labbook.markup import Html, join, tag

LINE, STEP, LANE = 42, 15, 6  # pixels: of a line, to the right for what is made from it, and for what is made beside it
LETTER = 7.4  # pixels that a letter takes at most
PAGE = "page"


@dataclass(frozen=True)
class Node:
    """reference: as one asks for it. version, digest: what that names; empty where the page cannot know. inputs: keys."""

    reference: str
    version: str
    digest: str
    inputs: tuple[str, ...]


def lineages(book: Book) -> Html:
    """The graph of each variant; the page's script shows that of the chosen one."""
    subject = book.variant(book.study.subject)
    first = subject if subject in book.variants else book.variants[0]
    return join(*(_drawn(book, variant, hidden=variant != first) for variant in book.variants))


def nodes(book: Book, variant: str) -> dict[str, Node]:
    """By `name@digest` what the page shows of a variant and all that this was made from, in the order made."""
    readings = [reading for (_, owner), reading in book.evidence.items() if owner == variant]
    ends = [key(reading) for reading in readings]
    shared = [reading for reading in (book.compare, book.claims) if reading]
    chain: dict[str, Node] = {}

    def visit(entry: str) -> None:
        if entry not in chain and entry in book.ancestors:
            ancestor = book.ancestors[entry]
            for parent in ancestor.inputs:
                visit(parent)
            chain[entry] = ancestor

    for entry in (f"images@{book.images_source.version.digest}", *ends):
        visit(entry)
    for reading in shared:  # made from all variants: of those that it read, this one's are drawn
        ancestor = book.ancestors[key(reading)]
        chain[key(reading)] = Node(
            ancestor.reference,
            ancestor.version,
            ancestor.digest,
            tuple(entry for entry in ancestor.inputs if entry in chain),
        )
    alias = book.study.alias(book.dataset)
    chain[PAGE] = Node(f"report:{alias}", "this page", "", tuple(chain))
    return chain


def key(reading: Reading) -> str:
    version = reading.source.version
    return f"{version.name}@{version.digest}"


def reduced(graph: Mapping[str, Node]) -> dict[str, set[str]]:
    """The inputs of each node that no other of its inputs was made from: what an edge is drawn for."""
    above: dict[str, set[str]] = {}
    edges: dict[str, set[str]] = {}
    for name, node in graph.items():
        inputs = {entry for entry in node.inputs if entry in graph and entry != name}
        edges[name] = {entry for entry in inputs if not any(entry in above[other] for other in inputs)}
        above[name] = inputs.union(*(above[entry] for entry in inputs))
    return edges


def depths(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """How many steps each node is from what was made from nothing. edges: what is made before what it is made into."""
    depth: dict[str, int] = {}
    for name, inputs in edges.items():
        depth[name] = max((depth[entry] + 1 for entry in inputs), default=0)
    return depth


def _drawn(book: Book, variant: str, hidden: bool) -> Html:
    graph = nodes(book, variant)
    edges = reduced(graph)
    depth = depths(edges)
    order = sorted(graph, key=lambda name: depth[name])  # stable: else in the order made
    places: dict[str, tuple[int, int]] = {}
    x = 8
    for index, name in enumerate(order):
        # Ever further right, so that no edge crosses a text: an edge goes down from its upper end, then right.
        x += 0 if not index else STEP if depth[name] > depth[order[index - 1]] else LANE
        places[name] = (x, index * LINE + 16)
    lines = [
        tag("path", d=_path(places[above], places[name]), class_="edge")
        for name in order
        for above in sorted(edges[name], key=lambda entry: places[entry])
    ]
    marks = [_node(graph[name], places[name]) for name in order]
    width = max(places[name][0] + 16 + LETTER * max(map(len, _texts(graph[name]))) for name in order)
    picture = tag(
        "svg",
        tag("title", f"What the page shows of {variant}, and what that was made from"),
        *lines,
        *marks,
        width=round(width),
        height=len(order) * LINE,
        role="img",
    )
    head = tag("h3", f"From the images to this page: {variant}")
    box = tag("div", picture, class_="box", tabindex=0, role="region", aria_label=f"Lineage of {variant}")
    return tag("section", head, box, class_="lineage", data_lineage=variant, hidden=hidden)


def _path(above: tuple[int, int], below: tuple[int, int]) -> str:
    (x, top), (end, y) = above, below
    bend = min(6, max(end - x, 0))
    return f"M{x} {top}V{y - bend}Q{x} {y} {x + bend} {y}H{end}"


def _texts(node: Node) -> Sequence[str]:
    return node.reference, f"{node.version} {node.digest[:12]}".strip()


def _node(node: Node, place: tuple[int, int]) -> Html:
    x, y = place
    reference, version = _texts(node)
    return tag(
        "g",
        tag("title", f"{reference} {node.version} {node.digest}".strip()),
        tag("circle", cx=x, cy=y, r=5),
        tag("text", reference, x=x + 14, y=y + 1, class_="reference"),
        tag("text", version, x=x + 14, y=y + 16, class_="version"),
    )
