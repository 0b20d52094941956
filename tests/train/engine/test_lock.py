"""One training runs at a time: who asks for it meanwhile waits, and takes over what is left or what was made."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.parts.artifacts import publish_images
from tests.train.engine.test_loop import TINY, dots
from train import pretrain
from train.engine import checkpoint
from train.engine.loop import Training
from train.engine.processes import Processes
from train.tracking import Stage
from train.tracking.store import Store, home

SOLE, CPU = Processes(), torch.device("cpu")


@pytest.fixture
def path(peel_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the checkpoint of TINY's training lies."""
    monkeypatch.setattr(checkpoint, "POLL", 0.01)
    publish_images(dots())
    with Stage("train.pretrain", TINY) as stage:
        stage.fetch("images", "dots")
        return home() / "checkpoints" / f"{stage.key}.safetensors"


@contextlib.contextmanager
def another(path: Path, error: type[Exception] | None = None) -> Iterator[None]:
    """Another training, that holds the lock until something waits for it, and then ends, with the error or without."""
    entered, waiting = threading.Event(), threading.Event()
    acquire = checkpoint.Lock.acquire

    def hear(self: checkpoint.Lock) -> bool:
        held = acquire(self)
        if not held:
            threading.Timer(0.1, waiting.set).start()
        return held

    def hold() -> None:
        with contextlib.suppress(ZeroDivisionError), checkpoint.lock(path, SOLE, CPU):
            entered.set()
            waiting.wait()
            if error:
                raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Lock, "acquire", hear)
        thread = threading.Thread(target=hold)
        thread.start()
        entered.wait()
        yield
        thread.join()


def test_a_training_that_failed_meanwhile_is_run_once_it_has_let_go(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with another(path, ZeroDivisionError):
        pretrain.main(TINY)
    lines = [line for line in capsys.readouterr().out.splitlines() if "waiting for it" in line]
    assert lines == [
        f"process {os.getpid()} is running this training and holds {path.with_suffix('.lock')}; waiting for it, Ctrl-C ends this"
    ]
    assert Store().find("encoder", "latest") is not None
    assert not list(path.parent.iterdir())


def test_what_was_made_meanwhile_is_not_made_again(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain.main(TINY)
    runs = len(Store().rows("SELECT id FROM runs"))
    monkeypatch.setattr(Training, "_train_step", lambda self: pytest.fail("it trains"))
    with another(path):
        pretrain.main(TINY)
    out = capsys.readouterr().out
    assert "encoder:v0  dots-vicreg" in out.splitlines()[-2] and out.count("(made by another process)") == 2
    assert len(Store().rows("SELECT id FROM runs")) == runs
    assert not list(path.parent.iterdir())


def test_a_lock_that_was_removed_while_it_was_asked_for_is_no_lock(path: Path) -> None:
    """Else a third process, which makes the file anew, would train beside the second."""
    first, second = checkpoint.Lock(path), checkpoint.Lock(path)
    assert first.acquire() and not second.acquire()
    path.unlink()
    first.file.close()
    assert second.acquire() and second.ended
    third = checkpoint.Lock(path)
    assert not third.acquire() and third.holder() == f"process {os.getpid()}"
    for lock in (second, third):
        lock.file.close()


def test_ctrl_c_ends_the_waiting_and_leaves_the_other_in_peace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    holder = checkpoint.Lock(path.with_suffix(".lock"))
    assert holder.acquire()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("time.sleep", interrupt)
        pretrain.main(TINY)
    assert path.with_suffix(".lock").exists()
    assert not checkpoint.Lock(path.with_suffix(".lock")).acquire()
    holder.file.close()
