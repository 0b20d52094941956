"""Image sets in Parquet, as Hugging Face's `datasets` writes them: a struct with the bytes of an image file in each row, and a
label. They are read in batches, of which a few megabytes are in memory at a time.
"""

import contextlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data import pictures
from train.data.arrays import check_classes, number, split
from train.data.decoding import Remarks, decode_all
from train.data.images import SPLITS, UNLABELED
from train.data.layouts import WORDS
from train.data.pictures import Picture
from train.data.splits import Division, Splits
from train.tracking.problem import Problem, one_line

SUFFIX = ".parquet"
LABELS = ("label", "labels", "fine_label", "class", "coarse_label")  # columns, the likeliest first
DEEPEST = 3  # folders in which a copy of a repository keeps them: data/, or CONFIGURATION/SPLIT/
BATCH = 16 << 20  # bytes of rows read at a time,
MOST_ROWS = 1_024  # and so many at most
BUFFER = 1 << 20  # bytes of a column that are read ahead


@dataclass(frozen=True)
class Columns:
    """images, labels: names of columns; the latter empty where there is none. names: of the classes, where the file says."""

    images: str
    labels: str
    names: tuple[str, ...]


def files(source: Path) -> list[Path]:
    """The Parquet files of a folder that holds no images, sorted; or the file that `source` is."""
    if source.is_file():
        return [source] if source.suffix.lower() == SUFFIX else []
    tables: list[Path] = []
    for top, inner, names in os.walk(source):
        if len(Path(top).relative_to(source).parts) >= DEEPEST:
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in pictures.suffixes() and not name.startswith("."):
                return []
            if suffix == SUFFIX and not name.startswith("."):
                tables.append(Path(top, name))
    return sorted(tables)


def read(source: Path, size: int, skip_corrupt: bool, division: Division | None = None) -> Splits:
    """Images and labels in the order of the files' names and rows. Raises Problem where the files hold something else, or
    pyarrow, which reads them, is missing. division: as `arrays.read` takes it."""
    parts, rest = divide(source, files(source))
    if rest:
        print(f"left out: {len(rest):,} {SUFFIX} of other splits, such as {rest[0].relative_to(source)}")
    columns = _columns(source, parts[0][0])
    labels = [[label for path in part for label in _labels(source, path, columns)] for part in parts]
    classes, numbers = number(labels)
    if columns.names and classes:
        classes = [columns.names[int(place)] for place in classes]
    places, rows = split(source, numbers, division)
    check_classes(
        source, classes, {name: numbers[part][chosen] for name, part, chosen in zip(SPLITS, places, rows, strict=True)}
    )
    arrays: dict[str, NDArray[Any]] = {}
    remarks = Remarks()
    for name, place, chosen in zip(SPLITS, places, rows, strict=True):
        results = _results(source, parts[place], columns, chosen, size)
        images, sound = decode_all(
            results, len(chosen), size, skip_corrupt, name, remarks, lambda text: _problem(source, text)
        )
        arrays[name], arrays[f"{name}_labels"] = images, numbers[place][chosen][sound]
    check_classes(source, classes, {name: arrays[f"{name}_labels"] for name in SPLITS})
    for line in remarks.lines():
        print(line)
    title = f"Parquet with the columns {', '.join(filter(None, (columns.images, columns.labels)))}"
    divided = "" if len(parts) > 1 else f", {division or Division()}"
    return Splits(f"{title}{divided}", tuple(map(str, classes)), arrays)


def divide(source: Path, tables: Sequence[Path]) -> tuple[list[list[Path]], list[Path]]:
    """The files of training and test images, by what they or their folders are called; all as one where none says so. And
    those of other splits."""
    groups: dict[str, list[Path]] = {}
    for path in tables:
        words = [path.stem.lower().replace("_", "-").replace(".", "-").split("-")[0], path.parent.name.lower()]
        known = [word for word in words if any(word in part for part in WORDS)]
        groups.setdefault(known[0] if known and path != source else "", []).append(path)
    chosen = [next((word for word in words if word in groups), None) for words in WORDS]
    if chosen[0] is None:
        if len(groups) > 1 or chosen[1]:
            raise _problem(
                source, f"none of its {len(tables):,} {SUFFIX} is called train; call those of training images train-*"
            )
        return [list(tables)], []
    taken = [groups[word] for word in chosen if word is not None]
    return taken, [path for group in groups.values() if group not in taken for path in group]


def _problem(source: Path, text: str) -> Problem:
    return Problem(f"{str(source)!r}: {text}")


