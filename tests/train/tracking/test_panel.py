"""No table's column can end a stage: W&B's client refuses one of several kinds."""

import datetime
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from tests.parts.embeddings import NoConfig
from train.tracking import Stage
from train.tracking.store import home

COLUMNS: dict[str, tuple[list[Any], list[Any]]] = {
    "numbers": ([1, 2.5, np.float32(0.5), np.int64(7)], [1, 2.5, 0.5, 7]),
    "numbers and nothing": ([1, None, math.nan, pd.NA], [1, None, None, None]),
    "text beside numbers": (["1e-4", 0.001, None, 1], ["1e-4", "0.001", None, "1"]),
    "booleans beside numbers": ([True, 1, False, 0.0], ["True", "1", "False", "0.0"]),
    "booleans": ([True, False, None, np.bool_(True)], [True, False, None, True]),
    "bytes": ([b"a", "b", b"\xff", None], ["a", "b", "�", None]),
    "dates": ([datetime.date(2026, 11, 25), pd.NaT, "x", 1], ["2026-11-25", None, "x", "1"]),
    "lists": ([[1, 2], "a", {"b": 1}, (1,)], ["[1, 2]", "a", "{'b': 1}", "(1,)"]),
    "arrays": ([np.zeros(2), np.zeros(3), None, 1], ["[0. 0.]", "[0. 0. 0.]", None, "1"]),
    "nothing": ([None, None, math.nan, pd.NA], [None] * 4),
    "huge": (["x" * 10**6, 10**400, -1, None], ["x" * 10**6, str(10**400), "-1", None]),
    "surrogates": (["\ud800", "a", 1, None], ["\ud800", "a", "1", None]),
}


def test_a_table_of_any_columns_is_logged() -> None:
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, (cells, _) in COLUMNS.items()})
    frame.insert(0, "numbers", [4, 3, 2, 1], allow_duplicates=True)
    with Stage("train.prepare", NoConfig()) as stage:
        stage.panel("images/table", frame)
    (file,) = home().glob("wandb/offline-run-*/files/media/table/images/table*.json")
    table = json.loads(file.read_text())
    assert table["columns"] == ["numbers", "numbers (2)", *list(COLUMNS)[1:]]
    columns = list(zip(*table["data"], strict=True))
    assert list(columns[0]) == [4, 3, 2, 1]
    for (name, (_, expected)), column in zip(COLUMNS.items(), columns[1:], strict=True):
        assert list(column) == expected, name


def test_an_empty_table_and_one_of_pictures_and_words_are_logged() -> None:
    picture = PIL.Image.new("RGB", (2, 2))
    with Stage("train.prepare", NoConfig()) as stage:
        stage.panel("images/none", pd.DataFrame([], columns=["a", "b"]))
        stage.panel("images/some", pd.DataFrame({"a": [picture, None], "b": [picture, "none"]}))
    (file,) = home().glob("wandb/offline-run-*/files/media/table/images/some*.json")
    rows = json.loads(file.read_text())["data"]
    assert "Image" in str(rows[0][0]) and rows[1][0] is None
    assert [type(row[1]) for row in rows] == [str, str]


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float16, np.bool_, "str", "Int64", "category"])
def test_a_column_of_a_kind_of_pandas_keeps_its_values(kind: Any) -> None:
    with Stage("train.prepare", NoConfig()) as stage:
        stage.panel("images/table", pd.DataFrame({"a": pd.Series([1, 0], dtype=kind)}))
    (file,) = home().glob("wandb/offline-run-*/files/media/table/images/table*.json")
    values = [row[0] for row in json.loads(file.read_text())["data"]]
    assert values == (["1", "0"] if kind == "str" else [1, 0])
