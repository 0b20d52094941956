"""The values that a sweep file lists, in the types of the program's own fields."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.definition import read
from tests.parts.sweeps import FLOORS, write_sweep
from train.tracking import Problem, stage_command

HEAD = {**FLOORS, "program": "train.pretrain"}


def typed(folder: Path, field: str, words: str) -> tuple[Any, ...]:
    """What the program reads of a list as it stands in a file."""
    path = folder / "typed.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in HEAD.items() if key != "parameters"})
        + ("parameters: {images: {value: digits}, " if field != "images" else "parameters: {")
        + f"{field}: {{values: {words}}}}}\n"
    )
    return read(path).in_types_of(stage_command("train.pretrain")).swept[0].values


@pytest.mark.parametrize(
    ("field", "words", "values"),
    [
        ("learning_rate", "[1e-4, 1e-3, 0.01]", (0.0001, 0.001, 0.01)),
        ("learning_rate", "[1, 2.5]", (1.0, 2.5)),
        ("learning_rate", "['0.5', 1_000]", (0.5, 1000.0)),
        ("seed", "['08', 1_0, +2]", (8, 10, 2)),
        ("compile", "[on, off]", (True, False)),
        ("compile", "['True', no]", (True, False)),
        ("images", "[10, '2026-11-25', 'on', 1.5]", ("10", "2026-11-25", "on", "1.5")),
    ],
)
def test_a_choice_is_what_the_program_reads(tmp_path: Path, field: str, words: str, values: tuple[Any, ...]) -> None:
    read_values = typed(tmp_path, field, words)
    assert read_values == values
    assert [type(value) for value in read_values] == [type(value) for value in values]


def test_nothing_is_a_choice_where_the_field_may_be_nothing(tmp_path: Path) -> None:
    parameters = {"embeddings": {"value": "a"}, "anomalies": {"value": "b"}, "neighbors": {"values": [None, "null"]}}
    path = write_sweep(tmp_path, {**HEAD, "program": "eval.anomaly", "parameters": parameters})
    assert read(path).in_types_of(stage_command("eval.anomaly")).swept[0].values == (None, "null")


@pytest.mark.parametrize(
    ("field", "words", "part"),
    [
        ("learning_rate", "[1e-4, 0.0001]", "0.0001 twice, as 1e-4 and 0.0001; leave one out"),
        ("learning_rate", "[1, 1.0]", "1.0 twice"),
        ("learning_rate", "[.inf]", "inf is not a finite number"),
        ("learning_rate", "[nan]", "nan is not"),
        ("learning_rate", "[0.1, 1:30]", "YAML reads 1:30 as 90; write 90"),
        ("seed", "[08, 010]", "YAML reads 010 as 8; write 8"),
        ("seed", "[1, '1']", "1 twice"),
        ("seed", "[0x1F]", "YAML reads 0x1F as 31; write 31"),
        ("seed", "[1, 2.0]", "--seed"),
        ("seed", "[1, 1e3]", "--seed"),
        ("compile", "[1, 0]", "--compile"),
        ("images", "[on]", "YAML reads on as True; put it in quotes"),
        ("images", "[010]", "YAML reads 010 as 8; put it in quotes"),
        ("images", "[~]", "YAML reads ~ as None; put it in quotes"),
        ("images", "[null, a]", "YAML reads null as None; put it in quotes"),
        ("images", "[2026-11-25]", "as a date; put it in quotes"),
        ("images", "[1.50]", "YAML reads 1.50 as 1.5; put it in quotes"),
        ("views", "[augmented, off]", "--views"),
    ],
)
def test_a_choice_that_two_would_read_differently_is_refused(tmp_path: Path, field: str, words: str, part: str) -> None:
    with pytest.raises(Problem, match=re.escape(part)):
        typed(tmp_path, field, words)


def test_a_range_gives_what_the_field_takes(tmp_path: Path) -> None:
    """A range of fractions for a whole field was taken where both its ends are whole, and failed in each trial."""
    entry = {"images": {"value": "digits"}, "batch_size": {"distribution": "uniform", "min": 8, "max": 64}}
    path = write_sweep(tmp_path, {**HEAD, "method": "random", "parameters": entry})
    with pytest.raises(Problem, match=r"--batch-size.*8\.0"):
        read(path).in_types_of(stage_command("train.pretrain"))
