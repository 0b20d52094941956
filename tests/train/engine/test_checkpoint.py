"""A checkpoint's keys stay, so that what a version has begun the next one goes on with; what does not fit starts over."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.parts.artifacts import publish_images, refusal
from tests.train.engine.test_loop import TINY, dots, same, uninterrupted, weights
from train import pretrain
from train.data.images import Images
from train.engine import checkpoint
from train.engine.loop import Training
from train.methods.vicreg import Config
from train.models.encoder import Architecture, Encoder
from train.models.heads import projector
from train.tracking.store import Store, home

MUON = dataclasses.replace(TINY, backbone="whitened", hidden=0, optimizer="muon")
NEWER = {"collapse/spread", "collapse/projection_rank", "collapse/projection_spread"}  # since glances are taken


@pytest.fixture
def images(peel_home: Path) -> Images:
    pictures = dots()
    publish_images(pictures)
    return pictures


def interrupt(config: Config, step: int) -> Path:
    """Trains until the step after `step` is made, and returns the checkpoint."""
    train_step = Training._train_step

    def interrupting(self: Training) -> None:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        train_step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_train_step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            pretrain.main(config)
    (path,) = (home() / "checkpoints").glob("*.safetensors")
    return path


def progress_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    return progress


@pytest.mark.parametrize("config", [TINY, MUON], ids=["adamw", "muon"])
def test_the_keys_are_those_with_which_trainings_were_interrupted_before(config: Config, images: Images) -> None:
    path = interrupt(config, 7)
    tensors, progress = load_file(path), progress_of(path)
    # Built as trainings were before there was a choice of methods: an encoder, then a projector.
    layers = (config.backbone, config.width, config.hidden, config.dimension)
    modules = {
        "encoder": Encoder(Architecture(*layers, 32, images.mean, images.std)),
        "projector": projector(config.dimension, [config.projector_width] * config.projector_layers),
    }
    expected = {
        f"{part}/{key}": value for part, module in modules.items() for key, value in module.state_dict().items()
    }
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    if config.optimizer == "muon":  # AdamW's parameters come before Muon's
        parameters.sort(key=lambda parameter: parameter.dim() == 4)
    for index, parameter in enumerate(parameters):
        muon = config.optimizer == "muon" and parameter.dim() == 4
        moments = ("momentum",) if muon else ("exp_avg", "exp_avg_sq")
        expected |= {f"optimizer/{index}/step": torch.zeros(())}
        expected |= {f"optimizer/{index}/{name}": parameter.detach() for name in moments}
    assert {key: value.shape for key, value in tensors.items()} == {key: value.shape for key, value in expected.items()}
    assert {"encoder/head.0.bias" if config.hidden else "encoder/head.1.bias", "projector/0.weight"} < tensors.keys()
    assert float(tensors["optimizer/0/step"]) == 8
    assert progress.keys() == {"step", "batches", "epochs", "processes", "threads", "run", "glances", "seconds"}
    assert progress["batches"][-1].keys() == {
        "batch", "optimizer/learning_rate", "loss/invariance", "loss/variance", "loss/covariance", "loss/total",
    }  # fmt: skip
    assert progress["epochs"][-1].keys() == {
        "epoch", "batch", "knn/top1", "collapse/std", "collapse/effective_rank", *NEWER,
        "test/invariance", "test/variance", "test/covariance", "test/total",
    }  # fmt: skip


def test_what_an_older_version_has_begun_ends_in_the_same_weights(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = interrupt(TINY, 7)
    tensors, progress = load_file(path), progress_of(path)
    del progress["glances"], progress["seconds"]
    progress["epochs"] = [
        {key: value for key, value in entry.items() if key not in NEWER} for entry in progress["epochs"]
    ]
    save_file(tensors, path, metadata={"progress": json.dumps(progress)})
    pretrain.main(TINY)
    assert "going on from step 8 of 18" in capsys.readouterr().out
    assert same(weights(), uninterrupted(TINY, tmp_path / "other", monkeypatch)[0])


def rename(tensors: dict[str, Tensor]) -> None:
    tensors["predictor/0.weight"] = tensors.pop("projector/0.weight")


def add(tensors: dict[str, Tensor]) -> None:
    tensors["target/0.weight"] = torch.zeros(3)


def remove(tensors: dict[str, Tensor]) -> None:
    del tensors["projector/0.weight"]


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors["encoder/head.0.weight"] = tensors["encoder/head.0.weight"][:, :-1].contiguous()


def move_moments(tensors: dict[str, Tensor]) -> None:
    tensors["optimizer/0/exp_avg"] = torch.zeros(2, 2)


def add_moments(tensors: dict[str, Tensor]) -> None:
    tensors["optimizer/999/step"] = torch.zeros(())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (rename, "it has predictor/0.weight, and the networks have not"),
        (add, "it has target/0.weight, and the networks have not"),
        (remove, "it has no projector/0.weight"),
        (reshape, "its encoder/head.0.weight is (8, 15), not (8, 16)"),
        (move_moments, "its optimizer/0/exp_avg is (2, 2), not (4, 3, 3, 3)"),
        (add_moments, "it has optimizer/999/step, and there are"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_checkpoint_of_other_networks_starts_over_and_says_so(
    change: Callable[[dict[str, Tensor]], None],
    named: str,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = dataclasses.replace(TINY, epochs=1)
    path = interrupt(config, 2)
    tensors, progress = load_file(path), progress_of(path)
    change(tensors)
    save_file(tensors, path, metadata={"progress": json.dumps(progress)})
    pretrain.main(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "starts over" in line]
    assert str(path) in line and named in line
    assert same(weights(), uninterrupted(config, tmp_path / "other", monkeypatch)[0])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, folder, empty])
def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_the_training_starts_over(
    damage: Callable[[Path], None], images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(TINY, epochs=1)
    path = interrupt(config, 2)
    damage(path)
    pretrain.main(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "starts over" in line]
    aside = path.with_name(f"{path.name}.damaged")
    assert f"it is now {aside}" in line and aside.exists()
    assert Store().find("encoder", "latest") is not None and not path.exists()


@pytest.mark.parametrize("name", [".lock", ".draft"])
def test_a_folder_where_a_training_keeps_a_file_is_set_aside(
    name: str, images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(TINY, epochs=1)
    path = interrupt(config, 2).with_suffix(name)
    path.unlink(missing_ok=True)
    path.mkdir()
    pretrain.main(config)
    assert f"{path} is not what trainings keep there" in capsys.readouterr().out
    assert path.with_name(f"{path.name}.damaged").is_dir()


def test_checkpoints_that_are_a_file_are_set_aside(images: Images) -> None:
    (home() / "checkpoints").write_text("a file")
    pretrain.main(dataclasses.replace(TINY, epochs=1))
    assert (home() / "checkpoints.damaged").read_text() == "a file"


SOUND = {
    "step": 1, "batches": [{"batch": 1}], "epochs": [{"epoch": 0.0}], "processes": 1, "threads": 0, "run": "",
    "glances": [], "seconds": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": "1"}, "step is '1'"),
        ({"step": 1.5}, "step is 1.5"),
        ({"batches": [{"batch": None}]}, "batches.0.batch"),
        ({"batches": 3}, "batches is 3"),
        ({"epochs": [{"epoch": float("nan")}]}, "'NaN'"),
        ({"processes": 0}, "processes is 0"),
        ({"step": 0}, "another step of parameter 0"),
    ],
)
def test_progress_of_other_values_is_no_progress(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path, module = tmp_path / "x.safetensors", nn.Sequential(nn.Linear(3, 2))
    adam = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    adam.step()
    checkpoint.save(path, module, adam, checkpoint.Progress(1, ({"batch": 1},), ({"epoch": 0.0},)))
    assert progress_of(path) == SOUND
    assert checkpoint.load(path, module, adam, lambda progress: None) is not None
    save_file(load_file(path), path, metadata={"progress": json.dumps({**SOUND, **change})})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(checkpoint.Misfit) as misfit:
        checkpoint.load(path, module, adam, lambda progress: None)
    assert words in str(misfit.value) and same(module.state_dict(), before)


def test_a_checkpoint_of_weights_that_are_not_finite_is_none(tmp_path: Path) -> None:
    path, module = tmp_path / "x.safetensors", nn.Sequential(nn.Linear(3, 2))
    adam = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        nn.init.constant_(parameter, float("nan"))
    checkpoint.save(path, module, adam, checkpoint.Progress(0, (), ({"epoch": 0.0},)))
    with pytest.raises(checkpoint.Misfit, match="its 0/bias holds NaN"):
        checkpoint.load(path, module, adam, lambda progress: None)


def test_a_step_that_diverges_at_the_end_of_a_training_is_neither_saved_nor_published(images: Images) -> None:
    config = dataclasses.replace(TINY, epochs=1, batch_size=50, learning_rate=1e30, warmup=0.0)
    assert "--learning-rate below 1e+30" in refusal(lambda: pretrain.main(config))
    assert not list((home() / "checkpoints").glob("*.safetensors")) and Store().find("encoder", "latest") is None
