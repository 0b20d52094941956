"""A server that answers no more, or never did: one line that offers the way without it, and nothing is lost."""

import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback import Fault, Server
from tests.parts import processes
from tests.parts.chain import run
from tests.whole.test_online import Lab, at_wandb, local
from train.tracking import remote, traces

# As `python -m`, with less patience. It says that it has begun, and goes on once the test says so.
STAGE = """
import sys, time
from pathlib import Path
from train.tracking import Stage, remote
from train.tracking.command import answer
from tests.train.tracking.test_stage import Config, write

remote.ANSWER, remote.PAUSE = 1, 0.2

def main():
    with Stage("train.prepare", Config()) as stage:
        stage.dataset = "few"
        stage.log({"x": 1.0})
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        stage.log({"x": 2.0})
        stage.publish("images", write({"train": "pixels"}), {"dataset": "few"})

answer("train.prepare", main)
"""
COMMAND = """
import sys
from train.tracking import __main__ as tracking, remote
from train.tracking.command import answer, stage_command

remote.ANSWER, remote.PAUSE = 1, 0.2
name, *flags = sys.argv[1:]
body = (lambda: tracking.main(flags)) if name == "train.tracking" else (lambda: stage_command(name).run(flags))
answer(name, body)
"""
NOTES = ("it/s", "run/s", "Loaded credentials")  # progress bars, and a note of W&B's client
PROBE = ("train.patches", "--images", "digits", "--patches", "8")


@contextlib.contextmanager
def refuses() -> Iterator[str]:
    """A port where nobody listens."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{port.getsockname()[1]}"


@contextlib.contextmanager
def is_silent() -> Iterator[str]:
    """A port that takes no more connections, and does not say so: its queue is full."""
    with contextlib.ExitStack() as held, socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen(0)
        for _ in range(4):
            other = held.enter_context(socket.socket())
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.connect(port.getsockname())
        yield f"http://127.0.0.1:{port.getsockname()[1]}"


@contextlib.contextmanager
def never_replies() -> Iterator[str]:
    """A port that takes connections, and leaves them at that."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen(64)
        yield f"http://127.0.0.1:{port.getsockname()[1]}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the digits, made offline."""
    home = tmp_path_factory.mktemp("images") / "peel"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(home))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        run(["train.prepare --dataset digits"])
    return home


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def lab(images: Path, server: Server, tmp_path: Path) -> Lab:
    return Lab(Path(shutil.copytree(images, tmp_path / "peel", symlinks=True)), server, {})


def one_line(process: "processes.Process", *texts: str) -> None:
    """Its only line says these, and it has ended with exit code 2."""
    out, err = process.communicate()
    assert process.wait() == 2, out + err
    lines = [line for line in err.splitlines() if not any(text in line for text in NOTES)]
    assert len(lines) == 1, err
    (line,) = lines
    assert all(text in line for text in ("W&B does not answer", "MODE=offline", *texts)), line


def start(lab: Lab, *arguments: str, **variables: str) -> "processes.Process":
    return processes.start("-c", *arguments, env=lab.environment(**variables), cwd=lab.home)


def test_a_dead_server_is_noticed_within_a_quarter_of_a_minute() -> None:
    assert remote.ANSWER + remote.PAUSE + 1 < 15


@pytest.mark.parametrize("dead", [refuses, is_silent, never_replies])
def test_a_stage_does_not_begin_and_a_publication_neither(
    dead: Callable[[], contextlib.AbstractContextManager[str]], lab: Lab
) -> None:
    before = local(lab.store())
    with dead() as base:
        one_line(start(lab, COMMAND, *PROBE, WANDB_BASE_URL=base), base)
        one_line(start(lab, COMMAND, "train.tracking", "publish", WANDB_BASE_URL=base), base)
        assert local(lab.store()) == before
        offline = start(lab, COMMAND, *PROBE, WANDB_BASE_URL=base, WANDB_MODE="offline")
        assert offline.wait() == 0, offline.communicate()[1]


def wait_for(happens: Callable[[], bool], process: "processes.Process") -> None:
    while not happens():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["drop", "hang"])
@pytest.mark.parametrize("moment", ["while it works", "while it sends"])
def test_what_a_stage_has_made_is_kept_and_can_be_sent(kind: str, moment: str, lab: Lab) -> None:
    process = start(lab, STAGE)
    wait_for((lab.home / "begun").exists, process)
    everything = Fault(kind, ".")  # type: ignore[arg-type]
    if moment == "while it works":
        lab.server.faults.append(everything)
    else:
        lab.server.faults.append(Fault(kind, "CreateArtifact$", times=1))  # type: ignore[arg-type]
    (lab.home / "go").touch()
    if moment == "while it sends":
        wait_for(lambda: not lab.server.faults[0].times, process)
        lab.server.faults[:] = [everything]
    one_line(process, lab.server.base, "is kept on this machine", "python -m train.tracking publish")
    store = lab.store()
    maker = store.maker(store.get("images", "few"))
    assert maker is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(lab.home))
        record = traces.record(maker.id)
        assert record is not None and traces.is_whole(record / f"run-{maker.id}.wandb")

    lab.server.faults.clear()
    done = lab.python("-m", "train.tracking", "publish")
    assert done.returncode == 0, done.stdout + done.stderr
    assert at_wandb(lab.server) == local(store)
    sent = lab.server.state.runs["peel", maker.id]
    assert [row["x"] for row in sent.history if "x" in row] == [1.0, 2.0] and sent.state == "finished"


@pytest.mark.parametrize("kind", ["drop", "hang"])
def test_a_publication_ends_and_the_next_one_goes_on(kind: str, lab: Lab) -> None:
    lab.server.faults.append(Fault(kind, "CommitArtifact", times=1))  # type: ignore[arg-type]
    process = start(lab, COMMAND, "train.tracking", "publish")
    wait_for(lambda: not lab.server.faults[0].times, process)
    lab.server.faults[:] = [Fault(kind, ".")]  # type: ignore[arg-type]
    out, err = process.communicate()
    assert process.wait() == 1, out + err
    assert out.startswith("not published: train.prepare digits -> images:v0: W&B does not answer"), out
    assert "MODE=offline" in out.splitlines()[0]
    lab.server.faults.clear()
    done = lab.python("-m", "train.tracking", "publish", "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["published"]) == 1, done.stdout + done.stderr
    assert at_wandb(lab.server) == local(lab.store())