@contextlib.contextmanager
def _open(source: Path, path: Path) -> Iterator[Any]:
    """A Parquet file. What reads it trusts it, and may raise anything."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Problem(f"{str(path)!r} is Parquet, which pyarrow reads; run: pip install pyarrow") from error
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except Problem:
        raise
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.filename:
            raise Problem(f"cannot read {error.filename!r}: {error.strerror}; make it readable") from error
        where = path.name if path != source else "it"
        raise _problem(
            source, f"{where} is no whole Parquet file ({one_line(error)}); write or download it again"
        ) from error


def _columns(source: Path, path: Path) -> Columns:
    """Which columns hold images and labels, by their types and by what `datasets` says in the schema's metadata."""
    import pyarrow.types

    with _open(source, path) as file:
        schema = file.schema_arrow
        features = _features(schema.metadata or {})
        images = [field.name for field in schema if _holds_images(field)]
        if not images:
            raise _problem(
                source,
                f"its columns are {', '.join(schema.names)}, and none is a struct with the bytes of an image; write it with "
                "Hugging Face's datasets, or give a folder of images",
            )
        names = {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and _are_names(feature.get("names"))
        }
        kinds = [getattr(pyarrow.types, f"is_{kind}") for kind in ("integer", "floating", "string", "large_string")]
        fit = [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]
        likely = [*(name for name in LABELS if name in fit), *(name for name in names if name in fit)]
        labels = next((name for name in likely if name in names), next(iter(likely), ""))
        return Columns(images[0], labels, tuple(names.get(labels, ())))


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` says of the columns; nothing where the text is damaged."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        return dict(json.loads(metadata[b"huggingface"])["info"]["features"])
    return {}


def _are_names(names: object) -> bool:
    return (
        isinstance(names, list)
        and all(isinstance(name, str) and name.isprintable() and name for name in names)
        and len({*names}) == len(names)
    )


def _holds_images(field: Any) -> bool:
    import pyarrow.types

    kind = field.type
    if pyarrow.types.is_struct(kind):
        return any(inner.name == "bytes" and _is_binary(inner.type) for inner in kind)
    return _is_binary(kind) and field.name in ("image", "img")


def _is_binary(kind: Any) -> bool:
    import pyarrow.types

    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _labels(source: Path, path: Path, columns: Columns) -> list[int | str | None]:
    """Of each row, None where it has none."""
    with _open(source, path) as file:
        if not columns.labels:
            return [None] * file.metadata.num_rows
        values: list[int | str | None] = []
        for batch in file.iter_batches(1 << 16, columns=[columns.labels]):
            values.extend(batch.column(0).to_pylist())
    labels = [None if value in ("", UNLABELED) or value != value else _whole(source, value) for value in values]
    if columns.names and any(value is not None and not 0 <= int(value) < len(columns.names) for value in labels):
        raise _problem(
            source, f"the column {columns.labels} has labels beyond its {len(columns.names)} names; write it again"
        )
    return labels


def _whole(source: Path, value: Any) -> int | str | None:
    """pandas makes floats of whole numbers, some of which are missing."""
    if isinstance(value, float):
        if not value.is_integer():
            raise _problem(
                source, f"its labels are numbers such as {value:g}; give a whole number or a name for each image"
            )
        return int(value)
    return value  # type: ignore[no-any-return]


def _results(
    source: Path, part: Sequence[Path], columns: Columns, chosen: NDArray[np.int64], size: int
) -> Generator[tuple[str, Picture | str]]:
    """Of the chosen rows of the files, counted from the first file on."""
    first = 0
    wanted = np.zeros(int(chosen.max(initial=-1)) + 1, bool)
    wanted[chosen] = True
    for path in part:
        with _open(source, path) as file:
            about = file.metadata
            each = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) // max(
                1, about.num_rows
            )
            row = 0
            for batch in file.iter_batches(max(1, min(MOST_ROWS, BATCH // max(1, each))), columns=[columns.images]):
                column = batch.column(0)
                rows = [i for i in range(len(column)) if first + row + i < len(wanted) and wanted[first + row + i]]
                contents = [_bytes(column[i].as_py()) for i in rows]
                with contextlib.closing(
                    pictures.in_threads(lambda content: _decode(content, size), contents)
                ) as results:
                    for i, result in zip(rows, results, strict=True):
                        yield f"row {row + i} of {path.name!r}", result
                row += len(column)
            first += row


def _bytes(cell: Any) -> bytes | None:
    return cell.get("bytes") if isinstance(cell, dict) else cell


def _decode(content: bytes | None, size: int) -> Picture | str:
    if not content:
        return "it holds no bytes, and files beside it are not read"
    if len(content) > pictures.MOST_BYTES:
        return f"larger than {pictures.MOST_BYTES >> 20} MB"
    with pictures.turn(len(content) / pictures.MOST_BYTES):
        return pictures.decode(content, size)
