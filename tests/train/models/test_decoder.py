"""The two halves of an autoencoder: sizes, what is saved, and what a decoder draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from train.models.decoder import Decoder, Plan
from train.models.encoder import Architecture, Encoder
from train.models.strided import Strided, sides
from train.tracking import Problem

PLAN = Plan(5, 4, 3, 1, 28, "none", "fitted")


@pytest.mark.parametrize("size", [8, 13, 16, 28, 29, 32])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size_come_back_in_their_size(size: int, layers: int, channels: int) -> None:
    halves = Strided(4, size, layers, channels)
    features = halves(torch.rand(2, 3, size, size))
    assert features.shape == (2, halves.features)
    plan = replace(PLAN, size=size, layers=layers, channels=channels)  # type: ignore[arg-type]
    assert Decoder(plan)(torch.rand(2, 5)).shape == (2, channels, size, size)
    assert [int(np.ceil(side / 2)) for side in sides(size, layers)[:-1]] == sides(size, layers)[1:]


def test_an_encoder_of_one_channel_reads_the_first_of_three() -> None:
    encoder = Encoder(Architecture("strided", 4, 0, 6, 16, (0.5,) * 3, (0.5,) * 3, {"layers": 2, "channels": 1})).eval()
    images = torch.rand(2, 3, 16, 16)
    other = images.clone()
    other[:, 1:] = 0
    assert torch.equal(encoder(images)[1], encoder(other)[1])


def test_a_fitted_decoder_draws_codes_of_the_same_mean_and_covariance() -> None:
    mixing = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    codes = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) @ mixing + torch.tensor([3.0, -1.0])
    decoder = Decoder(replace(PLAN, dimension=2))
    decoder.fit(codes)
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    draws = (decoder.center + noise @ decoder.factor.T).numpy()
    np.testing.assert_allclose(draws.mean(axis=0), codes.numpy().mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(codes.numpy().T), atol=0.05)


@pytest.mark.parametrize("likelihood", ["none", "bernoulli", "gaussian"])
def test_a_saved_decoder_draws_the_same_images(likelihood: str, tmp_path: Path) -> None:
    decoder = Decoder(replace(PLAN, likelihood=likelihood)).eval()  # type: ignore[arg-type]
    decoder.fit(torch.randn(50, 5))
    decoder.save(tmp_path)
    with torch.no_grad():
        first, second = (one.sample(3, torch.Generator().manual_seed(0)) for one in (decoder, Decoder.load(tmp_path)))
    assert torch.equal(first, second) and first.min() >= 0 and first.max() <= 1


def test_what_is_no_decoder_is_one_line(tmp_path: Path) -> None:
    Decoder(PLAN).save(tmp_path)
    text = (tmp_path / "generator.json").read_text()
    (tmp_path / "generator.json").write_text(text.replace('"layers": 3', '"layers": 2'))
    with pytest.raises(Problem):
        Decoder.load(tmp_path)
    (tmp_path / "generator.json").write_text(text.replace('"bernoulli"', '"poisson"').replace('"none"', '"poisson"'))
    with pytest.raises(Problem, match="poisson"):
        Decoder.load(tmp_path)
