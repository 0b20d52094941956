"""Two processes, as torchrun starts them, that train one encoder: against one process on the joined batch."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.parts.artifacts import publish_images
from tests.parts.processes import Process, run, start
from tests.train.engine.test_loop import TINY, checkpoint_step, dots, same, weights
from train import pretrain
from train.data.images import Images
from train.tracking.store import Store, home

TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"]
FLAGS = [f"--{field.name}={getattr(TINY, field.name)}" for field in dataclasses.fields(TINY)]
PRETRAIN = ["-m", "train.pretrain", *FLAGS]


@pytest.fixture
def images(peel_home: Path) -> Images:
    pictures = dots()
    publish_images(pictures)
    return pictures


def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def together(*command: str, count: int = 2) -> list[Process]:
    """The same command in `count` processes that know of each other."""
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), "WORLD_SIZE": str(count)}
    shared |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return [start(*command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]


def ended(processes: list[Process]) -> list[tuple[int, str, str]]:
    outputs = [process.communicate(timeout=120) for process in processes]
    return [(process.wait(), *output) for process, output in zip(processes, outputs, strict=True)]


# -- one step ----------------------------------------------------------------------------------------------------------

# Without batch normalization, whose statistics are a share's own; what a process computed goes to a file of its own.
STEP = textwrap.dedent("""
    import dataclasses, json, sys
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from tests.parts.artifacts import Silent
    from tests.train.engine.test_loop import TINY, dots
    from train.data.neighbors import build, nearest
    from train.engine.processes import process_group
    from train.engine.loop import Training
    from train.methods.partners import Partners
    from train.methods.vicreg import VICReg

    def bare(module):
        for name, child in module.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(module, name, nn.Identity())
            else:
                bare(child)

    config, images, partners = dataclasses.replace(TINY, views=sys.argv[2]), dots(), None
    if config.views == "neighbors":
        pixels = [getattr(images, split).reshape(-1, 3072).astype("float32") for split in ("train", "test")]
        ids = [nearest(build(pixels[0]), pixels[0], some, 3, among)[1] for some, among in zip(pixels, (True, False))]
        partners = Partners(*ids)
    cpu = torch.device("cpu")
    with process_group(cpu) as processes:
        training = Training(VICReg(config, images, partners), Silent(), cpu, processes)
        bare(training.method)
        training.parameters = list(training.method.parameters())
        for parameter in training.parameters:  # large enough for every term to count without the normalization
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter)
        training.optimizer = torch.optim.SGD(training.parameters, lr=0.1)
        training._train_step()
        entry = training.batches[-1]
    tensors = {str(i): parameter.grad.contiguous() for i, parameter in enumerate(training.parameters)}
    tensors |= {name: torch.tensor(value) for name, value in entry.items() if name.startswith("loss/")}
    save_file(tensors, f"{sys.argv[1]}-{processes.count}-{processes.rank}")
