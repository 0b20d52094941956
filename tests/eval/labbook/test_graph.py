"""The lineage of a variant: which edges are drawn, and where."""

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from eval.labbook.graph import PAGE, Node, depths, lineages, nodes, reduced
from tests.parts.shapes import FULL, NEIGHBORS, VARIANTS, collect, filled, publish_compare, text
from train.tracking.store import Store


@pytest.fixture
def everything(peel_home: Path) -> None:
    shutil.copytree(filled(), peel_home)


INPUTS = {
    "images": (), "encoder": ("images",), "embeddings": ("images", "encoder"), "neighbors": ("embeddings",),
    "probe": ("embeddings",), "retrieve": ("images", "embeddings", "neighbors"), "compare": ("probe", "retrieve"),
    "page": ("images", "probe", "retrieve", "compare"),
}  # fmt: skip


def test_an_edge_is_drawn_where_no_longer_way_leads() -> None:
    graph = {name: Node(name, "v0", "", inputs) for name, inputs in INPUTS.items()}
    names = list(INPUTS)
    step = np.array([[above in INPUTS[name] for name in names] for above in names], dtype=int)  # [above, below]
    powers = [np.linalg.matrix_power(step, length) for length in range(1, len(names) + 1)]  # ways of so many steps
    longer = sum(powers[1:]) > 0
    edges = reduced(graph)
    assert {(above, name) for name in edges for above in edges[name]} == {
        (names[above], names[below]) for above, below in np.argwhere((step > 0) & ~longer)
    }
    assert depths(edges) == {
        name: max((length for length, ways in enumerate(powers, 1) if ways[:, place].any()), default=0)
        for place, name in enumerate(names)
    }


def test_each_node_has_the_reference_and_the_digest_of_the_store(everything: None) -> None:
    publish_compare({})
    book = collect()
    with contextlib.closing(Store()) as store:
        graph = nodes(book, FULL)
        names = [node.reference for node in graph.values()]
        assert names[0] == "images:shapes" and names[-1] == "report:shapes" and f"probe:{FULL}" in names
        assert not any(NEIGHBORS in name for name in names)
        for entry, node in graph.items():
            if entry != PAGE:
                version = store.find(*node.reference.split(":"))
                assert version and (version.reference, version.digest) == (node.version, node.digest)
                assert entry == f"{version.name}@{version.digest}"


def test_there_is_a_graph_for_each_variant_and_that_of_the_subject_is_shown(everything: None) -> None:
    markup = lineages(collect())
    sections = re.findall(r'<section class="lineage" data-lineage="([^"]+)"( hidden)?>(.*?)</section>', markup, re.S)
    assert [name for name, _, _ in sections] == list(VARIANTS)
    assert [name for name, hidden, _ in sections if not hidden] == [FULL]
    for name, _, picture in sections:
        assert f"probe:{name}" in text(picture) and "report:shapes this page" in text(picture)


def test_no_edge_crosses_a_text(everything: None) -> None:
    """Texts begin to the right of their node, and nodes lie ever further right: an edge goes down left of all later ones."""
    for picture in re.findall(r"<svg.*?</svg>", lineages(collect()), re.S):
        nodes_at = [(int(x), int(y)) for x, y in re.findall(r'<circle cx="(\d+)" cy="(\d+)"', picture)]
        assert nodes_at == sorted(nodes_at) == sorted(nodes_at, key=lambda place: place[1])
        assert len({x for x, _ in nodes_at}) == len(nodes_at)
