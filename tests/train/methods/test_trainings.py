"""Every method of the table in the loop: resumed, on neighbors, and shared by two processes."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parts.artifacts import Silent
from tests.parts.trainings import continuation
from tests.train.engine.test_loop import dots
from tests.train.engine.test_processes import ended, together
from tests.train.methods.test_prediction import TINY_FLAGS
from train.data.images import Images
from train.data.neighbors import build, nearest
from train.engine.loop import Training
from train.methods.partners import Partners
from train.methods.prediction import Prediction, momentum
from train.pretrain import METHODS


def training(name: str, images: Images, partners: Partners | None = None, **changes: Any) -> Training:
    config = METHODS[name].configuration(**{**TINY_FLAGS, "view_count": 4, **changes})
    stage: Any = Silent()
    return Training(METHODS[name](config, images, partners), stage, torch.device("cpu"))


def state(of: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in of.method.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_a_training_that_was_cut_off_in_mid_epoch_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    images = dots()
    continuation(lambda: training(name, images, optimizer="muon"), tmp_path)  # which has AdamW in it


@pytest.mark.parametrize("name", METHODS)
def test_an_image_and_its_neighbor_are_views_for_every_method(name: str) -> None:
    images = dots()
    pixels = [getattr(images, split).reshape(-1, 3072).astype("float32") for split in ("train", "test")]
    ids = [
        nearest(build(pixels[0]), pixels[0], some, 3, among)[1]
        for some, among in zip(pixels, (True, False), strict=True)
    ]
    of = training(name, images, Partners(*ids), views="neighbors", view_count=2, view_size=0)
    before = state(of)
    of._train_step()
    assert set(of.batches[-1]) == {"batch", "optimizer/learning_rate", *(f"loss/{term}" for term in of.terms)}
    moved = [
        key for key, value in state(of).items() if value.is_floating_point() and not torch.equal(value, before[key])
    ]
    assert any(key.startswith("encoder.") for key in moved) and any(key.startswith("projector.") for key in moved)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_the_targets_momentum_is_that_of_the_step_at_the_first_the_middle_and_the_last(name: str) -> None:
    of = training(name, dots(), target="moving", momentum=0.8)
    assert isinstance(of.method, Prediction)
    for step in range(of.steps):
        target = of.method.get_submodule("target")
        before = [parameter.clone() for parameter in target.parameters()]
        of._train_step()
        online = [*of.method.encoder.parameters(), *of.method.projector.parameters()]
        share = 1 - momentum(0.8, step / of.steps)
        if step in (0, of.steps // 2, of.steps - 1):
            for old, new, own in zip(before, target.parameters(), online, strict=True):
                torch.testing.assert_close(new, old + share * (own - old))


GIVEN = textwrap.dedent("""
    import sys
    import torch
    from safetensors.torch import save_file
    from tests.train.methods.test_trainings import projections, training
    from tests.train.engine.test_loop import dots
    from train.engine.processes import process_group
    from train.pretrain import METHODS

    values = {}
    with process_group(torch.device("cpu")) as processes:
        for name in METHODS:
            method = training(name, dots()).method
            whole = projections(name)
            shares = {key: z[:, processes.share(z.shape[1])].clone().requires_grad_() for key, z in whole.items()}
            total, terms = method.loss({key: processes.gather(z) for key, z in shares.items()})
            total.backward()
            values[f"{name}/total"] = total.detach()
            for key, z in shares.items():
                if z.grad is not None:
                    values[f"{name}/{key}"] = z.grad
        save_file(values, f"{sys.argv[1]}-{processes.count}-{processes.rank}")
""")


def projections(name: str) -> dict[str, Tensor]:
    """What a method's loss takes: (v, n, d) float64."""
    random = np.random.default_rng(0)
    keys = {"lejepa": ("z", "coordinates"), "vicreg": ("z",), "barlow": ("z",)}.get(name, ("prediction", "target"))
    return {key: torch.from_numpy(random.normal(size=(4, 12, 5))) for key in keys}


def test_two_processes_agree_with_one_on_the_same_projections(tmp_path: Path) -> None:
    results = ended(together("-c", GIVEN, str(tmp_path / "loss")))
    assert [code for code, _, _ in results] == [0, 0], results
    shares = [load_file(tmp_path / f"loss-2-{rank}") for rank in (0, 1)]
    for name in METHODS:
        whole = {key: z.requires_grad_() for key, z in projections(name).items()}
        total, _ = training(name, dots()).method.loss(whole)
        total.backward()
        gradients = {f"{name}/{key}": z.grad for key, z in whole.items() if z.grad is not None}
        assert gradients
        for key, gradient in gradients.items():
            together_ = torch.cat([share[key] for share in shares], dim=1)
            assert (together_ - gradient).abs().max() < 1e-12, key
        for share in shares:
            assert abs(float(share[f"{name}/total"] - total.detach())) < 1e-12, name
