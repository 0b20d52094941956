"""Image sets in numpy's files: `.npz` with the keys of MedMNIST or of Keras, and `.npy`. Nothing is ever unpickled.

A `.npy` is mapped into memory. What is in a `.npz` is unpacked once, in pieces, into a nameless file on disk, and mapped.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from train.data import pictures
from train.data.images import SPLITS, UNLABELED, Pixels, blank
from train.data.layouts import JOINERS, WORDS, shown
from train.data.splits import Division, Splits
from train.tracking.problem import Problem, one_line
from train.tracking.progress import over

SUFFIXES = (".npz", ".npy")
KEYS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))  # of a split: MedMNIST's and Keras's
WHOLE = (("images", "labels"), ("x", "y"))  # without splits
LAYOUT = "train_images, train_labels, test_images, test_labels (MedMNIST's keys) or x_train, y_train, x_test, y_test (Keras's)"
CHANNELS = (1, 3, 4)
PIECE = 1 << 20  # bytes unpacked at a time
BATCH = 4_096  # images copied at a time


def read(source: Path, size: int, division: Division | None = None) -> Splits:
    """The training images and those for testing, in the order of the file. division: of a set that has no test images; None
    where nobody asked for another one than the default. Raises Problem where the file holds something else."""
    if source.suffix.lower() == ".npy":
        with _reading(source):
            images = np.lib.format.open_memmap(source, mode="r")
        return build(source, f"{images.dtype} {images.shape} array", [images], [None], size, division)
    with _reading(source), zipfile.ZipFile(source) as archive:
        names = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        keys, rest = choose(list(names))
        if not keys:
            raise Problem(
                f"{str(source)!r} holds {shown(names) or 'no arrays'}, and not {LAYOUT}; name its arrays so, or give one alone"
            )
        if rest:
            print(f"left out: the arrays {shown(rest)}")
        arrays = [_unpack(source, archive, names[images], pixels=True) for images, _ in keys]
        labels = [_unpack(source, archive, names[labels]) if labels in names else None for _, labels in keys]
        words = ", ".join(name for pair in keys for name in pair if name in names)
    return build(source, words, arrays, labels, size, division)


def is_array(source: Path) -> bool:
    """Whether a source is one of numpy's files."""
    return source.suffix.lower() in SUFFIXES and source.is_file()


