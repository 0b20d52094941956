"""Encoders: built to the letter, saved and loaded whole, and the patches against a plain loop."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import resnet18 as torchvision_resnet18

from tests.parts.artifacts import refusal
from train.models import patches
from train.models.encoder import Architecture, Encoder
from train.models.heads import projector
from train.models.patches import CONTRAST, SIDE, THRESHOLD, WHITENING, WhitenedPatches, whitened_patches
from train.models.whitened import GRIDS, Stem, Whitened, averages


def architecture(backbone: str, **changes: int) -> Architecture:
    sizes = {"width": 8, "hidden": 16, "dimension": 6, "size": 32} | changes
    return Architecture(backbone, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), **sizes)  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_resnet18_is_the_exercises_to_the_letter() -> None:
    encoder = Encoder(architecture("resnet18", hidden=512, dimension=128))
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    assert (first.kernel_size, first.stride, first.padding) == ((3, 3), (1, 1), (0, 0))
    assert first.bias is not None
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())
    kinds = [(type(layer).__name__, getattr(layer, "out_features", None)) for layer in encoder.head.children()]
    assert kinds == [("Linear", 512), ("BatchNorm1d", None), ("ReLU", None), ("Linear", 128)]
    standard = sum(p.numel() for p in torchvision_resnet18(num_classes=512).parameters())
    changed = standard - 64 * 3 * 7 * 7 + (64 * 3 * 3 * 3 + 64) + 2 * 512 + 512 * 128 + 128
    assert sum(p.numel() for p in encoder.parameters()) == changed
    features, representation = encoder.eval()(noise(2, 3, 32, 32))
    assert features.shape[1] == 512 and representation.shape[1] == 128


def test_fourconv_is_four_convolutions_and_one_linear_layer_to_1024_dimensions() -> None:
    encoder = Encoder(architecture("fourconv", hidden=0, dimension=0)).eval()
    layers = [module for module in encoder.modules() if list(module.parameters(recurse=False))]
    assert [type(layer).__name__ for layer in layers] == ["Conv2d"] * 4 + ["Linear"]
    convolved = nn.Sequential(*layers[:4])(noise(1, 3, 32, 32))
    last = layers[4]
    assert isinstance(last, nn.Linear) and last.in_features == convolved.numel(), "a 32-pixel image's whole map is read"
    for side in (8, 32, 50):
        features, representation = encoder(noise(2, 3, side, side))
        assert torch.equal(features, representation) and features.shape == (2, 1024)


def test_representation_is_the_head_of_the_features() -> None:
    encoder = Encoder(architecture("compact")).eval()
    features, representation = encoder(noise(4, 3, 32, 32))
    assert torch.equal(encoder.head(features), representation)


def test_features_are_averaged_over_the_map_so_that_crops_and_whole_images_fit() -> None:
    encoder = Encoder(architecture("compact")).eval()
    for side in (8, 16, 32):
        assert encoder(noise(2, 3, side, side))[1].shape == (2, 6)


def test_a_saved_encoder_encodes_as_before(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    for backbone in ("compact", "whitened", "fourconv", "patches", "pixels"):
        changes = {"compact": {}, "whitened": {"hidden": 0}}.get(backbone, {"hidden": 0, "dimension": 0})
        encoder = Encoder(architecture(backbone, **changes))
        encoder(noise(16, 3, 32, 32) * 2 + 1)  # moves the running statistics, which must be saved too
        folder = tmp_path / backbone
        folder.mkdir()
        encoder.eval().save(folder)
        again = Encoder.load(folder)
        for before, after in zip(encoder.encode(images, 0, 5), again.encode(images, 0, 5), strict=True):
            assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10**9}, "overflowed"),
        ({"width": 40_000}, "not (40000, 3, 3, 3)"),  # whose weights would take 300 GB
        ({"width": -1}, "width is -1"),
        ({"hidden": 1.5}, "hidden is 1.5"),
        ({"dimension": 10**9}, "not (1000000000,"),
        ({"size": 0}, "size is 0"),
        ({"size": 10**9}, "size is 1000000000"),
        ({"mean": [0.5]}, "mean.1"),
        ({"std": [0.1, 0, 0.1]}, "std.1 is 0"),
        ({"backbone": "resnet19"}, "no backbone is called 'resnet19'"),
    ],
)
def test_an_encoder_of_other_sizes_is_refused_before_it_takes_memory(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    Encoder(architecture("compact")).save(tmp_path)
    about = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps(about | changes))
    assert words in refusal(lambda: Encoder.load(tmp_path))


def test_weights_of_another_type_or_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = Encoder(architecture("compact"))
    encoder.save(tmp_path)
    weights = load_file(tmp_path / "weights.safetensors")
    for change, words in (
        (torch.full((6,), torch.nan), "its head.3.bias holds NaN"),
        (torch.zeros(6, dtype=torch.float64), "its head.3.bias is torch.float64"),
        (torch.zeros(7), "its head.3.bias is (7,), not (6,)"),
    ):
        save_file({**weights, "head.3.bias": change}, tmp_path / "weights.safetensors")
        assert words in refusal(lambda: Encoder.load(tmp_path))


def test_the_whitened_stem_gives_what_is_positive_and_what_is_negative_of_each_response_and_is_not_trained() -> None:
    stem = Stem().eval()
    stem.bank.copy_(noise(*stem.bank.shape))
    images = noise(2, 3, 16, 16)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))), (6, 6), (2, 3))
    responses = np.einsum("nchwij,kcij->nkhw", windows[:, :, ::2, ::2], stem.bank.numpy())
    expected = np.concatenate([np.maximum(responses, 0), np.maximum(-responses, 0)], axis=1)
    np.testing.assert_allclose(stem(images).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    assert not [name for name, _ in stem.named_parameters() if "bank" in name]


def test_the_whitened_networks_features_are_quadrants_of_its_last_two_stages_and_its_head_reads_their_mean() -> None:
    encoder = Encoder(architecture("whitened", hidden=0)).eval()
    images = noise(2, 3, 32, 32)
    maps: list[Tensor] = []
    assert isinstance(encoder.backbone, Whitened)
    for stage in (encoder.backbone.middle, encoder.backbone.high):
        stage.register_forward_hook(lambda module, inputs, output: maps.append(output.detach()))
    features, representation = encoder(images)
    sides = [each.shape[2] for each in maps]
    assert sides == [8, 4]
    quadrants = [
        each[:, :, top : top + side // 2, left : left + side // 2].mean(dim=(2, 3))
        for each, side in zip(maps, sides, strict=True)
        for top in (0, side // 2)
        for left in (0, side // 2)
    ]
    expected = torch.cat([torch.stack(quadrants[:4], dim=2), torch.stack(quadrants[4:], dim=2)], dim=1)
    torch.testing.assert_close(features.view_as(expected), expected)
    means = torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)
    torch.testing.assert_close(representation, encoder.head[-1](means))


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_another_grid_gives_the_features_more_parts_and_is_saved_with_the_encoder(grid: int, tmp_path: Path) -> None:
    plain = architecture("whitened", hidden=0)
    encoder = Encoder(dataclasses.replace(plain, details={"grid": grid})).eval()
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["details"] == {"grid": grid}
    again = Encoder.load(tmp_path)
    images = noise(2, 3, 32, 32)
    features, representation = again(images)
    assert features.shape == (2, 48 * grid**2) and torch.equal(representation, encoder(images)[1])
    assert isinstance(again.backbone, Whitened)
    middle = again.backbone.middle(again.backbone.low(again.backbone.stem(images)))
    parts = torch.nn.functional.adaptive_avg_pool2d(middle, grid).flatten(1)
    torch.testing.assert_close(features[:, : parts.shape[1]], parts)
    means = features.unflatten(1, (48, grid**2)).mean(dim=2)
    torch.testing.assert_close(representation, encoder.head[-1](means))


@pytest.mark.parametrize(
    "details", [{"grid": 0}, {"grid": 9}, {"grid": 10**9}, {"grid": 2.5}, {"grid": -1}, {"girth": 2}]
)
def test_a_grid_that_no_map_has_is_refused(details: dict[str, float], tmp_path: Path) -> None:
    Encoder(architecture("whitened", hidden=0)).save(tmp_path)
    about = json.loads((tmp_path / "encoder.json").read_text())
    assert "details" not in about
    (tmp_path / "encoder.json").write_text(json.dumps(about | {"details": details}))
    assert next(iter(details)) in refusal(lambda: Encoder.load(tmp_path))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_averages_are_those_of_torchs_adaptive_pooling(size: int) -> None:
    maps = noise(3, 5, size, size).contiguous(memory_format=torch.channels_last)
    for grid in GRIDS:
        torch.testing.assert_close(averages(maps, grid), torch.nn.functional.adaptive_avg_pool2d(maps, grid))


def test_pixels_are_the_normalised_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    encoder = Encoder(architecture("pixels", hidden=0, dimension=0)).eval()
    _, representation = encoder.encode(images, 1, 3)
    expected = ((images[1:] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.25]).transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_allclose(representation.numpy(), expected, atol=1e-5)


def test_encoding_resizes_other_images_to_the_encoders_own_size() -> None:
    encoder = Encoder(architecture("pixels", hidden=0, dimension=0)).eval()
    flat = np.full((2, 50, 50, 3), 128, np.uint8)
    red = encoder.encode(flat, 0, 2)[1].view(2, 3, 32 * 32)[:, 0]
    np.testing.assert_allclose(red.numpy(), (128 / 255 - 0.5) / 0.2, atol=1e-5)


def test_whitened_patches_agree_with_a_loop_over_patches() -> None:
    random = np.random.default_rng(0)
    images = (random.normal(size=(40, 3, 12, 12)).cumsum(axis=2).cumsum(axis=3) / 8).astype(np.float32)
    bank, offset = whitened_patches(images, 10, np.random.default_rng(1), sample=4000)
    layer = WhitenedPatches(10)
    layer.load_state_dict({"bank": bank, "offset": offset})

    # The same from the papers' equations, in float64, patch by patch.
    again = np.random.default_rng(1)
    rows, tops, lefts = (again.integers(0, high, 4000) for high in (40, 7, 7))
    sample = np.stack(
        [images[n, :, t : t + SIDE, s : s + SIDE].ravel() for n, t, s in zip(rows, tops, lefts, strict=True)]
    )

    def normalized(patch: NDArray[np.floating]) -> NDArray[np.floating]:
        centered: NDArray[np.floating] = patch - patch.mean()
        scaled: NDArray[np.floating] = centered / np.sqrt(patch.var(ddof=1) + CONTRAST)
        return scaled

    sample = np.stack([normalized(patch.astype(np.float64)) for patch in sample])
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(sample.T))
    whitening = vectors @ np.diag(1 / np.sqrt(values + WHITENING)) @ vectors.T
    chosen = (sample[:10] - mean) @ whitening
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    image = images[3]
    response = np.array(
        [
            [
                [unit @ whitening @ (normalized(image[:, t : t + SIDE, s : s + SIDE].ravel()) - mean) for s in range(7)]
                for t in range(7)
            ]
            for unit in chosen
        ]
    )
    parts = np.concatenate([np.maximum(response - THRESHOLD, 0), np.maximum(-response - THRESHOLD, 0)])
    quadrants = [
        parts[:, rows, columns].mean(axis=(1, 2))
        for rows in (slice(0, 4), slice(3, 7))
        for columns in (slice(0, 4), slice(3, 7))
    ]
    expected = np.stack(quadrants, axis=1).ravel()
    np.testing.assert_allclose(layer(torch.from_numpy(images[3:4]))[0].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_patches_of_many_images_have_the_bits_that_they_have_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(0)
    layer, images = WhitenedPatches(300), torch.randn(20, 3, 32, 32, generator=draws)
    layer.bank.copy_(torch.randn(layer.bank.shape, generator=draws))
    few = layer(images)  # CACHE has room for seven
    monkeypatch.setattr(patches, "CACHE", 1 << 40)
    assert torch.equal(few, layer(images)) and few.shape == (20, layer.features) and len(layer(images[:0])) == 0


def test_projector_has_batch_norm_and_relu_between_its_linear_layers() -> None:
    kinds = [type(layer).__name__ for layer in projector(128, [512] * 3)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
