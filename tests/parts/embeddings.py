"""Embeddings whose structure is known, and their publication for tests of the stages that read them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.embeddings import Embeddings
from train.tracking.stage import Stage


@dataclass(frozen=True)
class NoConfig:
    """The configuration under which a test publishes: none."""


def blobs(classes: int, n: int, dimensions: int, seed: int, distance: float = 10.0, head: bool = True) -> Embeddings:
    """Normal clouds of standard deviation 1, one a class and n images each in train and in test.

    Centers stand on the axes, `distance` from the origin (0: the labels say nothing). Features are a rotation of the
    representation when there is a head. Rows are shuffled.
    """
    if classes > dimensions:
        raise ValueError(f"{classes} axes in {dimensions} dimensions")
    rng = np.random.default_rng(seed)
    centers = distance * np.eye(classes, dimensions)
    arrays: dict[str, Any] = {}
    rotation = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]
    for split in ("train", "test"):
        labels = rng.permutation(np.repeat(np.arange(classes), n)).astype(np.int64)
        vectors = (centers[labels] + rng.normal(size=(len(labels), dimensions))).astype(np.float32)
        arrays[split] = vectors
        arrays[f"{split}_features"] = (vectors @ rotation).astype(np.float32) if head else vectors
        arrays[f"{split}_labels"] = labels
    return Embeddings(tuple(f"class {index}" for index in range(classes)), **arrays, own=True)


def correlated(classes: int, n: int, dimensions: int, seed: int) -> Embeddings:
    """Classes that overlap, in dimensions that are correlated and have means and scales of their own, as features do."""
    embeddings = blobs(classes, n, dimensions, seed, distance=2)
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) * np.geomspace(1, 100, dimensions)
    shift = rng.normal(size=dimensions) * 10
    train, test = ((vectors @ mixing + shift).astype(np.float32) for vectors in (embeddings.train, embeddings.test))
    return replace(embeddings, train=train, test=test)


def publish_embeddings(
    embeddings: Embeddings,
    variant: str = "blobs-vicreg",
    seed: int = 0,
    dataset: str = "blobs",
    fields: Mapping[str, object] | None = None,
) -> str:
    """Publishes into the local store as eval.embed would; returns the alias. `fields` as for `Stage.publish`."""
    with Stage("eval.embed", NoConfig()) as stage:
        stage.dataset, stage.variant, stage.seed = dataset, variant, seed
        stage.publish("embeddings", embeddings.save, fields)
        return stage.alias


def numbers(array: Any) -> NDArray[Any]:
    """An array of a figure that was read back: plotly writes them as base64."""
    if not isinstance(array, dict):
        return np.asarray(array)
    flat = np.frombuffer(base64.b64decode(array["bdata"]), np.dtype(array["dtype"]))
    shape = str(array.get("shape", flat.size))
    return flat.reshape([int(extent) for extent in shape.split(",")])
