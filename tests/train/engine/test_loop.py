"""The loop: what it trains on, what it measures, and that an interruption changes nothing."""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from tests.parts import processes
from tests.parts.artifacts import publish_images, refusal
from train import pretrain
from train.data.images import Images
from train.data.scores import Scores
from train.data.views import views
from train.engine import loop
from train.engine.loop import Training
from train.engine.optimizer import ITERATIONS, QUINTIC, Muon, learning_rate, optimizer, orthogonal
from train.methods import vicreg
from train.methods.variants import variant_name
from train.methods.vicreg import Config, VICReg
from train.models.encoder import Architecture, Encoder
from train.tracking import Stage, threads
from train.tracking.store import Store, home

TINY = Config(
    images="dots", preset="small", epochs=3, batch_size=8, view_count=2, width=4, hidden=8, dimension=6,
    projector_width=10, projector_layers=2, view_size=16, precision="float32", backbone="compact", optimizer="adamw",
)  # fmt: skip


def dots(train: int = 50, test: int = 20) -> Images:
    """Noisy images whose class is their color."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        labels = random.integers(0, 3, count)
        arrays[split] = (
            random.integers(0, 128, (count, 32, 32, 3)) + 100 * np.eye(3, dtype=int)[labels][:, None, None]
        ).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.int64)
    return Images.from_arrays("dots", ("red", "green", "blue"), arrays)


@pytest.fixture
def images(peel_home: Path) -> Images:
    pictures = dots()
    publish_images(pictures)
    return pictures


def weights(alias: str = "latest") -> dict[str, torch.Tensor]:
    store = Store()
    return load_file(store.folder(store.get("encoder", alias)) / "weights.safetensors")


def scores() -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("training", "latest")))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def uninterrupted(
    config: Config, other_home: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, torch.Tensor], Scores]:
    """What the training ends in when nothing disturbs it, made in a home of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("PEEL_HOME", str(other_home))
        publish_images(dots())
        pretrain.main(config)
        return weights(), scores()


# -- interruptions -----------------------------------------------------------------------------------------------------


