"""Parquet as Hugging Face's datasets and pandas write it: what becomes of it, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.parts.artifacts import refusal
from tests.parts.pictures import CUT, Pixels, pixels, png
from train.data import datasets, tables
from train.data.fingerprints import fingerprint
from train.data.images import SPLITS, UNLABELED
from train.data.splits import Division, Splits

NAMES = ["zebra", "ant", "moose", "never"]
IMAGES, LABELS = pixels(30, 8, 8, 3), np.arange(30) % 3
TESTS, TEST_LABELS = pixels(9, 8, 8, 3, seed=1), np.arange(9) % 3


def read(source: Path, skip_corrupt: bool = False, division: Division | None = None) -> Splits:
    return datasets.read(str(source), 8, skip_corrupt, division=division)


def write(
    path: Path,
    images: Sequence[Pixels],
    labels: Sequence[Any] | None,
    column: str = "label",
    image: str = "image",
    rows: int = 7,
) -> Path:
    """As `datasets` does: an image struct of bytes and path, integers, and the features in the schema's metadata."""
    features: dict[str, Any] = {image: {"_type": "Image"}}
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {image: pa.array([{"bytes": png(array), "path": f"{i}.png"} for i, array in enumerate(images)], kind)}
    if labels is not None:
        features[column] = {"names": NAMES, "_type": "ClassLabel"}
        columns[column] = pa.array(labels, pa.int64())
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def agrees(splits: Splits) -> bool:
    arrays = splits.arrays
    return (
        np.array_equal(arrays["train"], IMAGES) and np.array_equal(arrays["test"], TESTS)
        and np.array_equal(arrays["train_labels"], LABELS) and np.array_equal(arrays["test_labels"], TEST_LABELS)
    )  # fmt: skip


# -- as Hugging Face keeps them ----------------------------------------------------------------------------------------

COPIES = {
    "files": ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"),
    "data": (
        "data/train-00000-of-00002-1a2b.parquet",
        "data/train-00001-of-00002-3c4d.parquet",
        "data/validation.parquet",
    ),
    "converted": ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
}


@pytest.mark.parametrize("layout", COPIES)
def test_a_copy_of_a_repository_is_read_by_the_names_of_its_files(tmp_path: Path, layout: str) -> None:
    first, second, test = COPIES[layout]
    root = tmp_path / "set"
    write(root / first, list(IMAGES[:17]), list(LABELS[:17]))
    write(root / second, list(IMAGES[17:]), list(LABELS[17:]))
    write(root / test, list(TESTS), list(TEST_LABELS))
    (root / "README.md").write_text("A data set.")
    splits = read(root)
    assert agrees(splits)
    assert splits.classes == ("zebra", "ant", "moose"), "in the order of the features; none that has no image"
    assert str(splits) == "Parquet with the columns image, label: 30 training and 9 test images of 3 classes"


def test_other_splits_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, images, labels in (
        ("train", IMAGES, LABELS),
        ("validation", IMAGES, LABELS),
        ("test", TESTS, TEST_LABELS),
    ):
        write(tmp_path / f"set/{name}-00000-of-00001.parquet", list(images), list(labels))
    assert agrees(read(tmp_path / "set"))
    assert (
        capsys.readouterr().out == "left out: 1 .parquet of other splits, such as validation-00000-of-00001.parquet\n"
    )


def test_one_file_is_divided_by_class(tmp_path: Path) -> None:
    source = write(tmp_path / "animals.parquet", list(IMAGES), list(LABELS), "fine_label", "img")
    splits = read(source)
    assert np.bincount(splits.arrays["train_labels"]).tolist() == [8, 8, 8]
    classes = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for split in SPLITS:
        expected = [classes[image.tobytes()] for image in splits.arrays[split]]
        assert splits.arrays[f"{split}_labels"].tolist() == expected
    assert str(splits).startswith(
        "Parquet with the columns img, fine_label, divided by --test-share 0.2 and --seed 0: 24 "
    )
    assert len(read(source, division=Division(0.5, 1)).arrays["test"]) == 15


def test_rows_are_read_in_batches_whatever_their_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, rows in ((1, 7), (1000, 7), (5000, 100)):
        monkeypatch.setattr(tables, "BATCH", each)
        root = tmp_path / f"{each}"
        write(root / "train.parquet", list(IMAGES), list(LABELS), rows=rows)
        write(root / "test.parquet", list(TESTS), list(TEST_LABELS), rows=rows)
        assert agrees(read(root))