def choose(names: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The names of the images and of their labels, which may not be there, for training and for testing; for training alone
    where there are no others; empty where no name is known. And the names that are left out."""
    for images, labels in KEYS:
        first = [next((word for word in words if images.format(word) in names), None) for words in WORDS]
        if first[0]:
            pairs = [(images.format(word), labels.format(word)) for word in first if word]
            break
    else:
        pairs = [pair for pair in WHOLE if pair[0] in names][:1]
        if not pairs and len(names) == 1:
            pairs = [(names[0], "")]
    taken = {name for pair in pairs for name in pair}
    return pairs, [name for name in names if name not in taken]


def build(
    source: Path,
    title: str,
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any] | None],
    size: int,
    division: Division | None,
) -> Splits:
    """Of the images for training and for testing, or of all alike, with their labels."""
    for pixels, values in zip(images, labels, strict=True):
        check_pixels(source, pixels.shape, pixels.dtype)
        if values is not None and len(values) != len(pixels):
            raise Problem(f"{str(source)!r} has {len(pixels):,} images and {len(values):,} labels; give one for each")
    names = [
        [None] * len(pixels) if values is None else read_labels(source, values)
        for pixels, values in zip(images, labels, strict=True)
    ]
    classes, numbers = number(names)
    parts, rows = split(source, numbers, division)
    arrays: dict[str, NDArray[Any]] = {}
    check_classes(
        source, classes, {name: numbers[part][chosen] for name, part, chosen in zip(SPLITS, parts, rows, strict=True)}
    )
    for name, part, chosen in zip(SPLITS, parts, rows, strict=True):
        arrays[name] = fit_all(images[part], size, name, chosen)
        arrays[f"{name}_labels"] = numbers[part][chosen]
    divided = "" if len(images) > 1 else f", {division or Division()}"
    return Splits(f"{title}{divided}", tuple(map(str, classes)), arrays)


# -- labels ------------------------------------------------------------------------------------------------------------


def read_labels(source: Path, values: NDArray[Any]) -> list[int | str | None]:
    """A number or a name for each image, None for -1 and for an empty name. values: (n,) or (n, 1)."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "biuU":
        raise Problem(
            f"the labels of {str(source)!r} are {values.dtype} {values.shape}; give a whole number or a name for each image"
        )
    named = values.dtype.kind == "U"
    return [None if value in ("", UNLABELED) else value for value in (values if named else values.astype(int)).tolist()]


def number(names: Sequence[Sequence[int | str | None]]) -> tuple[list[int | str], list[NDArray[np.int64]]]:
    """The classes, sorted, and of each part the labels, indices into them. A single class is none."""
    classes = sorted(
        {name for part in names for name in part if name is not None}, key=lambda name: (isinstance(name, str), name)
    )
    if len(classes) == 1:
        classes = []
    places = {name: place for place, name in enumerate(classes)}
    return classes, [np.array([places.get(name, UNLABELED) for name in part], np.int64) for part in names]  # type: ignore[arg-type]


def split(
    source: Path, labels: Sequence[NDArray[np.int64]], division: Division | None
) -> tuple[Sequence[int], Sequence[NDArray[np.int64]]]:
    """Of training and test images: which part they are of, and their rows in it. labels: of the parts, one or two. Raises
    Problem where a part that should be divided cannot be, or two should be."""
    if len(labels) > 1:
        if division:
            raise Problem(
                f"{str(source)!r} has test images of its own, and needs no --test-share or --seed; leave them out"
            )
        return (0, 1), [np.arange(len(part)) for part in labels]
    names = [None if label == UNLABELED else str(label) for label in labels[0].tolist()]
    try:
        tests = (division or Division()).tests(range(len(names)), names)
    except ValueError as error:
        raise Problem(f"{str(source)!r}: {error} a single image; add another, or leave it out") from error
    return (0, 0), [np.flatnonzero(~tests), np.flatnonzero(tests)]


def check_classes(source: Path, classes: Sequence[object], labels: Mapping[str, NDArray[np.int64]]) -> None:
    """Raises Problem where a class is in one of two splits alone that have classes, or has no name of its own that can be
    printed, or where a split holds no images."""
    for name in map(str, classes):
        if not name.translate(JOINERS).isprintable():
            raise Problem(
                f"{str(source)!r}: the name of the class {name!r} has characters that cannot be printed; change it"
            )
    if len({*map(str, classes)}) < len(classes):
        raise Problem(f"{str(source)!r}: two classes are called alike; give each a name, or each a number")
    for name, part in labels.items():
        if not len(part):
            raise Problem(f"{str(source)!r} holds no images for {name}ing; add some")
    present = [{*part.tolist()} - {UNLABELED} for part in labels.values()]
    if all(present):
        for label in sorted(present[0] ^ present[1]):
            has, lacks = SPLITS if label in present[0] else reversed(SPLITS)
            raise Problem(
                f"{str(source)!r}: no {lacks} image is of class {str(classes[label])!r}, but {has} images are; add some, or "
                "leave the class out"
            )


# -- images ------------------------------------------------------------------------------------------------------------


def check_pixels(source: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises Problem unless these are images (n, h, w) or (n, h, w, c) of uint8."""
    what = f"the images of {str(source)!r} are {dtype} {shape}"
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in CHANNELS) or min(shape) < 1:
        turn = "turn them with transpose(0, 2, 3, 1)" if len(shape) == 4 and shape[1] in CHANNELS else "save them so"
        raise Problem(f"{what}, not (n, height, width) or (n, height, width, 1, 3 or 4); {turn}")
    if dtype != np.uint8:
        raise Problem(f"{what}, and not uint8 of 0 to 255; scale and round them, and save them as uint8")


def fit_all(
    images: Pixels, size: int, what: str, rows: NDArray[np.int64] | None = None, result: Pixels | None = None
) -> Pixels:
    """(n, height, width) or (n, height, width, 1, 3 or 4) images, or these of their rows, as (n, size, size, 3): in `result`,
    or in an array of their own."""
    rows = np.arange(len(images)) if rows is None else rows
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    result = blank((len(rows), size, size, 3), np.uint8) if result is None else result
    if images.shape[1:3] == (size, size) and images.shape[3:] in ((), (3,)):
        for start in range(0, len(rows), BATCH):
            part = images[rows[start : start + BATCH]]
            result[start : start + BATCH] = part if part.ndim == 4 else part[..., None]
    else:
        for i, row in enumerate(over(rows, what, "image", leave=False)):
            result[i] = pictures.fit(PIL.Image.fromarray(np.ascontiguousarray(images[row])), size)
    return result


# -- files -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    """What is wrong with a file is a Problem: numpy and zipfile trust what they read, and may raise anything."""
    try:
        yield
    except (Problem, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            if error.filename != str(source):
                raise
            raise Problem(f"cannot read {str(source)!r}: {error.strerror}; make it readable and run again") from error
        raise Problem(f"{str(source)!r} is no whole array file ({one_line(error)}); save it again") from error


def _unpack(source: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, pixels: bool = False) -> NDArray[Any]:
    """An array, mapped into memory from a nameless file. pixels: it is refused before it is unpacked where it holds none."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, turned, dtype = header(file)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds Python objects, which are never unpickled")
        if pixels:
            check_pixels(source, shape, dtype)
        count = math.prod(shape) * dtype.itemsize
        if count != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename} holds {entry.file_size - file.tell():,} bytes of {count:,}")
        content = blank((max(count, 1),), np.uint8)
        _fill(file, content[:count])  # type: ignore[arg-type]
        return content[:count].view(dtype).reshape(shape, order="F" if turned else "C")


def _fill(file: BinaryIO, content: Pixels) -> None:
    view = memoryview(content)  # type: ignore[arg-type]
    for start in range(0, len(view), PIECE):
        part = view[start : start + PIECE]
        done = 0
        while done < len(part):
            piece = file.read(len(part) - done)
            if not piece:
                raise EOFError("it ends too early")
            part[done : done + len(piece)] = piece
            done += len(piece)
    if file.read(1):
        raise ValueError("it goes on behind its end")
