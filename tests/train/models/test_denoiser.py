"""The U-Net of a diffusion: its parts against torch's own, where it starts, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.denoiser import Attention, Denoiser, Norm, Residual


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(channels: int = 1, patch: int = 2, attention: bool = False) -> Denoiser:
    """One as after some training: no parameter is 0."""
    network = Denoiser(channels, widths=(8, 16), patch=patch, attention=attention).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


sizes = pytest.mark.parametrize(
    ("channels", "side", "patch"), [(1, 28, 2), (3, 32, 2), (1, 16, 2), (1, 32, 4), (1, 28, 4)]
)


@sizes
def test_an_untrained_network_predicts_zero_for_images_of_any_size(channels: int, side: int, patch: int) -> None:
    x = noise(2, channels, side, side)
    assert torch.equal(Denoiser(channels, patch=patch)(x, noise(2)), torch.zeros_like(x))


@sizes
def test_every_parameter_is_used(channels: int, side: int, patch: int) -> None:
    network = denoiser(channels, patch, attention=True)
    network(noise(2, channels, side, side), noise(2)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("attention", [False, True])
def test_an_image_depends_on_its_own_noise_level_and_on_no_other_image(attention: bool) -> None:
    network = denoiser(attention=attention)
    x, log_snr = noise(3, 1, 28, 28), torch.tensor([-8.0, 0.0, 8.0])
    together = network(x, log_snr)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], log_snr[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-4)
    for a, b in ((0, 1), (1, 2)):
        same = network(x[:1].expand(2, -1, -1, -1), log_snr[[a, b]])
        assert (same[0] - same[1]).abs().max() > 0.01


def test_nothing_but_parameters_is_in_it() -> None:
    network = Denoiser(3, attention=True)
    assert not list(network.buffers())
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in network.modules())


def test_the_middle_is_the_map_after_the_last_center_block_and_has_the_features_it_says() -> None:
    network = denoiser(attention=True)
    maps: list[Tensor] = []
    network.lower.center[-1].register_forward_hook(lambda module, inputs, output: maps.append(output))
    x, log_snr = noise(2, 1, 28, 28), noise(2)
    middle = network.lower(x, log_snr)[0][-1]
    network(x, log_snr)
    assert middle.shape == (2, network.lower.features, 7, 7)
    assert torch.equal(maps[0], middle) and torch.equal(maps[1], middle)


def test_a_patch_is_the_channels_of_one_place() -> None:
    network = denoiser(3)
    places: list[Tensor] = []
    network.lower.input.register_forward_pre_hook(lambda module, inputs: places.append(inputs[0]))
    x = noise(1, 3, 8, 8)
    network(x, noise(1))
    expected = torch.stack([x[0, c, i::2, j::2] for c in range(3) for i in range(2) for j in range(2)])  # (12, 4, 4)
    assert torch.equal(places[0][0], expected)


def test_norm_agrees_with_numpy_over_channels() -> None:
    norm, x = Norm(6), noise(2, 6, 3, 4)
    norm.gain.data = noise(6)
    values = x.double().numpy()
    centered = values - values.mean(axis=1, keepdims=True)
    expected = centered / np.sqrt(centered.var(axis=1, keepdims=True) + 1e-5)
    expected *= norm.gain.data.double().numpy()[:, None, None]
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_attention_agrees_with_torchs_over_places() -> None:
    attention, x = Attention(8), noise(2, 8, 3, 5)
    attention.output.load_state_dict({"weight": noise(8, 8, 1, 1, seed=1), "bias": noise(8)})
    oracle = nn.MultiheadAttention(8, 2, batch_first=True)
    oracle.load_state_dict(
        {
            "in_proj_weight": attention.inputs.weight.data[:, :, 0, 0],
            "in_proj_bias": attention.inputs.bias.data,  # type: ignore[union-attr]
            "out_proj.weight": attention.output.weight.data[:, :, 0, 0],  # type: ignore[index]
            "out_proj.bias": attention.output.bias.data,
        }
    )
    places = attention.norm(x).flatten(2).transpose(1, 2)
    expected = x + oracle(places, places, places)[0].transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def test_blocks_start_as_their_shortcuts() -> None:
    x, embedding = noise(2, 8, 5, 5), noise(2, 16)
    assert torch.equal(Residual(8, 8, 16)(x, embedding), x)
    assert torch.equal(Attention(8)(x), x)
    wider = Residual(8, 12, 16)
    assert isinstance(wider.shortcut, nn.Conv2d)
    torch.testing.assert_close(wider(x, embedding), F.conv2d(x, wider.shortcut.weight, wider.shortcut.bias))


def test_images_of_no_whole_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 27 x 27 pixels are not of whole patches of 2"):
        Denoiser(1)(noise(1, 1, 27, 27), noise(1))
