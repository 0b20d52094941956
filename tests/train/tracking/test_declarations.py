"""artifacts.yaml: what is wrong in it is one line with the entry, the key and a cure."""

from typing import Any

import pytest
import yaml

from tests.parts.artifacts import refusal
from train.tracking.declarations import FILE, Declaration, declarations, read

ENTRY: dict[str, Any] = {
    "type": "scores",
    "holds": "numbers",
    "producers": ["eval.probe"],
    "consumers": ["eval.report"],
    "aliases": ["{variant}", "{variant}-s{seed}"],
    "command": "eval.probe --embeddings {variant}",
    "needs": [],
}


def line(**changes: Any) -> str:
    entry = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    return refusal(lambda: read(yaml.safe_dump({"probe": entry})))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alias": ["{variant}"]}, "artifacts.yaml, probe, alias: there is no such key; did you mean aliases?"),
        ({"holds": None}, "artifacts.yaml, probe, holds: is missing; see the head of artifacts.yaml"),
        ({"holds": 3}, "artifacts.yaml, probe, holds: 3: input should be a valid string"),
        ({"producers": "eval.probe"}, "artifacts.yaml, probe, producers: 'eval.probe': input should be a valid tuple"),
        ({"producers": ["eval.prob"]}, "artifacts.yaml, probe, producers: 'eval.prob' is no stage"),
        ({"consumers": ["../x"]}, "artifacts.yaml, probe, consumers: '../x' is no stage"),
        ({"command": "eval.prob --embeddings {variant}"}, "artifacts.yaml, probe, command: 'eval.prob' is no stage"),
        ({"command": "eval.index --embeddings {variant}"}, "probe, command: eval.index does not make it"),
        ({"command": "eval.probe --embeddings {varaint}"}, "probe, command: 'eval.probe --embeddings {varaint}' has the"),
        ({"command": ""}, "artifacts.yaml, probe, command: '' is no stage"),
        ({"aliases": ["{variant"]}, "artifacts.yaml, probe, aliases: '{variant' is no template"),
        ({"aliases": ["{}"]}, "artifacts.yaml, probe, aliases: '{}' is no template"),
        ({"aliases": ["{varaint}"]}, "artifacts.yaml, probe, aliases: '{varaint}' has the field 'varaint'"),
        ({"aliases": ["{variant} s{seed}"]}, "probe, aliases: '{variant} s{seed}' makes no alias"),
        ({"needs": ["encodr"]}, "artifacts.yaml, probe, needs: 'encodr' is no artifact; name one of probe"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_one_line_with_the_key(changes: dict[str, Any], words: str) -> None:
    assert words in line(**changes)


def test_a_file_that_is_no_table_of_entries_is_refused() -> None:
    assert "artifacts.yaml is no YAML" in refusal(lambda: read("probe: ["))
    assert "artifacts.yaml has no entries" in refusal(lambda: read("- probe"))
    assert "artifacts.yaml, probe: 'x' is no entry" in refusal(lambda: read("probe: x"))
    assert "artifacts.yaml, a b: this is no name" in refusal(lambda: read(yaml.safe_dump({"a b": ENTRY})))


def test_a_good_file_is_read_whole() -> None:
    (entry,) = read(yaml.safe_dump({"probe": ENTRY})).values()
    assert entry == Declaration(
        "probe", "scores", "numbers", ("eval.probe",), ("eval.report",), ("{variant}", "{variant}-s{seed}"),
        ("eval.probe --embeddings {variant}",),
    )  # fmt: skip
    assert list(declarations()) == list(yaml.safe_load(FILE.read_text()))
