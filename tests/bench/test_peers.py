"""The benchmark's peers: each recipe trains, and is read by the probe that reads ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.peers import PEERS, lars, measure_peers, pace, plain, small, two_views
from train.data.datasets import load
from train.data.images import Images


def few(count: int) -> Images:
    """Of the digits, at CIFAR's size."""
    whole = load("digits", "digits")
    return Images.from_arrays(
        "digits",
        whole.classes,
        {
            f"{split}{kind}": np.array(getattr(whole, split + kind)[:count])
            for split in ("train", "test")
            for kind in ("", "_labels")
        },
    )


@pytest.mark.slow
def test_every_peer_is_trained_and_read_as_ours_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEEL_HOME", str(tmp_path))
    rows = measure_peers(few(96), minutes=0.02)
    assert [row.what for row in rows[2:-1]] == [f"peers: {peer.name}" for peer in PEERS]
    assert all(0 <= row.median <= 100 for row in rows[:-1])
    assert rows[-1].median == pytest.approx(rows[0].median - max(row.median for row in rows[2:-1]))
    assert "512-d" in rows[2].note and "1,536-d" in rows[0].note


def test_a_peers_rate_rises_and_ends_at_zero_with_its_minutes() -> None:
    rates = [pace(passed) for passed in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_the_small_resnet_keeps_the_map_that_the_plain_one_loses() -> None:
    images = torch.randn(2, 3, 32, 32)
    for network, side in ((plain(), 1), (small(), 4)):
        maps: list[torch.Size] = []
        network.get_submodule("layer4").register_forward_hook(
            lambda module, inputs, output, maps=maps: maps.append(output.shape)
        )
        assert network(images).shape == (2, 512)
        assert maps[0][2:] == (side, side)


def test_two_views_of_a_picture_differ_and_biases_are_not_decayed() -> None:
    import PIL.Image

    first, second = two_views((0.5,) * 3, (0.25,) * 3)(PIL.Image.fromarray(np.array(few(1).train[0])))
    assert first.shape == second.shape == (3, 32, 32) and not torch.equal(first, second)
    decays = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in lars(plain(), 0.3).param_groups}
    assert decays == {1e-4: {4}, 0.0: {1}}