def test_a_run_killed_while_it_saves_in_mid_epoch_ends_in_the_same_weights_and_curves(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [f"--{field.name}={getattr(TINY, field.name)}" for field in dataclasses.fields(TINY)]
    # Saves after every step, and kills itself at the tenth save: its draft is written and has not replaced the ninth.
    child = textwrap.dedent("""
        import os, signal, sys
        from train import pretrain
        from train.engine import loop
        saves, fsync = 0, os.fsync
        def killing(descriptor):
            global saves
            saves += 1
            if saves == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)
        os.fsync, loop.CHECKPOINT_SECONDS = killing, -1
        pretrain.COMMAND.run(sys.argv[1:])
    """)
    killed = processes.run("-c", child, *flags)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Store().find("encoder", "latest") is None
    (left,) = (home() / "checkpoints").glob("*.safetensors")
    assert checkpoint_step(left) == 9  # of 6 an epoch

    resumed = processes.run("-m", "train.pretrain", *flags)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step 9 of 18" in resumed.stdout
    expected_weights, expected = uninterrupted(TINY, tmp_path / "other", monkeypatch)
    assert same(weights(), expected_weights)
    assert scores().values == expected.values
    curves, expected_curves = scores().figures, expected.figures
    assert len(curves["training/total"].data[0].x) == 18
    assert {name: figure.to_json() for name, figure in curves.items()} == {
        name: figure.to_json() for name, figure in expected_curves.items()
    }
    assert not list((home() / "checkpoints").iterdir())


def checkpoint_step(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


@pytest.mark.parametrize("changes", [{}, {"backbone": "whitened", "hidden": 0, "optimizer": "muon"}])
def test_ctrl_c_saves_and_the_same_command_goes_on(
    changes: dict[str, Any], images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(TINY, **changes)
    step = Training._train_step

    def interrupting(self: Training) -> None:
        if self.step == 7:
            os.kill(os.getpid(), signal.SIGINT)  # the eighth step is still made whole
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_train_step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            pretrain.main(config)
    assert Store().find("encoder", "latest") is None
    (left,) = (home() / "checkpoints").glob("*.safetensors")
    assert checkpoint_step(left) == 8
    pretrain.main(config)
    assert same(weights(), uninterrupted(config, tmp_path / "other", monkeypatch)[0])


def test_another_configuration_does_not_take_over_a_checkpoint(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for config in (TINY, dataclasses.replace(TINY, seed=1), dataclasses.replace(TINY, learning_rate=1e-4)):
        with Stage("train.pretrain", config) as stage:
            stage.fetch("images", "dots")
            keys.add(stage.key)
    with Stage("train.pretrain", dataclasses.replace(TINY, device="cpu")) as stage:
        stage.fetch("images", "dots")
        assert stage.key in keys  # the same training on another device
    assert len(keys) == 3


# -- the loop ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_version_and_another_seed_another(images: Images) -> None:
    for seed in (0, 0, 1):
        pretrain.main(dataclasses.replace(TINY, seed=seed))
    versions = Store().versions("encoder")
    assert len(versions) == 2
    assert "dots-vicreg" in "".join(versions[0].aliases)
    assert not any(alias.endswith("-s0") for alias in versions[1].aliases)


def test_a_loss_that_is_not_finite_names_term_epoch_and_batch_and_publishes_nothing(images: Images) -> None:
    line = refusal(lambda: pretrain.main(dataclasses.replace(TINY, learning_rate=1e30, warmup=0.0)))
    assert "term is" in line and "epoch 1, batch 2" in line and "--learning-rate" in line
    assert Store().find("encoder", "latest") is None and Store().find("training", "latest") is None


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    orders = [loop.epoch_order(0, epoch, 500) for epoch in range(20)]
    for order in orders:
        assert sorted(order) == list(range(500))
    correlations = np.corrcoef(np.stack([*orders, np.arange(500)]))
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 0.2


def test_test_terms_are_those_of_the_projections_in_evaluation_mode(images: Images) -> None:
    with Stage("train.pretrain", TINY) as stage:
        method = VICReg(TINY, images)
        trained = Training(method, stage)
        method.encoder(torch.randn(32, 3, 16, 16))  # running statistics that are not the initial ones
        trained._training_mode(False)
        measured = trained._test_terms()
    expected = []
    mean, std = torch.tensor(images.mean), torch.tensor(images.std)
    for index in range(2):  # 20 test images are two batches of 8; the last 4 are left out
        pixels = torch.from_numpy(images.test[8 * index : 8 * (index + 1)])
        seen = views(pixels, 2, TINY.augmentation(32), mean, std, loop.generator(0, index))
        with torch.inference_mode():
            z = torch.stack([method.projector.eval()(method.encoder.eval()(view)[1]) for view in seen])
        expected.append([float(term) for term in vicreg.terms(z)])
    for name, value in zip(("invariance", "variance", "covariance"), np.mean(expected, axis=0), strict=True):
        assert measured[f"test/{name}"] == pytest.approx(value, rel=1e-4)
    assert measured["test/total"] == pytest.approx(
        25 * measured["test/invariance"] + 25 * measured["test/variance"] + measured["test/covariance"], rel=1e-5
    )


def test_no_epochs_publish_the_network_as_it_was_born(images: Images) -> None:
    pretrain.main(dataclasses.replace(TINY, epochs=0))
    torch.manual_seed(0)
    born = Encoder(Architecture("compact", 4, 8, 6, 32, images.mean, images.std))
    assert same(weights(), born.state_dict())


def test_learning_rate_rises_then_follows_torchs_cosine() -> None:
    config = dataclasses.replace(TINY, warmup=0.25, learning_rate=0.5)
    rates = [learning_rate(step, 80, config) for step in range(80)]
    assert all(a < b for a, b in itertools.pairwise(rates[:21]))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    for rate in rates[20:]:
        assert rate == pytest.approx(cosine.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        cosine.step()
    constant = dataclasses.replace(config, warmup=0.0, schedule="constant")
    assert {learning_rate(step, 80, constant) for step in range(80)} == {0.5}


# -- names and presets -------------------------------------------------------------------------------------------------


def test_a_variant_is_called_by_what_was_peeled() -> None:
    default = Config.defaults({"preset": "default"})
    for changes, count, name in (
        ({}, 50_000, "x-vicreg"),
        ({"variance": 0.0}, 50_000, "x-vicreg-variance0"),
        ({"flip": 0.0, "projector_width": 1024}, 50_000, "x-vicreg-flip0-projector1024"),
        ({"backbone": "resnet18"}, 50_000, "x-vicreg-resnet18"),
        ({"epochs": 0, "learning_rate": 1.0}, 50_000, "x-untrained"),
        ({"seed": 3, "device": "cuda", "compile": True}, 50_000, "x-vicreg"),
        ({}, 1_000, "x-vicreg-default"),
    ):
        assert variant_name(dataclasses.replace(default, **changes), "x", count) == name
    assert variant_name(Config.defaults({"preset": "small"}), "x", 1_000) == "x-vicreg"
    assert variant_name(Config.defaults({"preset": "exercise"}), "x", 50_000) == "x-vicreg-exercise"


def test_any_other_setting_gives_a_name_of_its_own() -> None:
    default = Config.defaults({"preset": "default"})
    searched = [dataclasses.replace(default, learning_rate=rate) for rate in (1e-3, 2e-3)]
    names = {variant_name(config, "x", 50_000) for config in [default, *searched]}
    assert len(names) == 3 and all(name.startswith("x-vicreg") for name in names)


def test_the_exercise_preset_is_the_recipe_to_the_letter() -> None:
    exercise = Config.defaults({"preset": "exercise"})
    augmentation = exercise.augmentation(32)
    assert (augmentation.size, augmentation.scale) == (32, (0.2, 1.0))
    assert augmentation.ratio == pytest.approx((3 / 4, 4 / 3))
    assert (augmentation.flip, augmentation.jitter, augmentation.grayscale, augmentation.blur) == (0.5, 1.0, 0.2, 0.5)
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    assert (strengths, augmentation.blur_kernel, augmentation.solarize) == ((0.4, 0.4, 0.2, 0.1), 3, 0.0)
    assert (exercise.backbone, exercise.hidden, exercise.dimension) == ("resnet18", 512, 128)
    assert (exercise.projector_width, exercise.projector_layers, exercise.view_count) == (512, 3, 2)
    assert (exercise.optimizer, exercise.learning_rate, exercise.weight_decay) == ("adam", 3e-4, 1e-6)
    assert (exercise.schedule, exercise.warmup, exercise.batch_size, exercise.epochs) == ("constant", 0.0, 256, 10)
    assert exercise.weights == (25.0, 25.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": -1}, "--epochs -1"),
        ({"batch_size": 51}, "51 is larger than the 50 images of dots"),
        ({"view_count": 1}, "--view-count 1"),
        ({"flip": 1.5}, "--flip 1.5"),
        ({"device": "teapot"}, "--device teapot"),
        ({"images": "nothing"}, "known aliases of images: dots, latest"),
        ({"images": "encoder:dots"}, "encoder:dots"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value(images: Images, changes: dict[str, Any], named: str) -> None:
    assert named in refusal(lambda: pretrain.main(dataclasses.replace(TINY, **changes)))
    assert Store().versions("encoder") == []


# -- muon --------------------------------------------------------------------------------------------------------------


def test_a_step_of_muon_has_the_gradients_directions_and_like_singular_values() -> None:
    for shape in ((6, 4, 3, 3), (40, 2, 3, 3)):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.randn(shape))
        before, parameter.grad = parameter.detach().clone(), torch.randn(shape)
        optimizer = Muon([{"params": [parameter]}], times=1.0, lr=0.1, weight_decay=0.0)
        optimizer.step()
        change = (parameter.detach() - before).flatten(1).double().numpy() / -0.1
        left, _, right = np.linalg.svd(parameter.grad.flatten(1).double().numpy(), full_matrices=False)
        along = left.T @ change @ right.T / max(1, shape[0] / (shape[1] * 9)) ** 0.5
        singular = np.diag(along)
        assert (np.abs(along - np.diag(singular)) < 0.01).all() and (singular > 0.6).all() and (singular < 1.3).all()


@pytest.mark.parametrize("shape", [(8, 60), (60, 8), (8, 8)])
def test_singular_values_too_small_for_float32s_squares_are_stepped_as_the_plain_iteration_does(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    x = left * torch.logspace(0, -6, 8, dtype=torch.float64) @ right
    got = orthogonal(x.float())
    x /= x.norm()
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = QUINTIC[0] * x + (QUINTIC[1] * gram + QUINTIC[2] * gram @ gram) @ x
    assert torch.allclose(got.double(), x, atol=2e-3)


def test_what_is_no_convolution_is_stepped_by_adamw_to_the_last_bit() -> None:
    stepped = []
    for kind in ("muon", "adamw"):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(shape)) for shape in ((3, 5), (3,), (4, 2, 3, 3))]
        stepper = optimizer(dataclasses.replace(TINY, optimizer=kind), [{"params": parameters}], torch.device("cpu"))
        for _ in range(3):
            torch.cat([parameter.sin().flatten() for parameter in parameters]).sum().backward()
            stepper.step()
        stepped.append(parameters)
    muon, adamw = stepped
    assert [torch.equal(a, b) for a, b in zip(muon, adamw, strict=True)] == [True, True, False]


def logged(config: Config, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The rows that a training logs."""
    monkeypatch.setenv("PEEL_HISTORY", str(path))
    with contextlib.suppress(KeyboardInterrupt):
        pretrain.main(config)
    return [row for row in map(json.loads, path.read_text().splitlines()) if "run" not in row]


def test_a_training_that_goes_on_logs_again_what_it_had_logged_in_the_same_order(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run that goes on at W&B passes over as many rows as are there."""
    step = Training._train_step

    def interrupting(self: Training) -> None:
        if self.step == 13:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_train_step", interrupting)
        first = logged(TINY, tmp_path / "first", patch)
    second = logged(TINY, tmp_path / "second", monkeypatch)
    assert first == second[: len(first)] and len(first) < len(second)
    assert {"loss/total", "knn/top1", "curve/knn", "pace/seconds"} <= {name for row in first for name in row}


def test_a_training_goes_on_with_the_threads_that_it_began_with(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_by_user", False)
    monkeypatch.setattr(threads, "_fitted", True)
    before, step = threads.count(), Training._train_step
    counts = []

    def interrupting(self: Training) -> None:
        counts.append(threads.count())
        if self.step == 7 and len(counts) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    monkeypatch.setattr(Training, "_train_step", interrupting)
    try:
        threads.use(before + 1)
        with pytest.raises(KeyboardInterrupt):
            pretrain.main(TINY)
        threads.use(before)
        pretrain.main(TINY)
    finally:
        threads.use(before)
    assert counts == [before + 1] * 18
