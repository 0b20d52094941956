"""Tests never reach a real server: set before wandb is imported, here and in every process that a test starts."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.tracking.store import Store

# What a live test needs of the environment, before it is cleared; empty where none was asked for.
LIVE = (
    {name: os.environ[name] for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY") if name in os.environ}
    if os.environ.get("PEEL_LIVE") == "1" and os.environ.get("WANDB_API_KEY")
    else {}
)
if LIVE:
    LIVE = {"WANDB_BASE_URL": "https://api.wandb.ai", **LIVE, "WANDB_MODE": "online"}
_EMPTY = tempfile.mkdtemp(prefix="peel-tests-")
atexit.register(shutil.rmtree, _EMPTY, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("WANDB_", "PEEL_"))]:
    del os.environ[_name]
os.environ.update(
    HOME=_EMPTY,
    NETRC=f"{_EMPTY}/netrc",
    WANDB_MODE="offline",
    WANDB_BASE_URL="http://127.0.0.1:9",
    WANDB_CONFIG_DIR=f"{_EMPTY}/wandb",
    PEEL_HOME=f"{_EMPTY}/peel",
)

# Started in the background, a shell has us ignore Ctrl-C, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="try ten times as many faults, as make faults does")


@pytest.fixture(autouse=True)
def peel_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PEEL_HOME for each test."""
    folder = tmp_path / "peel"
    monkeypatch.setenv("PEEL_HOME", str(folder))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def store() -> Iterator[Store]:
    """The store of the test's own PEEL_HOME."""
    opened = Store()
    yield opened
    opened.close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