def test_one_row_group_of_everything_is_not_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas writes a million rows to a group. What is read at once is a page of it, of 1,024 rows."""
    images = pixels(3_000, 64, 64, 3)
    cells = [{"bytes": b"P6\n64 64\n255\n" + image.tobytes()} for image in images]
    source = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": cells}), source, compression="none", use_dictionary=False)
    assert pq.ParquetFile(source).num_row_groups == 1
    monkeypatch.setattr(tables, "BATCH", 1 << 20)
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        splits = read(source)
    finally:
        pa.set_memory_pool(before)
    assert len(splits.arrays["train"]) == 2_400
    assert pool.max_memory() < 16 << 20, "of 37 MB"


# -- labels ------------------------------------------------------------------------------------------------------------


def test_without_labels_all_are_unlabeled(tmp_path: Path) -> None:
    splits = read(write(tmp_path / "a.parquet", list(IMAGES), None))
    assert splits.classes == () and all((splits.arrays[f"{split}_labels"] == UNLABELED).all() for split in SPLITS)


def test_minus_one_and_nothing_are_no_label(tmp_path: Path) -> None:
    """As test sets of competitions have it."""
    labels = [None if i < 2 else -1 if i < 4 else int(label) for i, label in enumerate(LABELS)]
    write(tmp_path / "set/train.parquet", list(IMAGES), labels)
    write(tmp_path / "set/test.parquet", list(TESTS), [-1] * 9)
    splits = read(tmp_path / "set")
    assert splits.arrays["train_labels"].tolist() == [UNLABELED] * 4 + LABELS[4:].tolist()
    assert (splits.arrays["test_labels"] == UNLABELED).all()


def test_where_the_test_images_have_no_labels_those_to_validate_on_are_tested(tmp_path: Path) -> None:
    write(tmp_path / "set/train.parquet", list(IMAGES), list(LABELS))
    write(tmp_path / "set/validation.parquet", list(TESTS), list(TEST_LABELS))
    write(tmp_path / "set/test.parquet", list(IMAGES), [-1] * 30)
    assert agrees(read(tmp_path / "set"))


@pytest.mark.parametrize("labels", [["b", "a", "c"], [2, 1, 3], [None, 1, 2], [None, "a", "b"]])
def test_what_pandas_writes_is_read(tmp_path: Path, labels: list[Any]) -> None:
    """Whole numbers, of which some are missing, are floats there."""
    cells = [labels[label] for label in LABELS]
    frame = pd.DataFrame({"image": [{"bytes": png(image), "path": None} for image in IMAGES], "label": cells})
    frame.to_parquet(tmp_path / "a.parquet")
    splits = read(tmp_path / "a.parquet")
    assert splits.classes == tuple(str(label) for label in sorted(label for label in labels if label is not None))
    classes = {image.tobytes(): cell for image, cell in zip(IMAGES, cells, strict=True)}
    for split in SPLITS:
        for image, label in zip(splits.arrays[split], splits.arrays[f"{split}_labels"], strict=True):
            cell = classes[image.tobytes()]
            assert (label == UNLABELED) if cell is None else splits.classes[label] == str(cell)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_is_named_and_skipped_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "set/test.parquet", list(TESTS), list(TEST_LABELS))
    path = write(tmp_path / "set/train.parquet", list(IMAGES), list(LABELS))
    rows = pq.read_table(path).to_pylist()
    rows[8]["image"]["bytes"], rows[21]["image"]["bytes"] = CUT, None
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    line = refusal(lambda: read(tmp_path / "set"))
    assert "row 8 of 'train.parquet'" in line and "--skip-corrupt True" in line
    splits = read(tmp_path / "set", skip_corrupt=True)
    kept = [i for i in range(30) if i not in (8, 21)]
    np.testing.assert_array_equal(splits.arrays["train"], IMAGES[kept])
    np.testing.assert_array_equal(splits.arrays["train_labels"], LABELS[kept])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "skipped row 8 of 'train.parquet'", "skipped row 21 of 'train.parquet'"
    ]  # fmt: skip


def test_tables_that_do_not_serve_are_told_what_they_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "text.parquet")
    assert "text, label" in refusal(lambda: read(tmp_path / "text.parquet"))
    whole = write(tmp_path / "a.parquet", list(IMAGES), list(LABELS)).read_bytes()
    for end in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:end])
        assert "no whole Parquet file" in refusal(lambda: read(tmp_path / "cut.parquet"))
    write(tmp_path / "set/test.parquet", list(TESTS), list(TEST_LABELS))
    assert "train-*" in refusal(lambda: read(tmp_path / "set"))
    beyond = write(tmp_path / "beyond.parquet", list(IMAGES), list(LABELS + 2))
    assert "beyond its 4 names" in refusal(lambda: read(beyond))


def test_without_pyarrow_the_cure_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", list(IMAGES), list(LABELS))
    script = (
        f"import sys; sys.modules['pyarrow'] = None\nfrom train.data import datasets\ndatasets.read({str(source)!r}, 8)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install pyarrow" in process.stderr.splitlines()[-1]


def test_it_is_the_same_set_wherever_it_lies_and_another_one_once_it_changes(tmp_path: Path) -> None:
    write(tmp_path / "set/train.parquet", list(IMAGES), list(LABELS))
    write(tmp_path / "set/test.parquet", list(TESTS), list(TEST_LABELS))
    before = fingerprint(tmp_path / "set")
    moved = (tmp_path / "set").rename(tmp_path / "moved")
    assert fingerprint(moved) == before
    write(moved / "test.parquet", list(TESTS), list(TEST_LABELS[::-1]))
    assert fingerprint(moved) != before
