"""Embeds images by Laplacian Eigenmaps of their neighbor graph. Transductive: train and test images are embedded together,
and no others can be; so it publishes embeddings, not an encoder. An interrupted run starts over."""

from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from train.data.embeddings import Embeddings, Vectors
from train.data.images import Images
from train.data.neighbors import build, nearest
from train.data.views import batch, normalize
from train.methods.eigenmaps import Eigenmaps, Graph, component_labels, eigenmaps, neighbor_graph
from train.methods.ranges import AtLeast, check_ranges, fit_default
from train.tracking import Command, Problem, Stage
from train.tracking.panels import color, figure

BATCH = 1000  # images that are normalized at once


@dataclass(frozen=True)
class Config:
    images: str | None = None
    """Alias of the images, to take distances between their normalized pixels; give these or --embeddings."""
    embeddings: str | None = None
    """Alias of the embeddings to take distances between (L2, of the representation); the exercise's are an untrained
    network's."""
    k: Annotated[int, AtLeast(1)] = 10
    """Neighbors of each image in the graph; the default takes more where it falls apart into too many parts. With 10 the
    graphs of digits and of CIFAR-10 are connected (with 5 the digits fall apart), and on held-out training images of CIFAR-10
    a probe moves by less than a point between 10 and 20."""
    dimension: Annotated[int, AtLeast(1)] = 128
    """Dimensions of the representation: the smallest eigenvectors, but for the constant one; of fewer images all others."""
    count: Annotated[int, AtLeast(0)] = 0
    """Training images to embed, drawn by the seed of the embeddings (0 with --images); 0 is all. The test images are always all embedded, so
    that accuracies are over the same images as other methods'."""

    def __post_init__(self) -> None:
        if (self.images is None) == (self.embeddings is None):
            raise Problem("distances are taken between pixels or between embeddings: give --images or --embeddings")
        check_ranges(self)


PARTS = ("k", "dimension", "count")  # of a variant's name, where they are not the defaults


def main(config: Config) -> None:
    with Stage("train.eigenmaps", config) as stage:
        embeddings = stage.fetch("embeddings", config.embeddings) if config.embeddings else None
        source = Embeddings.load(embeddings.folder) if embeddings else None
        pictures = stage.fetch("images", config.images or str(embeddings and embeddings.dataset))
        images = Images.load(pictures.folder)
        stage.about(embeddings or pictures)
        if embeddings and source:
            check(source, str(config.embeddings), embeddings.alias)
            embeddings.check_made_from(pictures)
            source.check_of(images)
        seed = stage.seed or 0
        stage.introduce(variant=variant_name(config, images.name, stage.variant), seed=seed)

        rows = subset(len(images.train), config.count, seed)
        vectors = np.concatenate([source.train[rows], source.test]) if source else pixels(images, rows)
        k, dimension = (
            fit_default(name, getattr(config, name), getattr(Config, name), len(vectors) - 1)
            for name in ("k", "dimension")
        )
        graph = graph_of(vectors, k, dimension, grows=config.k == Config.k)
        maps = eigenmaps(graph, dimension, seed)
        report(stage, maps, graph.nnz // 2)

        train, test = maps.vectors[: len(rows)], maps.vectors[len(rows) :]
        labels = np.array(images.train_labels[rows]), np.array(images.test_labels)
        result = Embeddings(
            images.classes, train, test, train, test, *labels, transductive=True, duplicates=images.duplicates
        )
        parts = len(maps.components)
        stage.finding = (
            f"eigenmaps {stage.alias}: {dimension:,} dimensions of {len(vectors):,} images with {k} neighbors each,"
            f" {f'{parts:,} parts' if parts > 1 else 'a connected graph'}"
        )
        stage.publish("embeddings", result.save)


def variant_name(config: Config, dataset: str, source: str | None) -> str:
    """`digits-eigenmaps`, then settings that are not the defaults, then what distances were taken on, but for the exercise's
    choice, `digits-untrained`. source: the embeddings' variant; None: pixels."""
    defaults = {field.name: field.default for field in fields(Config)}
    settings = [f"{name}{getattr(config, name)}" for name in PARTS if getattr(config, name) != defaults[name]]
    added = "pixels" if source is None else source.removeprefix(f"{dataset}-")
    return "-".join([dataset, "eigenmaps", *settings, *([added] if added != "untrained" else [])])


def check(source: Embeddings, reference: str, alias: str) -> None:
    """Raises Problem where the embeddings `reference` are of other images than the variant's own, whose name the result would
    take, or are no encoder's."""
    if not source.own:
        raise Problem(
            f"{reference!r} are embeddings of other images than those {alias} was made from; name {alias} itself"
        )
    if source.transductive:
        raise Problem(f"{reference!r} are Laplacian Eigenmaps already; name embeddings by an encoder")


def subset(n: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` of n rows in ascending order, drawn so that fewer are among more; all for 0. Raises Problem above n."""
    if count > n:
        raise Problem(f"--count {count} is more than the {n} training images; give {n} or less, or 0 for all")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: count or n])


def graph_of(vectors: Vectors, k: int, dimension: int, grows: bool) -> Graph:
    """The neighbor graph. grows: k is doubled while so many components are apart, as copies of an image are with k of them,
    that the dimensions could only tell those."""
    while True:
        _, ids = nearest(build(vectors), vectors, vectors, k, among_themselves=True)
        graph = neighbor_graph(ids)
        if not grows or k == len(vectors) - 1 or component_labels(graph).max() < dimension:
            return graph
        k = min(2 * k, len(vectors) - 1)
        print(f"--k {k}: with fewer neighbors the graph falls apart into more than {dimension} parts")


def pixels(images: Images, rows: NDArray[np.int64]) -> Vectors:
    """Normalized pixels of the training images `rows`, then of all test images: (n, 3 * size * size) float32."""
    mean, std = torch.tensor(images.mean), torch.tensor(images.std)
    vectors = np.empty((len(rows) + len(images.test), 3 * images.size**2), np.float32)
    for split, places, first in ((images.train, rows, 0), (images.test, np.arange(len(images.test)), len(rows))):
        for start in range(0, len(places), BATCH):
            planes = normalize(batch(split, places[start : start + BATCH]), mean, std)
            vectors[first + start :][: len(planes)] = planes.flatten(1).numpy()
    return vectors


def report(stage: Stage, maps: Eigenmaps, edges: int) -> None:
    """Says and logs what the graph is like."""
    sizes = ", ".join(map(str, maps.components[:5])) + (", ..." if len(maps.components) > 5 else "")
    print(f"graph: {len(maps.vectors)} images, {edges} edges, connected components of {sizes} images")
    stage.log({"eigenmaps/edges": edges, "eigenmaps/components": len(maps.components)})
    stage.panel("eigenmaps/spectrum", spectrum_figure(maps))


def spectrum_figure(maps: Eigenmaps) -> object:
    import plotly.graph_objects as go

    dimensions = np.arange(1, len(maps.eigenvalues) + 1)
    line = go.Scatter(x=dimensions, y=maps.eigenvalues, mode="lines+markers", line={"color": color(0)})
    title = f"Spectrum of the graph's Laplacian (connected components: {len(maps.components)})"
    return figure(title, "dimension", "eigenvalue", [line])


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
