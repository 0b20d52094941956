"""--device means the same in every stage that has it."""

import dataclasses
import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch

from eval import embed
from tests.parts.artifacts import Silent, publish_images, refusal
from tests.train.engine.test_loop import TINY, dots
from train import pretrain
from train.data.images import Images
from train.engine.devices import device_of
from train.engine.loop import EVERY, Training
from train.methods import autoencoder, diffusion, supervised
from train.methods.method import Method
from train.tracking.origin import identity
from train.tracking.store import Store

STAGES: tuple[tuple[Any, Callable[[str], object]], ...] = (
    (pretrain, lambda device: dataclasses.replace(TINY, device=device, epochs=0)),
    (embed, lambda device: embed.Config(encoder="latest", device=device)),
)
ABSENT = ["banana", "CUDA", "meta", "cuda:banana", "hpu", "cpu:-1", "", "vulkan", "mps:7"]
ABSENT += [] if torch.cuda.is_available() else ["cuda:0"]
ABSENT += [] if torch.backends.mps.is_available() else ["mps"]


def test_a_device_that_cannot_compute_is_refused_in_the_same_words_by_every_stage() -> None:
    publish_images(dots())
    pretrain.main(dataclasses.replace(TINY, epochs=0))
    made = len(Store().versions())
    for name in ABSENT:
        lines = {refusal(partial(stage.main, config(name))) for stage, config in STAGES}
        assert lines == {f"--device {name} is not available on this machine; use cpu or auto"}
    assert len(Store().versions()) == made


def test_a_device_is_no_part_of_an_identity_and_has_one_default() -> None:
    for _, config in STAGES:
        assert identity(config("cuda")) == identity(config("cpu"))  # type: ignore[arg-type]
    assert embed.Config("x").device == TINY.device == "auto"


def test_every_stage_with_a_network_that_computes_has_the_flag_and_no_other_has() -> None:
    """Of the others some use torch, in float64 on the CPU; nothing of them is a network."""
    stages = (
        ["pretrain", "patches", "eigenmaps", "prepare"],
        ["embed", "index", "probe", "project", "retrieve", "cluster"],
    )
    modules = [f"{package}.{name}" for package, names in zip(("train", "eval"), stages, strict=True) for name in names]
    with_flag = {
        name
        for name in modules
        if "device" in {field.name for field in dataclasses.fields(getattr(importlib.import_module(name), "Config"))}  # noqa: B009
    }
    assert with_flag == {"train.pretrain", "eval.embed"}


def test_the_first_of_several_gpus_is_that_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has a second GPU")
    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert "--device cuda:1 is not available" in refusal(lambda: device_of("cuda"))
    assert device_of("cpu") == torch.device("cpu")


# -- a step on a device that is not the CPU -----------------------------------------------------------------------------
# "meta" is a device of shapes alone: what copies a value back, asks how many entries are not zero, or mixes it with the CPU,
# raises an error. A GPU would do the first two, and wait.

SMALL: dict[str, Any] = {"images": "dots", "batch_size": 8, "epochs": 1}


def siamese(name: str, images: Images, **changes: Any) -> Method:
    kind = pretrain.METHODS[name]
    flags: dict[str, Any] = {
        "blur": 0.5,
        "solarize": 0.5,
        "crop_largest": 0.6,
        "width": 8,
        **SMALL,
        "method": name,
        **changes,
    }
    return kind(kind.configuration(**flags), images)


METHODS: dict[str, Callable[[Images], Method]] = {
    **{name: partial(siamese, name) for name in pretrain.METHODS},
    "resnet18": partial(siamese, "vicreg", backbone="resnet18", preset="exercise"),
    "moving target": partial(siamese, "simsiam", target="moving"),
    "autoencoder": lambda images: autoencoder.autoencoder(autoencoder.Config(**SMALL), images),
    "variational": lambda images: autoencoder.autoencoder(
        autoencoder.Config(**SMALL, kl=1.0, likelihood="bernoulli"), images
    ),
    "diffusion": lambda images: diffusion.Diffusion(diffusion.Config(**SMALL), images),
    "judge": lambda images: supervised.Supervised(supervised.Config(**SMALL), images),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_its_device_once_in_so_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    monkeypatch.setattr(torch, "autocast", lambda *place, **options: nullcontext())  # meta has none

    def read(self: Training) -> None:
        reads.append(self.step)
        self.pending.clear()

    monkeypatch.setattr(Training, "_read", read)
    images = dots(train=8 * (EVERY + 3))
    stage: Any = Silent()
    training = Training(METHODS[name](images), stage, torch.device("meta"))
    assert {parameter.device.type for parameter in training.method.parameters()} == {"meta"}
    for _ in range(EVERY + 2):
        training._train_step()
    assert reads == [EVERY]
    assert all(parameter.grad is not None for parameter in training.parameters if parameter.requires_grad)


def test_terms_that_are_read_later_are_those_of_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    images, stage = dots(), cast(Any, Silent())
    at_once, later = (Training(siamese("vicreg", images), stage, torch.device("cpu")) for _ in range(2))
    for _ in range(5):
        at_once._train_step()
    monkeypatch.setattr(Training, "_due", lambda self: self.step == 5)
    for _ in range(5):
        later._train_step()
        assert len(later.batches) == (5 if later.step == 5 else 0)
    assert later.batches == at_once.batches and [entry["batch"] for entry in later.batches] == [1, 2, 3, 4, 5]


def test_a_set_stays_on_a_device_that_has_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    images, rows = dots(), np.array([3, 1])
    method = siamese("vicreg", images).to("meta")
    assert (
        method.images_of("train", rows).device.type == "meta" and method._resident["train"].shape == images.train.shape
    )
    monkeypatch.setattr("train.methods.method.RESIDENT", 1)
    other = siamese("vicreg", images)
    assert other.images_of("train", rows).equal(torch.from_numpy(images.train[rows])) and not other._resident
    assert other.to("meta").images_of("train", rows).shape == (2, 32, 32, 3) and not other._resident
