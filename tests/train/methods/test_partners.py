"""Neighbors as views: the pair is the image and one of its nearest training images, as the pulled index says."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from tests.parts.artifacts import publish_images, refusal
from tests.parts.embeddings import NoConfig
from tests.train.engine.test_loop import TINY, dots
from train import pretrain
from train.data.images import SPLITS, Images
from train.data.neighbors import Ids, Neighbors, build
from train.data.views import normalize
from train.engine.loop import Training
from train.methods.partners import Partners
from train.methods.variants import neighbors_alias, variant_name
from train.methods.vicreg import Config, VICReg
from train.tracking import Origin, Stage
from train.tracking.store import Store

FLAGS = [f"--{field.name}={getattr(TINY, field.name)}" for field in dataclasses.fields(TINY) if field.name in (
    "images", "preset", "batch_size", "width", "hidden", "dimension", "projector_width", "projector_layers", "precision"
)]  # fmt: skip


def neighbors(seed: int, count: int = 50, tests: int = 20, k: int = 5) -> Neighbors:
    """Ids that no encoder would find: drawn, all different, never the image itself."""
    random = np.random.default_rng(seed)
    others = [np.delete(np.arange(count), row) for row in range(count)]
    train = np.stack([random.choice(other, k, replace=False) for other in others])
    test = np.stack([random.choice(count, k, replace=False) for _ in range(tests)])
    distances = [np.sort(random.random(ids.shape), axis=1).astype(np.float32) for ids in (train, test)]
    return Neighbors(train, distances[0], test, distances[1], build(random.random((count, 2), dtype=np.float32)))


def publish_neighbors(index: Neighbors, variant: str = "dots-vicreg", seed: int = 0) -> None:
    with Stage("eval.index", NoConfig()) as stage:
        stage.dataset, stage.variant, stage.seed = "dots", variant, seed
        stage.publish("neighbors", index.save)


@pytest.fixture
def images(peel_home: Path) -> Images:
    pictures = dots()
    publish_images(pictures)
    return pictures


def config(*flags: str) -> Config:
    parsed = pretrain.COMMAND.parse([*FLAGS, "--views=neighbors", *flags])
    assert isinstance(parsed, Config)
    return parsed


def seen_by_the_network(
    settings: Config, images: Images, nearest: Neighbors, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[torch.Tensor]]:
    """What goes into the encoder: (2n, 3, h, w) a batch, of every training step, and of one pass over the test set."""
    publish_neighbors(nearest)
    folder = Store().folder(Store().get("neighbors", "latest"))
    batches: dict[str, list[torch.Tensor]] = {split: [] for split in SPLITS}
    with Stage("train.pretrain", settings) as stage:
        method = VICReg(settings, images, Partners.load(folder, images, settings.nearest, "latest"))
        loop, project, into = Training(method, stage), method.project, batches["train"]

        def watched(pictures: torch.Tensor) -> torch.Tensor:
            into.append(pictures.flatten(0, 1).clone())
            return project(pictures)

        monkeypatch.setattr(method, "project", watched)
        for _ in range(loop.steps):
            loop._train_step()
        into = batches["test"]
        loop._training_mode(False)
        loop._test_terms()
    return batches


def rows_of(pixels: torch.Tensor, images: NDArray[np.uint8], statistics: Images) -> Ids:
    """Which of `images` each of `pixels` is."""
    whole = normalize(torch.from_numpy(images), torch.tensor(statistics.mean), torch.tensor(statistics.std))
    same = torch.isclose(pixels.flatten(1)[:, None], whole.flatten(1)[None], atol=1e-5).all(dim=2)
    assert (same.sum(dim=1) == 1).all(), "every view is one whole image, unchanged"
    return same.int().argmax(dim=1).numpy()


def test_the_pair_is_the_image_and_one_of_its_three_nearest_each_as_likely(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = neighbors(seed=1)
    seen = seen_by_the_network(config("--epochs=25"), images, nearest, monkeypatch)
    places, partners_of_zero = [], set()
    for pixels in seen["train"]:
        own, partner = (rows_of(half, images.train, images) for half in pixels.chunk(2))
        match = nearest.train_ids[own, :3] == partner[:, None]
        assert match.any(axis=1).all() and (own != partner).all()
        places += match.argmax(axis=1).tolist()
        partners_of_zero |= set(partner[own == 0].tolist())
    assert partners_of_zero == set(nearest.train_ids[0, :3].tolist()), "it is drawn anew at each step"
    assert chisquare(np.bincount(places, minlength=3)).pvalue > 0.01


def test_the_partner_of_a_test_image_is_one_of_its_three_nearest_training_images(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = neighbors(seed=2)
    seen = seen_by_the_network(config(), images, nearest, monkeypatch)
    rows = np.arange(16).reshape(2, 8)  # 20 test images are two batches of 8
    for own, pixels in zip(rows, seen["test"], strict=True):
        image, partner = pixels.chunk(2)
        np.testing.assert_array_equal(rows_of(image, images.test, images), own)
        chosen = rows_of(partner, images.train, images)
        assert (nearest.test_ids[own, :3] == chosen[:, None]).any(axis=1).all()


def test_another_models_index_gives_other_views_of_the_same_images(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        seen_by_the_network(config(), images, neighbors(seed), monkeypatch)["train"][0].chunk(2) for seed in (3, 4)
    )
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_the_stage_reads_the_index_of_its_own_seed_and_no_encoder(images: Images) -> None:
    for seed in (0, 1):
        publish_neighbors(neighbors(seed), seed=seed)
    pretrain.main(config("--seed=1"))
    store = Store()
    version = store.get("encoder", "latest")
    run = store.maker(version)
    assert run is not None and (run.variant or "").startswith("dots-vicreg-neighbors")
    read = Origin.load(store.folder(version)).inputs
    assert sorted(entry.partition("@")[0] for entry in read) == ["images", "neighbors"]
    assert f"neighbors@{store.get('neighbors', 'dots-vicreg-s1').digest}" in read


def test_pairs_are_whole_images_for_one_epoch_unless_flags_say_otherwise() -> None:
    for preset in Config.PRESETS:
        plain = pretrain.COMMAND.parse(["--images=x", f"--preset={preset}", "--views", "neighbors"])
        assert (plain.epochs, plain.view_count, plain.view_size) == (1, 2, 0)
        crop = plain.augmentation(48)
        assert (crop.size, crop.scale, crop.ratio) == (48, (1.0, 1.0), (1.0, 1.0))
        assert {crop.flip, crop.jitter, crop.grayscale, crop.blur, crop.solarize} == {0.0}
        assert plain.learning_rate == Config.defaults({"preset": preset}).learning_rate
    longer = pretrain.COMMAND.parse(["--views=neighbors", "--epochs=4", "--flip", "0.5", "--images=x"])
    assert (longer.epochs, longer.flip) == (4, 0.5)


def test_a_neighbor_variant_is_called_by_what_differs_from_plain_pairs() -> None:
    plain = pretrain.COMMAND.parse(["--images=x", "--views=neighbors"])
    own = neighbors_alias(plain, "x", 50_000)
    assert own == "x-vicreg-s0"
    for changes, name in (
        (dict[str, Any](), "x-vicreg-neighbors"),
        ({"neighbors": own}, "x-vicreg-neighbors"),
        ({"neighbors": "x-vicreg"}, "x-vicreg-neighbors"),
        ({"nearest": 5}, "x-vicreg-neighbors-nearest5"),
        ({"flip": 0.5}, "x-vicreg-neighbors-flip0.5"),
    ):
        assert variant_name(dataclasses.replace(plain, **changes), "x", 50_000) == name
    for changes in ({"neighbors": "x-pixels"}, {"epochs": 2}):
        assert variant_name(dataclasses.replace(plain, **changes), "x", 50_000).startswith("x-vicreg-neighbors-")
    exercise = pretrain.COMMAND.parse(["--images=x", "--views=neighbors", "--preset=exercise", "--seed=2"])
    assert neighbors_alias(exercise, "x", 50_000) == "x-vicreg-exercise-s2"


def test_leaving_an_augmentation_out_is_its_probability_at_zero_under_the_same_name() -> None:
    exercise = Config.defaults({"preset": "exercise"})
    for name in ("flip", "jitter", "grayscale", "blur"):
        without, changes = dataclasses.replace(exercise, without=name), dict[str, Any]({name: 0.0})
        assert without.augmentation(32) == dataclasses.replace(exercise, **changes).augmentation(32)
        assert variant_name(without, "x", 50_000) == f"x-vicreg-exercise-{name}0"
    whole = dataclasses.replace(exercise, without="crop")
    assert (whole.augmentation(32).scale, whole.augmentation(32).ratio) == ((1.0, 1.0), (1.0, 1.0))
    assert variant_name(whole, "x", 50_000) == "x-vicreg-exercise-crop0"
    default = Config.defaults({"preset": "default"})
    assert variant_name(dataclasses.replace(default, without="blur"), "x", 50_000) == "x-vicreg", "it had none"


def test_an_index_that_cannot_be_of_these_images_is_refused(images: Images) -> None:
    own = neighbors(seed=5)
    own.train_ids[7, 1] = 7
    for index, flags, named in (
        (neighbors(6, count=40), (), "those of 40 and 20 images, not of dots's 50 and 20"),
        (neighbors(6, k=2), (), "holds 2 of each image, not 3"),
        (neighbors(6, k=3), ("--nearest=4",), "eval.index --k 4"),
        (own, (), "as their own neighbors"),
    ):
        publish_neighbors(index)
        settings = config("--neighbors=latest", *flags)
        assert named in refusal(partial(pretrain.main, settings))
    assert Store().versions("encoder") == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--views=neighbors"], "no artifact 'neighbors:dots-vicreg"),
        (["--views=neighbors", "--neighbors=teapot"], "python -m eval.index"),
        (["--neighbors=dots-vicreg"], "--neighbors dots-vicreg is read with --views neighbors only"),
        (["--nearest=5"], "--nearest 5 is read with --views neighbors only"),
        (["--views=neighbors", "--view-count=4"], "--view-count 4"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(images: Images, flags: list[str], named: str) -> None:
    assert named in refusal(lambda: pretrain.COMMAND.run([*FLAGS, *flags]))
