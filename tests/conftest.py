"""Tests never reach a real server: set before wandb is imported, here and in every process that a test starts."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.reach import starts
from train.tracking.store import Store

# The files that take longest, longest first: dealt last, one of them would keep its worker when the other has ended.
HEAVY = [
    f"tests/{file}.py"
    for file in (
        "whole/test_online", "whole/test_publish", "whole/test_hostile_server", "whole/test_dead_server",
        "train/engine/test_processes", "sweeps/test_runner", "sweeps/test_make",
        "whole/test_page", "whole/test_workspace", "faults/test_kills", "whole/test_report", "whole/test_security", "whole/test_chain",
        "eval/labbook/test_tables", "sweeps/test_queue", "train/engine/test_loop", "train/tracking/test_stage",
    )
]  # fmt: skip

# What a live test needs of the environment, before it is cleared; empty where none was asked for.
LIVE = (
    {name: os.environ[name] for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY") if name in os.environ}
    if os.environ.get("PEEL_LIVE") == "1" and os.environ.get("WANDB_API_KEY")
    else {}
)
if LIVE:
    LIVE = {"WANDB_BASE_URL": "https://api.wandb.ai", **LIVE, "WANDB_MODE": "online"}
# In memory where there is room: stores wait for the disk, some milliseconds each time, and that is most of their cost.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4e9:
    tempfile.tempdir = str(_MEMORY)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.tempdir)  # pytest's name for where it makes `tmp_path`
_EMPTY = tempfile.mkdtemp(prefix="peel-tests-")
tempfile.tempdir = os.environ["TMPDIR"] = f"{_EMPTY}/tmp"  # what tests leave is removed with it
Path(tempfile.tempdir).mkdir()
atexit.register(shutil.rmtree, _EMPTY, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("WANDB_", "PEEL_"))]:
    del os.environ[_name]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as `make test` has it: with other counts sums have other last bits
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            fixtures = [fixture.func for several in item._fixtureinfo.name2fixturedefs.values() for fixture in several]
            if starts(item.function, *fixtures):
                item.add_marker("process")
    places = {file: place for place, file in enumerate(HEAVY)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))  # keeps the order in a file


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
