"""Autoencoders: the bound against closed forms, one gray channel, pictures by epoch, and a training that is cut off."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from tests.parts.artifacts import Silent
from tests.parts.trainings import continuation
from tests.train.engine.test_loop import dots
from train.data.images import Images
from train.engine.loop import Training
from train.methods.album import pages
from train.methods.autoencoder import Config, Reconstruction, VariationalAutoencoder, autoencoder, divergence
from train.methods.variants import variant_name
from train.tracking import Problem

TINY: dict[str, Any] = {"images": "dots", "epochs": 2, "batch_size": 8, "width": 4, "layers": 2, "dimension": 3}
KINDS: list[dict[str, Any]] = [{}, {"kl": 1.0}, {"kl": 2.0, "likelihood": "bernoulli"}]


def grays() -> Images:
    """The same image set in gray."""
    images = dots()
    arrays = {split: getattr(images, split)[..., :1].repeat(3, axis=3) for split in ("train", "test")}
    labels = {f"{split}_labels": getattr(images, f"{split}_labels") for split in ("train", "test")}
    return Images.from_arrays("dots", images.classes, {**arrays, **labels})


def method(images: Images, **changes: Any) -> Reconstruction:
    return autoencoder(Config(**{**TINY, **changes}), images)


def training(images: Images, **changes: Any) -> Training:
    stage: Any = Silent()
    return Training(method(images, **changes), stage, torch.device("cpu"))


def test_the_divergence_agrees_with_scipys_integral() -> None:
    mean, deviation = 0.7, 1.6
    posterior, prior = scipy.stats.norm(mean, deviation), scipy.stats.norm()
    expected = posterior.expect(lambda z: posterior.logpdf(z) - prior.logpdf(z))
    actual = divergence(torch.tensor(mean, dtype=torch.float64), torch.tensor(2 * math.log(deviation)))
    assert abs(float(actual) - expected) < 1e-6


def test_the_loss_is_the_negative_bound_in_nats_of_a_gaussian_case() -> None:
    """x = z + noise with z ~ N(0, 1): with the exact posterior the bound is the marginal likelihood itself, log N(x; 0, 1 + s^2)
    a pixel, of bins as wide as a gray value."""
    of = method(grays(), kl=1.0)
    assert isinstance(of, VariationalAutoencoder)
    log_deviation, bin_width = math.log(0.2), 2 / 255
    noise_variance = math.exp(2 * log_deviation)
    with torch.no_grad():
        of.decoder.log_deviation.fill_(log_deviation)
    pixels = (torch.randint(80, 176, (20_000, 1, 1, 1), generator=torch.Generator().manual_seed(0)) / 255).float()
    x = 2 * pixels.flatten() - 1
    mean = x / (1 + noise_variance)
    log_variance = torch.full_like(x, math.log(noise_variance / (1 + noise_variance)))
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
    z = mean + (log_variance / 2).exp() * noise
    with torch.no_grad():
        outputs = {
            "reconstruction": of.cost(pixels, z.view_as(pixels))[None],
            "divergence": divergence(mean, log_variance)[None, :, None],
        }
        total, (_, _, bound, _) = of.loss(outputs)
    marginal = scipy.stats.norm(0, math.sqrt(1 + noise_variance))
    expected = -(marginal.logpdf(x.numpy()) + math.log(bin_width)).mean()
    assert total == bound and abs(float(total) - expected) < 0.02


@pytest.mark.parametrize("changes", KINDS[1:])
def test_the_loss_sums_over_pixels_and_units_and_averages_over_images(changes: dict[str, Any]) -> None:
    of = method(dots(), **changes)
    reconstruction, units = np.array([[5.0, 7.0]]), np.arange(6.0).reshape(1, 2, 3)
    outputs = {"reconstruction": torch.tensor(reconstruction), "divergence": torch.tensor(units)}
    total, (_, cost, bound, bits) = of.loss(outputs)
    assert float(cost) == units.sum() / 2 and float(total) == 6 + changes["kl"] * units.sum() / 2
    assert float(bits) == pytest.approx(float(bound) / math.log(2) / (3 * 32 * 32))


def test_gray_images_have_one_channel_and_are_counted_once() -> None:
    gray, color = method(grays(), kl=1.0), method(dots(), kl=1.0)
    assert (gray.decoder.plan.channels, color.decoder.plan.channels) == (1, 3)
    for of, images in ((gray, grays()), (color, dots())):
        batch = of.batch("test", np.arange(4), torch.Generator().manual_seed(0), slice(None))
        assert batch["pixels"].shape == (4, of.channels, 32, 32)
        np.testing.assert_allclose(
            batch["pixels"].permute(0, 2, 3, 1), images.test[:4, ..., : of.channels] / 255, atol=1e-7
        )


def test_bernoulli_pixels_are_drawn_anew_with_their_gray_value_as_probability() -> None:
    of = method(grays(), kl=1.0, likelihood="bernoulli")
    draws = [
        of.batch("train", np.arange(8), torch.Generator().manual_seed(seed), slice(None))["pixels"]
        for seed in range(400)
    ]
    assert set(torch.cat(draws).unique().tolist()) == {0.0, 1.0} and not torch.equal(draws[0], draws[1])
    mean = torch.stack(draws).mean(dim=0)
    assert (mean - of.pixels("train", np.arange(8))).abs().max() < 5 * math.sqrt(0.25 / 400)


@pytest.mark.parametrize("changes", KINDS)
def test_a_share_of_the_rows_has_what_the_whole_batch_draws_for_it(changes: dict[str, Any]) -> None:
    of = method(dots(), **changes)
    rows = np.arange(8)
    whole = of.batch("train", rows, torch.Generator().manual_seed(3), slice(None))
    half = of.batch("train", rows, torch.Generator().manual_seed(3), slice(4, 8))
    for name, values in half.items():
        assert torch.equal(values, whole[name][4:])


@pytest.mark.parametrize("changes", KINDS)
def test_a_training_that_was_cut_off_in_mid_epoch_ends_in_the_same_weights_and_pictures(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    images = grays()
    whole, other = continuation(lambda: training(images, **changes), tmp_path)
    sheets = whole.method.state_dict()["reconstructions.sheets"]
    assert len(sheets) == len(pages(2)) == 2 and sheets[0].float().std() > 0 and not torch.equal(sheets[0], sheets[1])
    assert (
        other.scores().figures["training/reconstructions"].to_json()
        == whole.scores().figures["training/reconstructions"].to_json()
    )


def test_the_first_rows_of_the_pictures_are_the_test_images_themselves(tmp_path: Path) -> None:
    images = grays()
    of = training(images)
    of.run(tmp_path / "checkpoint.safetensors")
    assert isinstance(of.method, Reconstruction)
    sheet = of.method.reconstructions.sheets[-1].numpy()[:, 0]
    np.testing.assert_array_equal(sheet[:16], images.test[of.method.shown.numpy()[:16], ..., 0])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "mnist-ae"),
        ({"dimension": 2}, "mnist-ae-d2"),
        ({"dimension": 2, "layers": 2}, "mnist-ae-d2-layers2"),
        ({"kl": 1.0, "dimension": 32}, "mnist-vae"),
        ({"kl": 1.0, "dimension": 32, "likelihood": "bernoulli"}, "mnist-vae-bernoulli"),
        ({"kl": 16.0, "dimension": 8}, "mnist-vae-kl16-d8"),
        ({"epochs": 0}, "mnist-ae-untrained"),
        ({"kl": 1.0, "dimension": 32, "epochs": 0}, "mnist-vae-untrained"),
    ],
)
def test_names_are_those_of_the_literature(changes: dict[str, Any], name: str) -> None:
    kinds = Config.defaults({"kl": str(changes.get("kl", 0))})
    assert variant_name(replace(kinds, images="mnist", **changes), "mnist", 60_000) == name


def test_a_likelihood_without_a_prior_is_refused_in_one_line() -> None:
    with pytest.raises(Problem, match="--kl"):
        Config("mnist", likelihood="bernoulli")