""")


@pytest.mark.parametrize("views", ["augmented", "neighbors"])
def test_loss_and_gradient_of_two_processes_are_those_of_one_on_the_joined_batch(views: str, tmp_path: Path) -> None:
    runs = [
        *together("-c", STEP, str(tmp_path / "step"), views),
        *together("-c", STEP, str(tmp_path / "step"), views, count=1),
    ]
    results = ended(runs)
    assert [code for code, _, _ in results] == [0, 0, 0], results
    whole = load_file(tmp_path / "step-1-0")
    assert {name for name in whole if name.startswith("loss/")} == {
        f"loss/{name}" for name in ("invariance", "variance", "covariance", "total")
    }
    largest = max(float(value.abs().max()) for name, value in whole.items() if not name.startswith("loss/"))
    for rank in (0, 1):
        shared = load_file(tmp_path / f"step-2-{rank}")
        assert shared.keys() == whole.keys()
        for name, expected in whole.items():
            if name.startswith("loss/"):
                assert expected > 1e-3 and shared[name] == pytest.approx(float(expected), rel=1e-5), name
            else:  # of a bias all but rounding cancels: the terms do not see a shift
                difference = float((shared[name] - expected).abs().max())
                assert difference < 1e-5 * largest, f"gradient of parameter {name}"


# -- the command -------------------------------------------------------------------------------------------------------


def test_torchrun_publishes_once_and_what_was_killed_goes_on_to_the_same_weights(
    images: Images, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = {**environment, "PEEL_HOME": str(tmp_path / "whole")}
    expected, store = _trained_whole(whole)
    assert [version.name for version in store.versions()] == ["images", "encoder", "training"]

    # Saves after every step, and the second process is killed in the tenth. torchrun would end the first as soon as it
    # knows, maybe before the first has found out by itself.
    child = textwrap.dedent("""
        import os, signal
        from train import pretrain
        from train.engine import loop
        loop.CHECKPOINT_SECONDS = -1
        step = loop.Training._train_step
        def killing(self):
            if self.step == 9 and not self.processes.leads:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self)
        loop.Training._train_step = killing
        pretrain.COMMAND.launch()
    """)
    (code, _, output), (lost, _, _) = ended(together("-c", child, *FLAGS))
    assert (code, lost) == (2, -signal.SIGKILL), output
    assert output.count("train.pretrain: another process was lost") == 1, output
    assert Store().find("encoder", "latest") is None
    (left,) = (home() / "checkpoints").glob("*.safetensors")
    assert checkpoint_step(left) == 9

    alone = run(*PRETRAIN, env=environment)
    assert alone.returncode == 2
    (line,) = [line for line in alone.stderr.splitlines() if line.startswith("train.pretrain:")]
    assert "1 processes cannot go on with what 2 began" in line and str(left) in line

    resumed = subprocess.run([*TORCHRUN, *PRETRAIN], env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("going on from step 9 of 18") == 1
    assert same(weights(), expected)
    assert not list((home() / "checkpoints").iterdir())


def _trained_whole(environment: dict[str, str]) -> tuple[dict[str, torch.Tensor], Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", environment["PEEL_HOME"])
        publish_images(dots())
        results = ended(together(*PRETRAIN))
        assert [code for code, _, _ in results] == [0, 0], results
        return weights(), Store()


def test_ctrl_c_on_torchrun_saves_the_same_step_of_both(images: Images) -> None:
    process = subprocess.Popen(
        [*TORCHRUN, *PRETRAIN, "--epochs=2000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((home() / "checkpoints").glob("*.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode != 0 and output.count("train.pretrain: interrupted; the same command goes on") == 1, (
        output
    )
    (left,) = (home() / "checkpoints").glob("*.safetensors")
    assert checkpoint_step(left) > 0 and Store().find("encoder", "latest") is None


@pytest.mark.parametrize(
    ("rank", "name", "line"),
    [
        (0, "SIGKILL", "another process was lost ("),
        (1, "SIGSTOP", "another process gave no answer for 3 s (--patience)"),
    ],
)
def test_what_befalls_one_process_is_one_line_of_another(rank: int, name: str, line: str, images: Images) -> None:
    child = textwrap.dedent(f"""
        import os, signal
        from train import pretrain
        from train.engine import loop
        step = loop.Training._train_step
        def befallen(self):
            if self.step == 4 and self.processes.rank == {rank}:
                os.kill(os.getpid(), signal.{name})
            return step(self)
        loop.Training._train_step = befallen
        pretrain.COMMAND.launch()
    """)
    pair = together("-c", child, *FLAGS, "--patience=3")
    assert pair[1 - rank].wait(timeout=120) == 2
    pair[rank].kill()
    _, output = pair[1 - rank].communicate()
    (said,) = [text for text in output.splitlines() if text.startswith("train.pretrain: ")]
    assert line in said and said.endswith("; the same command goes on from the last checkpoint")
    assert "gloo" not in said and "Traceback" not in output
    assert Store().find("encoder", "latest") is None


def test_a_batch_that_cannot_be_shared_is_refused_once(images: Images) -> None:
    results = ended(together(*PRETRAIN, "--batch-size=9"))
    assert [code for code, _, _ in results] == [2, 2]
    lines = [line for _, _, output in results for line in output.splitlines() if line.startswith("train.pretrain:")]
    assert lines == ["train.pretrain: --batch-size 9 cannot be shared by 2 processes; give a multiple"]


def test_a_rank_that_is_not_torchruns_keeps_nobody_from_publishing(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    pretrain.main(dataclasses.replace(TINY, epochs=0))
    assert Store().find("encoder", "latest") is not None
