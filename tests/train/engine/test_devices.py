"""--device means the same in every stage that has it."""

import dataclasses
import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from eval import embed
from tests.parts.artifacts import publish_images, refusal
from tests.train.engine.test_loop import TINY, dots
from train import pretrain
from train.engine.devices import device_of
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
