"""What the environment says wrongly is one line at the start, and what it leaves empty counts as unset."""

import dataclasses
import os
from pathlib import Path

import pytest

from tests.parts import processes
from tests.parts.artifacts import refusal
from train.tracking import Command, environment, remote
from train.tracking.environment import Rank
from train.tracking.store import home


@dataclasses.dataclass(frozen=True)
class Config:
    x: int = 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file where a folder should be."""
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.parametrize(
    "setting",
    [
        "WANDB_MODE=nonsense", "WANDB_BASE_URL=nonsense", "WANDB_BASE_URL=ftp://x", "WANDB_BASE_URL=http://",
        "WANDB_SILENT=perhaps", "WANDB_CONSOLE=maybe", "WANDB_TAGS=a,,b", f"WANDB_TAGS={'t' * 65}", "WANDB_PROJECT=a/b",
        f"WANDB_PROJECT={'p' * 129}", "WANDB_PROJECT= ", "WANDB_ENTITY=a/b", "WANDB_ENTITY=a b", "WANDB_RUN_ID=../a",
        f"WANDB_RUN_ID={'r' * 129}", "WANDB_RESUME=sometimes", "WANDB_HTTP_TIMEOUT=soon", "WANDB_INIT_TIMEOUT=soon",
        "WANDB__DISABLE_STATS=perhaps", "WANDB_CONFIG_PATHS=x.yaml", "WANDB_DISABLE_GIT=x", "WANDB_CACHE_DIR=/proc/none",
        "WANDB_DATA_DIR=/proc/none", "WANDB_DIR=/proc/none", "PEEL_HOME=/proc/none", "PEEL_HOME=~nobody-at-all/x",
        "WANDB_DIR=~nobody-at-all", "WORLD_SIZE=2", "WORLD_SIZE=two",
        "PEEL_TTL=30", "PEEL_TTL=embeddings=0", "PEEL_TTL=embeddings=1w", "PEEL_TTL=embeddings=30,nothing=1",
    ],
)  # fmt: skip
def test_a_wrong_variable_is_one_line_before_anything_is_done(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)

    def main(config: Config) -> None:
        raise AssertionError("it began")

    line = refusal(lambda: Command(main, Config).run([]))
    assert f"{name}={value!r}" in line and "Value error" not in line


@pytest.mark.parametrize("name", ["PEEL_HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"])
@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_file_in_place_of_a_folder_is_one_line(
    name: str, below: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(file / below))
    assert f"{name}={str(file / below)!r}" in refusal(remote.client)
    assert file.read_bytes() == b""


def test_a_link_to_nowhere_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    monkeypatch.setenv("PEEL_HOME", str(tmp_path / "link"))
    assert "link is no folder" in refusal(environment.check)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert "WANDB_API_KEY='...'" in refusal(remote.client)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "ftp://me:secret@host")
    assert "secret" not in refusal(remote.client)


def test_what_is_set_and_empty_is_unset(monkeypatch: pytest.MonkeyPatch, peel_home: Path) -> None:
    names = ["DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "PROJECT", "ENTITY", "MODE", "TAGS", "RUN_ID", "SWEEP_ID",
             "BASE_URL", "API_KEY", "HTTP_TIMEOUT", "SERVICE", "RESUME"]  # fmt: skip
    for name in [f"WANDB_{name}" for name in names] + ["WORLD_SIZE", "RANK"]:
        monkeypatch.setenv(name, "")
    remote.client()
    for name in names:
        value = os.environ.get(f"WANDB_{name}")
        assert value is None or ((name.endswith("_DIR") or name == "DIR") and Path(value).is_relative_to(peel_home))
    assert remote.project_name() == "peel" and remote.path("images", "digits") == "peel/images:digits"
    assert environment.rank() == Rank()
    monkeypatch.setenv("PEEL_HOME", "")
    assert home() == Path(".peel").absolute()


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PEEL_HOME", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "~/some where")
    remote.client()
    assert home() == tmp_path / "some where" and os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "some where")


@pytest.mark.parametrize("wish", [None, "true"])
def test_the_client_reports_on_itself_only_where_it_shall(monkeypatch: pytest.MonkeyPatch, wish: str | None) -> None:
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    if wish:
        monkeypatch.setenv("WANDB_ERROR_REPORTING", wish)
    assert remote.client().env.error_reporting_enabled() == bool(wish)


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"RANK": ""}, "WORLD_SIZE='4' without RANK"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE='4' without MASTER_ADDR"),
        ({"MASTER_PORT": ""}, "WORLD_SIZE='4' without MASTER_PORT"),
        ({"RANK": "4"}, "RANK='4' beside WORLD_SIZE=4"),
        ({"RANK": "-1"}, "RANK='-1'"),
        ({"RANK": "x"}, "RANK='x'"),
        ({"RANK": "²"}, "RANK='²'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE='2.0'"),
        ({"LOCAL_RANK": "gpu"}, "LOCAL_RANK='gpu'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ],
)
def test_what_is_not_from_torchrun_is_one_line(
    changes: dict[str, str], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (TORCHRUN | changes).items():
        monkeypatch.setenv(name, value)
    line = refusal(environment.rank)
    assert wrong in line and "unset WORLD_SIZE" in line


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        (TORCHRUN, Rank(3, 1, 4)),
        ({**TORCHRUN, "LOCAL_RANK": ""}, Rank(3, 0, 4)),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, Rank()),
        ({"RANK": "3", "LOCAL_RANK": "3"}, Rank()),  # a scheduler's
        ({"WORLD_SIZE": "", "RANK": "x"}, Rank()),
    ],
)
def test_the_rank_is_torchruns(variables: dict[str, str], rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.rank() == rank


@pytest.mark.parametrize("service", ["3-999999999-unix-/nowhere", "3-1-tcp-localhost-9", "nonsense"])
def test_a_client_that_has_ended_is_replaced(service: str, tmp_path: Path) -> None:
    code = "from train.tracking import remote; print(remote.client().setup().settings.mode)"
    variables = {**os.environ, "WANDB_SERVICE": service, "PYTHONPATH": str(Path.cwd())}
    process = processes.run("-c", code, env=variables, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (0, "offline\n"), process.stderr
