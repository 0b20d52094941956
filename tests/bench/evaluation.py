"""The evaluations, each against the plain way to do the same, and what a stage costs beyond its work."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from eval.embed import Config, embed
from eval.evidence.clustering import silhouettes
from eval.evidence.linear_probe import GRID, Standardisation, linear_probe, validation_rows
from eval.evidence.maps import tsne
from sweeps.make import Driver
from tests.bench.table import Row, ratios, seconds, side_by_side
from tests.bench.training import made_up, noise
from tests.parts.artifacts import publish_images
from train.data.datasets import data_folder
from train.data.images import Pixels
from train.data.neighbors import Inverted, build, describe, largest_code, nearest
from train.methods.vicreg import Config as Training
from train.models.encoder import Architecture, Encoder

BATCH = Config.batch_size  # eval.embed's


def mixture(n: int, seed: int, dimensions: int = 128, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Clouds that overlap, with a spectrum that falls as that of a representation: a probe reads about 60 % of them."""
    random = np.random.default_rng(seed)
    shape = np.random.default_rng(0)
    labels = random.integers(0, classes, n)
    scale = 1 / np.arange(1, dimensions + 1)
    centers = 0.12 * shape.standard_normal((classes, dimensions))
    rotation = np.linalg.qr(shape.standard_normal((dimensions, dimensions)))[0]
    vectors = (centers[labels] + random.standard_normal((n, dimensions))) * scale
    return (vectors @ rotation).astype(np.float32), labels.astype(np.int64)


