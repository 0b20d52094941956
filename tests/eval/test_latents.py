"""The stage eval.latents: codes whose redundancy and classes are known, and what of them stands in the scores."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import latents as stage
from tests.parts.artifacts import images, publish_images, refusal, write
from tests.parts.embeddings import NoConfig, blobs, numbers, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.scores import Scores
from train.tracking import Stage
from train.tracking.store import Store


def embeddings(codes: NDArray[np.floating[Any]], labels: NDArray[np.int64], classes: int) -> Embeddings:
    """The codes of test images; training images have the same."""
    names, vectors = tuple(map(str, range(classes))), codes.astype(np.float32)
    return Embeddings(names, vectors, vectors, vectors, vectors, labels, labels, own=True)


def score(codes: NDArray[np.floating[Any]], labels: NDArray[np.int64], prior: bool = False) -> Scores:
    return stage.score(embeddings(codes, labels, int(labels.max()) + 1), prior, 20, 0)


def note(text: str, folder: Path) -> None:
    write(folder / "weights", text)


def own_units(seed: int = 0, constant: bool = False) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Codes of 3 classes in 6 dimensions: class k raises unit 2 k alone. constant: with a seventh that never varies."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 80)
    codes = random.normal(size=(240, 6))
    codes[np.arange(240), 2 * labels] += 8
    return np.concatenate([codes, np.full((240, 1), 0.3)], axis=1) if constant else codes, labels


def test_correlations_of_published_embeddings_are_numpys(store: Store) -> None:
    source = blobs(4, 60, 7, seed=2)
    source.test[:] = source.test @ np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    publish_embeddings(source)
    stage.main(stage.Config("blobs-vicreg"))
    scores = Scores.load(store.folder(store.get("latents", "blobs-vicreg")))
    matrix = np.corrcoef(source.test.astype(np.float64).T)
    off = np.abs(matrix)[~np.eye(7, dtype=bool)]
    values: dict[str, Any] = scores.values
    assert values["latents/correlation"] == pytest.approx(off.mean(), abs=1e-9)
    assert values["latents/whole_matrix"] == pytest.approx(np.abs(matrix).mean(), abs=1e-9)
    eigenvalues = np.linalg.eigvalsh(matrix) / 7
    assert values["latents/rank_share"] == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()) / 7)
    assert (values["latents/dimensions"], values["latents/constant"], values["latents/images"]) == (7, 0, 240)
    assert values["latents/rotated/low"] < values["latents/rotated"] < values["latents/rotated/high"]
    heatmap = scores.figures["latents/correlations"].data[0]
    np.testing.assert_allclose(numbers(heatmap.z), matrix, atol=1e-6)
    assert "latents/active" not in values  # nobody knows of a prior


def test_units_that_each_carry_one_class_are_told_from_random_groups() -> None:
    codes, labels = own_units()
    values: dict[str, Any] = score(codes, labels).values
    assert values["latents/top"] == [0, 2, 4] and values["latents/distinct"] == 3
    assert values["latents/class_share"] > 0.95 and values["latents/concentrated"] == 1
    assert values["latents/class_share"] == pytest.approx(np.mean(values["latents/class_share/classes"]))
    assert values["latents/class_share/random"] < values["latents/class_share"]
    assert values["latents/agreement/chance"] == 0.5
    # Unit 2 k has variance 1 within the classes and 64 * 2 / 9 between them; the three others have none between.
    assert values["latents/explained"] == pytest.approx(128 / 9 / (1 + 128 / 9), abs=0.02)
    assert values["latents/unexplained"] == 3


def test_class_means_in_the_figure_are_in_deviations_by_numpy() -> None:
    codes, labels = own_units(constant=True)
    scores = score(codes, labels)
    z = (codes[:, :6] - codes[:, :6].mean(axis=0)) / codes[:, :6].std(axis=0)
    bars = scores.figures["latents/classes"].data
    assert scores.values["latents/constant"] == 1 and list(bars[0].x) == list("012345")
    for label, bar in enumerate(bars):
        np.testing.assert_allclose(bar.y, z[labels == label].mean(axis=0), atol=1e-5)


def test_images_sorted_by_class_have_the_scores_of_shuffled_ones() -> None:
    codes, labels = own_units(constant=True)
    order = np.random.default_rng(5).permutation(len(labels))
    one, other = (score(codes[rows], labels[rows]).values for rows in (np.arange(len(labels)), order))
    for path in ("correlation", "rank_share", "class_share", "explained", "rotated"):
        assert other[f"latents/{path}"] == pytest.approx(one[f"latents/{path}"], abs=1e-6)
    assert other["latents/top"] == one["latents/top"]


def test_units_of_a_prior_count_where_they_vary_beside_it() -> None:
    codes, labels = own_units()
    codes[:, 4:] *= 1e-3  # a variance below 0.01, although class 2 stands in one of them
    with_prior, without = (score(codes, labels, prior).values for prior in (True, False))
    assert with_prior["latents/active"] == 4 and "latents/active" not in without
    assert without["latents/top"] == [0, 2, 4] and with_prior["latents/top"] != without["latents/top"]


def test_a_prior_is_read_off_the_encoder_that_the_embeddings_are_of() -> None:
    @dataclass(frozen=True)
    class Weight:
        kl: float

    source = blobs(2, 10, 4, seed=0)
    publish_images(images("blobs", source))
    for name, job, kl in (
        ("vae", "train.autoencode", 1.0),
        ("ae", "train.autoencode", 0.0),
        ("x", "train.pretrain", 1.0),
    ):
        with Stage(job, Weight(kl)) as run:
            run.about(run.fetch("images", "blobs"))
            run.variant, run.seed = f"blobs-{name}", 0
            run.publish("encoder", partial(note, name))
        with Stage("eval.embed", NoConfig()) as run:
            run.about(run.fetch("encoder", f"blobs-{name}"))
            run.publish("embeddings", source.save)
        with Stage("eval.latents", NoConfig()) as run:
            assert stage.has_prior(run, run.fetch("embeddings", f"blobs-{name}")) == (name == "vae")


def test_codes_without_variance_have_no_units() -> None:
    scores = score(np.full((20, 3), 0.3), np.arange(20) % 2)
    assert scores.values["latents/constant"] == 3 and not scores.figures
    assert "latents/correlation" not in scores.values and "latents/top" not in scores.values


def test_a_single_unit_has_no_correlation_and_carries_every_class() -> None:
    codes, labels = own_units()
    values = score(codes[:, :1], labels).values
    assert "latents/correlation" not in values and "latents/rotated" not in values
    assert values["latents/class_share"] == 1 and values["latents/distinct"] == 1


def test_rotations_of_thousands_of_dimensions_are_few_or_none_and_it_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [stage.affordable(20, d) for d in (0, 30, 128, 1000)] == [20] * 4 and not capsys.readouterr().out
    assert stage.affordable(20, 2048) == int(4e10 / 2048**3) == 4
    assert "4 random rotations in place of 20: each of 2,048 dimensions" in capsys.readouterr().out
    assert stage.affordable(20, 4096) == 0


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    assert "--rotations 1 is not at least 2" in refusal(lambda: stage.Config("x", rotations=1))
    source = blobs(2, 4, 3, seed=0)
    publish_embeddings(embeddings(source.test, np.zeros(8, np.int64), 1))
    assert "is the only class" in refusal(lambda: stage.main(stage.Config("blobs-vicreg")))
