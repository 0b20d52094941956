"""Paths as people write them: with `~`, with signs that shells, URLs and patterns read, and wrong ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.versions import put
from tests.train.tracking.cli.test_answers import ask, refuse, tell
from train.tracking.store import Store


@pytest.fixture(params=["plain", "a b", "100%20", "[a]*?", "#x&y=z;$HOME", 'it\'s "quoted"', "猫狗", "file:x?mode=ro"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """One in a home of such a name, with one version in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PEEL_HOME", f"~/{request.param}")
    opened = Store()
    put(opened, "images", {"x": "1"}, ["digits"])
    yield opened
    opened.close()


def test_a_home_may_be_called_anything(store: Store, tmp_path: Path) -> None:
    home = store.root.parent
    assert home.parent == tmp_path
    assert tell("verify") == "1 file, 1 version: 0 problems\n"
    assert ask("pull", "images:digits", f"--to=~/{home.name}/copy")["to"] == str(home / "copy")
    assert (home / "copy" / "x").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [home.name], "nothing lies beside it"


@pytest.mark.parametrize(
    ("to", "line"), [("", "it is empty; give a folder"), ("~nobody-at-all/x", "'~nobody-at-all/x'")]
)
def test_a_wrong_folder_to_copy_to_is_one_line(to: str, line: str) -> None:
    assert line in refuse("pull", "images:digits", f"--to={to}")


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "publish", "show images"])
def test_a_file_in_place_of_the_home_is_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PEEL_HOME", str(tmp_path / "file"))
    assert "file is no folder; set PEEL_HOME to one" in refuse(*command.split())