def measure_embed(count: int = 3, images: int = 5_000) -> list[Row]:
    preset = Training.defaults({})
    layers = (preset.backbone, preset.width, preset.hidden, preset.dimension)
    encoder = Encoder(Architecture(*layers, 32, (0.5,) * 3, (0.25,) * 3)).eval()
    pixels: Pixels = noise(images)
    ready = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(images // BATCH):
                encoder(ready)

    ours, alone = side_by_side(lambda: embed(encoder, pixels, BATCH, "bench"), bare, count)
    note = f"{images / np.median(ours):,.0f} images/s"
    return [Row("embed, against the bare forward pass", ratios(alone, ours), "x", (">=", 0.9), note)]


def measure_probe(count: int = 2) -> list[Row]:
    train, labels = mixture(20_000, 1)
    test, truth = mixture(10_000, 2)
    accuracy: dict[str, float] = {}

    def ours() -> None:
        accuracy["ours"] = float((linear_probe(train, labels, test, 10, seed=0).predictions == truth).mean())

    def scikit() -> None:
        """The same protocol: the penalty by held-out labels, then all labels."""
        standardise = Standardisation.of(train)
        x, validation = standardise(train).numpy(), validation_rows(labels, 0)

        def fit(penalty: float, rows: np.ndarray) -> LogisticRegression:
            return LogisticRegression(C=1 / (penalty * rows.sum()), max_iter=1000).fit(x[rows], labels[rows])

        accuracies = [fit(penalty, ~validation).score(x[validation], labels[validation]) for penalty in GRID]
        best = fit(GRID[int(np.argmax(accuracies))], np.ones(len(x), bool))
        accuracy["theirs"] = float((best.predict(standardise(test).numpy()) == truth).mean())

    fast, slow = side_by_side(ours, scikit, count)
    note = f"{100 * accuracy['ours']:.2f} % against {100 * accuracy['theirs']:.2f} %; clouds, 20,000 x 128; {np.median(fast):.2f} s"
    same = 100 * abs(accuracy["ours"] - accuracy["theirs"])
    return [
        Row("probe, against scikit-learn's logistic regression", ratios(slow, fast), "x", (">=", 5), note),
        Row("probe, difference of the two accuracies", (same,), "points", ("<=", 0.1)),
    ]


def measure_neighbors(count: int = 2) -> list[Row]:
    train, _ = mixture(50_000, 1)
    queries, _ = mixture(10_000, 2)

    def scikit() -> None:
        NearestNeighbors(n_neighbors=10, algorithm="brute").fit(train).kneighbors(queries)

    fast, slow = side_by_side(lambda: nearest(build(train), train, queries, 10, label="bench"), scikit, count)
    return [Row("exact kNN, against scikit-learn's", ratios(slow, fast), "x", note="10,000 queries to 50,000 x 128")]


def measure_million(queries: int = 10_000) -> list[Row]:
    """An inverted file of 1,000,000 vectors by codes: what it keeps, what it finds, and how fast, beside whole vectors."""
    train, _ = mixture(1_000_000, 1)
    test, _ = mixture(queries, 2)
    exact, code = build(train), largest_code(train.shape[1])
    start = time.monotonic()
    codes = build(train, Inverted(code=code))
    duration = time.monotonic() - start
    ids: dict[str, NDArray[np.int64]] = {}

    def search(name: str, index: Any) -> None:
        ids[name] = nearest(index, train, test, 10, label=name)[1]

    fast, slow = side_by_side(lambda: search("codes", codes), lambda: search("exact", exact), 1)
    hits = (ids["codes"][:, :, None] == ids["exact"][:, None, :]).any(axis=2).mean()
    sizes = [len(faiss.serialize_index(index)) / 1e6 for index in (codes, exact)]
    settings = ", ".join(f"{name} {value}" for name, value in describe(codes).items())
    note = f"{settings}; {queries:,} queries to 1,000,000 x 128; built in {duration:,.0f} s by one core"
    return [
        Row(
            "1,000,000 vectors by codes: the 10 nearest that are among those found",
            (100 * hits,),
            "%",
            (">=", 90),
            note,
        ),
        Row("their index", (sizes[0],), "MB", ("<=", sizes[1] / 8), f"{sizes[1]:,.0f} MB of whole vectors"),
        Row(
            "their search, against the exact one",
            ratios(slow, fast),
            "x",
            (">=", 1),
            f"{queries / fast[0]:,.0f} queries/s",
        ),
    ]


def measure_maps() -> list[Row]:
    vectors, labels = mixture(10_000, 1)
    return [
        Row("t-SNE of 10,000 x 128", (seconds(lambda: tsne(vectors, 0)),), "s"),
        Row("silhouette of 10,000 x 128", (seconds(lambda: silhouettes(vectors, labels)),), "s"),
    ]


def measure_tracking(count: int = 5) -> list[Row]:
    """A stage as a process of its own, from the end of its imports to its own end, and reused steps in the driver."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, PEEL_HOME=folder, WANDB_MODE="offline"):
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            os.environ[name] = str(Path(folder) / "wandb")
        publish_images(made_up(2_000))
        took = [tracked() for _ in range(count + 1)][1:]
        driver = Driver(fresh=False)
        reused = reused_steps(driver, count, "digits")
        rows = [
            Row("tracking: a stage beyond its imports and its work", tuple(took), "s", ("<=", 2)),
            Row("tracking: a reused step in the driver", reused, "s", ("<=", 0.2)),
        ]
        if (data := data_folder()) and (archive := data / "cifar10-jpeg.zip").is_file():
            note = "reported: the zip's directory is read again, to see whether an image changed"
            zipped = reused_steps(driver, count, str(archive))
            rows.append(Row("tracking: the same of train.prepare, 60,000 images in a zip", zipped, "s", note=note))
        driver.store.close()
    return rows


def tracked() -> float:
    command = [sys.executable, "-m", "tests.bench.tracked"]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    return time.monotonic() - float(output.split()[0])  # one clock for all processes


def reused_steps(driver: Driver, count: int, dataset: str) -> tuple[float, ...]:
    command = ("train.prepare", "--dataset", dataset)
    driver.make(*command)
    return tuple(seconds(lambda: driver.make(*command)) for _ in range(count))
