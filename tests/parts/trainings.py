"""Trainings that are cut off in mid-epoch and go on, beside those that nothing cut off."""

from collections.abc import Callable
from pathlib import Path

import torch

from train.engine.loop import Training

STEPS = 9  # before the cut, of 6 an epoch


def continuation(training: Callable[[], Training], folder: Path) -> tuple[Training, Training]:
    """Of equal trainings one that ran to its end, and one that went on from the checkpoint of a third, which was cut off.

    All that the methods keep, and all that was measured, is the same to the last bit.
    """
    whole, first, second = (training() for _ in range(3))
    whole.run(folder / "whole.safetensors")
    first._measure()
    first._glance()
    for _ in range(STEPS):
        first._train_step()
        if first.step % first.epoch_steps == 0:
            first.method.after_epoch(first.step // first.epoch_steps)
            first._measure()
        first._glance()
    assert first.epoch_steps < first.step < first.steps and first.step % first.epoch_steps
    first._save(folder / "half.safetensors")
    second.run(folder / "half.safetensors")
    expected, actual = whole.method.state_dict(), second.method.state_dict()
    assert actual.keys() == expected.keys()
    assert not [name for name, value in actual.items() if not torch.equal(value, expected[name])]
    assert second.batches == whole.batches and second.epochs == whole.epochs and second.glances == whole.glances
    return whole, second
