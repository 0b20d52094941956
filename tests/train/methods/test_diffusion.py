"""The diffusion in the loop: its average, its encoder, its noise levels, and a training that is cut off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parts.artifacts import Silent
from tests.parts.trainings import continuation
from tests.train.engine.test_loop import dots
from tests.train.methods.test_autoencoder import grays
from train.data.images import Images
from train.engine.loop import Training
from train.methods.diffusion import Config, Diffusion
from train.methods.variants import variant_name
from train.models.denoiser import Middle
from train.models.diffuser import Diffuser
from train.models.encoder import Encoder
from train.tracking import Problem

TINY: dict[str, Any] = {"images": "dots", "epochs": 2, "batch_size": 8, "width": 4, "patch": 4}


def method(images: Images, **changes: Any) -> Diffusion:
    return Diffusion(Config(**{**TINY, **changes}), images)


def training(images: Images, **changes: Any) -> Training:
    stage: Any = Silent()
    return Training(method(images, **changes), stage, torch.device("cpu"))


@pytest.mark.parametrize("predict", ["v", "eps", "x0"])
def test_a_training_that_was_cut_off_in_mid_epoch_ends_in_the_same_weights_average_and_pictures(
    predict: str, tmp_path: Path
) -> None:
    images = grays()
    whole, other = continuation(lambda: training(images, predict=predict), tmp_path)
    expected = whole.method.state_dict()
    assert int(expected["updates"]) == whole.steps and expected["samples.sheets"].float().std() > 0
    assert other.scores().values == whole.scores().values
    output = "network.output.weight"
    assert not torch.equal(expected[f"diffuser.{output}"], expected[f"average.{output}"])


def test_every_row_of_a_batch_sees_all_times_so_that_a_class_sorted_set_is_learned_as_any_other() -> None:
    of, rows = method(dots()), np.arange(8)
    times = torch.stack(
        [of.batch("train", rows, torch.Generator().manual_seed(step), slice(None))["times"] for step in range(400)]
    )
    assert ((times.sort().values * 8).ceil() == torch.arange(1, 9)).all()  # one of each part in every batch
    # A uniform time has a deviation of 0.29: the mean of 400 is within 0.07 of a half but once in a million batches.
    assert (times.mean(dim=0) - 0.5).abs().max() < 0.07
    assert times.mean(dim=1).sub(0.5).abs().max() < 0.07


def test_the_average_is_that_of_numpy(tmp_path: Path) -> None:
    of = training(dots())
    assert isinstance(of.method, Diffusion)
    name = "network.output.bias"
    average = of.method.average.get_parameter(name).numpy().copy()
    for step in range(5):
        of._train_step()
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * of.method.diffuser.get_parameter(name).detach().numpy()
        np.testing.assert_allclose(of.method.average.get_parameter(name).numpy(), average, rtol=1e-5, atol=1e-8)


def test_the_encoder_is_the_middle_of_the_average_and_is_saved_with_it(tmp_path: Path) -> None:
    images = dots()
    of = training(images)
    of.run(tmp_path / "checkpoint.safetensors")
    method = of.method
    assert isinstance(method, Diffusion) and isinstance(method.encoder.backbone, Middle)
    method.encoder.save(tmp_path)
    (tmp_path / "generator").mkdir()
    method.average.save(tmp_path / "generator")
    encoder, generator = Encoder.load(tmp_path), Diffuser.load(tmp_path / "generator")
    features, representation = encoder.encode(images.test, 0, 5)
    assert torch.equal(features, representation) and features.shape == (5, 5 * 8)
    x = torch.from_numpy(images.test[:5]).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = encoder.get_buffer("backbone.noise")
    with torch.no_grad():
        map_ = generator.network.lower(0.9**0.5 * x + 0.1**0.5 * noise, torch.full((5,), np.log(9.0)))[0][-1]
    torch.testing.assert_close(features[:, :8], map_.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    side = map_.shape[-1] // 2
    torch.testing.assert_close(features[:, 8::4], map_[..., :side, :side].mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_a_share_of_the_rows_has_what_the_whole_batch_draws_for_it() -> None:
    of = method(dots())
    rows = np.arange(8)
    whole = of.batch("train", rows, torch.Generator().manual_seed(3), slice(None))
    half = of.batch("train", rows, torch.Generator().manual_seed(3), slice(4, 8))
    assert all(torch.equal(values, whole[name][4:]) for name, values in half.items())
    assert whole["x0"].min() >= -1 and whole["x0"].max() <= 1
    steps = whole["times"] * 1000
    assert torch.equal(steps, steps.round()) and len(steps.unique()) == 8


def test_what_is_restored_from_little_noise_is_nearly_the_image() -> None:
    of = method(grays())
    images = torch.rand(4, 1, 32, 32)
    restored = of.average.restore(images, 0.9999, torch.Generator().manual_seed(0))
    assert (restored - images).abs().mean() < 0.02  # an untrained network predicts a velocity of 0
    far = of.average.restore(images, 0.1, torch.Generator().manual_seed(0))
    assert (far - images).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "mnist-ddpm"),
        ({"predict": "eps"}, "mnist-ddpm-eps"),
        ({"predict": "eps", "noise_schedule": "linear"}, "mnist-ddpm-eps-linear"),
        ({"epochs": 0}, "mnist-ddpm-untrained"),
        ({"epochs": 0, "predict": "eps"}, "mnist-ddpm-untrained"),
    ],
)
def test_names_are_those_of_the_literature(changes: dict[str, Any], name: str) -> None:
    assert variant_name(replace(Config("mnist"), **changes), "mnist", 60_000) == name


def test_a_patch_that_does_not_divide_the_image_is_one_line_with_a_cure() -> None:
    with pytest.raises(Problem, match="--patch 3 does not divide the 32 pixels"):
        method(dots(), patch=3)
