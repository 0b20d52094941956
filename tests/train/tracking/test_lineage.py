"""The command that makes an artifact again, told from its origin."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.parts.artifacts import refusal
from tests.train.methods.test_identities import COMMANDS
from train import eigenmaps, patches, pretrain
from train.tracking import Command, Origin
from train.tracking.lineage import command_line
from train.tracking.origin import digest_of, identity


def again(command: Command[Any], line: str) -> str:
    """The flags that are told of what these flags have made, as its origin.json keeps them."""
    config = json.loads(json.dumps(identity(command.parse(shlex.split(line))), sort_keys=True))
    return shlex.join(command.flags(config))


@pytest.mark.parametrize("flags", [row[0] for row in COMMANDS])
def test_flags_told_from_an_identity_have_that_identity_and_are_no_more_than_were_typed(flags: str) -> None:
    line = again(pretrain.COMMAND, f"--images cifar10 {flags}")
    one, other = (pretrain.COMMAND.parse(shlex.split(text)) for text in (f"--images cifar10 {flags}", line))
    assert digest_of(identity(one)) == digest_of(identity(other))
    assert line.count("--") <= flags.count("--") + 1


def test_flags_that_are_the_defaults_of_others_are_left_out() -> None:
    assert (
        again(pretrain.COMMAND, "--images a --preset small --epochs 10 --width 16 --seed 0")
        == "--images a --preset small"
    )
    assert again(pretrain.COMMAND, "--images a --views neighbors --flip 0") == "--images a --views neighbors"
    assert again(pretrain.COMMAND, "--variance 0 --images a --device cpu") == "--images a --variance 0"
    assert again(patches.COMMAND, "--images a --kind pixels --seed 0") == "--images a --kind pixels"
    assert again(eigenmaps.COMMAND, "--embeddings a-s1 --k 6") == "--embeddings a-s1 --k 6"


def test_lists_and_words_that_a_shell_would_split_are_told_as_they_are_typed() -> None:
    from eval import compare

    line = again(compare.COMMAND, "--variants a b --anomalies c --resamples 5")
    assert line == "--variants a b --anomalies c --resamples 5"
    origin = Origin("train.pretrain", "a", "a-vicreg", 0, identity(pretrain.COMMAND.parse(["--images", "a; rm b"])), ())
    assert command_line(origin) == "python -m train.pretrain --images 'a; rm b'"


def test_an_origin_of_another_version_or_of_no_stage_tells_no_command() -> None:
    config = identity(pretrain.COMMAND.parse(["--images", "a"]))

    def line(stage: str, **changes: Any) -> str:
        return refusal(lambda: command_line(Origin(stage, "a", "a-vicreg", 0, config | changes, ())))

    assert "no flags of python -m train.pretrain stand for" in line("train.pretrain", gone=3)
    assert "train.pretrain" in line("train.pretrain", epochs="many")
    assert line("os") == "no stage is called 'os'"


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": ["eval.embed"]},
        {"config": [["k", 1]]},
        {"config": {"k": float("inf")}},
        {"inputs": ["images"]},
        {"inputs": "images@0a"},
        {"seed": 2**32},
        {"seed": True},
        {"variant": "../x"},
        {"dataset": 3},
    ],
)
def test_an_origin_of_other_values_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    Origin("eval.embed", "a", "a-b", 1, {"k": 1}, ("images@0a",)).save(tmp_path)
    assert Origin.load(tmp_path).seed == 1
    fields = json.loads((tmp_path / "origin.json").read_text())
    (tmp_path / "origin.json").write_text(json.dumps(fields | changes))
    assert "origin.json is not an origin" in refusal(lambda: Origin.load(tmp_path))
