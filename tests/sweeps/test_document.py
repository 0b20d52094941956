"""The YAML of a sweep file: what is no YAML, has no end or says two things is refused in one line."""

import re
from pathlib import Path

import pytest

from sweeps.definition import read
from train.tracking import Problem

LAUGHS = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
LAUGHS += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a: [1", "YAML"),
        ("- 1", "not a mapping"),
        ("", "not a mapping"),
        ("# a comment", "not a mapping"),
        ("3", "not a mapping"),
        ("\x00", "YAML"),
        (b"a: \xff", "not UTF-8 (byte 4)"),
        ("a:\n\t- 1", "YAML"),
        ("a: 1\n---\nb: 2", "YAML"),
        ("a: 2026-13-45", "month must be in 1..12"),
        ("a: !!int x", "that YAML cannot read"),
        ("a: !!timestamp x", "that YAML cannot read"),
        ("a: !!binary x", "YAML"),
        ("a: !!python/object/apply:os.getcwd []", "YAML"),
        ("a: 9" + "9" * 5000, "that YAML cannot read"),
        ("a: 1\na: 2", "'a' twice"),
        ("a: &a [*a]", "in itself"),
        ("a: &a {b: *a}", "in itself"),
        ("a: *b", "YAML"),
        ("\n".join(LAUGHS), "more than 50000 values"),
        ("a: " + "[" * 100_000, "levels deep"),
        ("\n".join(" " * i + "a:" for i in range(400)), "levels deep"),
        ("#" * 300_000, "larger than 256 kB"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, content: str | bytes, part: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Problem, match=re.escape(part)) as error:
        read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"none\.yaml.*No such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(Problem, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(Problem, match="larger than"):
        read(Path("/dev/zero"))
