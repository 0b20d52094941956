"""Images of one's own: a folder or a zip laid out train/CLASS/*, test/CLASS/*. It is only read, and hostile until checked."""

import contextlib
import io
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from tqdm import tqdm

from train.data.images import SPLITS, Pixels, blank
from train.tracking.problem import Problem, one_line

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LAYOUT = "train/CLASS/* and test/CLASS/*"
MOST_BYTES = 1 << 28  # of one image file: what is larger is a zip bomb sooner than a picture
THREADS = min(8, os.cpu_count() or 1)
WINDOW = 1024  # images decoded before the next are begun: bounds the memory in which they wait


@dataclass(frozen=True)
class Tree:
    """What a folder or a zip holds under train/ and test/, hidden files left out.

    images: path inside -> size in bytes, and what else differs once the file was written to. folders: paths inside.
    content: the bytes of an image.
    """

    source: Path
    images: dict[str, tuple[int, ...]]
    folders: set[str]
    content: Callable[[str], bytes]

    def problem(self, text: str) -> Problem:
        return Problem(f"{str(self.source)!r}: {text}")

    def classes_of(self, split: str) -> tuple[set[str], set[str]]:
        """Names of the class folders of a split, and of those among them that hold images."""
        parts = [path.split("/") for path in self.folders]
        holders = [path.split("/") for path in self.images]
        return (
            {part[1] for part in parts if part[0] == split and len(part) > 1},
            {part[1] for part in holders if part[0] == split and len(part) > 2},
        )


def read(source: Path, size: int, skip_corrupt: bool) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Class names, sorted; images (n, size, size, 3) uint8 and labels (n,) int64 of both splits, as in `Images`.

    Images are in the order of their paths. One that cannot be decoded is a Problem, or left out and named in a line.
    """
    with open_tree(source) as tree:
        classes = class_names(tree)
        arrays: dict[str, NDArray[Any]] = {}
        for split in SPLITS:
            paths = sorted(path for path in tree.images if path.startswith(f"{split}/"))
            labels = np.array([classes.index(path.split("/")[1]) for path in paths], dtype=np.int64)
            images, sound = _decode_all(tree, paths, size, skip_corrupt, split)
            arrays[split], arrays[f"{split}_labels"] = images, labels[sound]
            for label in np.flatnonzero(np.bincount(labels[sound], minlength=len(classes)) == 0):
                raise tree.problem(f"no image of {f'{split}/{classes[label]}'!r} can be decoded; replace its images")
    return classes, arrays


# -- what is there -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_tree(source: Path) -> Iterator[Tree]:
    """The folder or zip at `source`. Raises Problem where it is neither, or an entry of the zip leaves its folder."""
    if source.is_dir():
        yield _walk(source)
        return
    try:
        if not source.is_file():
            raise zipfile.BadZipFile("no file")
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Problem(
            f"{str(source)!r} is neither a folder nor an intact zip ({one_line(error)}); give one that holds {LAYOUT}"
        ) from error
    except OSError as error:
        _unreadable(error)
    with archive:
        yield _entries(source, archive)


def _walk(source: Path) -> Tree:
    images: dict[str, tuple[int, ...]] = {}
    folders: set[str] = set()
    for split in filter(lambda split: (source / split).is_dir(), SPLITS):
        # Class folders may be links; links below them may go in circles and are left out.
        for top, inner, names in os.walk(source / split, onerror=_unreadable, followlinks=True):
            here = Path(top)
            is_class = here.parent == source
            inner[:] = [name for name in inner if not _hidden(name) and (is_class or not (here / name).is_symlink())]
            folders.add(here.relative_to(source).as_posix())
            for path in (here / name for name in names if not _hidden(name) and _is_image(name)):
                if path.is_file():
                    images[path.relative_to(source).as_posix()] = mark(path.stat())
    return Tree(source, images, folders, lambda path: (source / path).read_bytes())


def mark(about: os.stat_result) -> tuple[int, int, int, int]:
    """Size, time of the last write, time of the last change (which nobody can set) and inode of a file."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _unreadable(error: OSError) -> NoReturn:
    raise Problem(f"cannot read {error.filename!r}: {error.strerror}; make it readable") from error


def _entries(source: Path, archive: zipfile.ZipFile) -> Tree:
    entries: dict[PurePosixPath, zipfile.ZipInfo | None] = {}  # None for a folder
    for entry in archive.infolist():
        name = entry.filename.replace("\\", "/")  # some packers on Windows write those
        path = PurePosixPath(name)
        fault = "is a link" if stat.S_ISLNK(entry.external_attr >> 16) else None
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            fault = "leaves its folder"
        if path in entries and not name.endswith("/"):
            fault = "occurs twice"
        if fault:
            raise Problem(f"{str(source)!r}: the entry {entry.filename!r} {fault}; pack the zip again without it")
        if any(_hidden(part) for part in path.parts):
            continue
        if name.endswith("/"):
            entries[path] = None
        elif _is_image(name):
            entries[path] = entry
    tops = {path.parts[0] for path in entries if path.parts}
    if len(tops) == 1 and not tops & set(SPLITS):
        entries = {path.relative_to(path.parts[0]): entry for path, entry in entries.items() if path.parts}
    images = {str(path): entry for path, entry in entries.items() if entry and path.parts[0] in SPLITS}
    folders = {str(path) for path, entry in entries.items() if entry is None}
    for path in {path.parent for path in entries}:
        folders.update(map(str, (path, *path.parents)))
    about: dict[str, tuple[int, ...]] = {path: (entry.file_size, entry.CRC) for path, entry in images.items()}
    return Tree(source, about, folders, lambda path: archive.read(images[path]))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def class_names(tree: Tree) -> tuple[str, ...]:
    """The classes, sorted. Raises Problem on a layout that does not serve."""
    for split in SPLITS:
        if split not in tree.folders:
            raise tree.problem(f"it has no folder {split}/; lay it out as {LAYOUT}")
    for path in sorted(tree.images):
        if path.count("/") == 1:
            raise tree.problem(f"the image {path!r} is in no class folder; lay it out as {LAYOUT}")
    for split in SPLITS:
        folders, filled = tree.classes_of(split)
        if not filled:
            raise tree.problem(f"{split}/ holds no images ({' '.join(SUFFIXES)}); lay it out as {LAYOUT}")
        for name in sorted(folders - filled):
            raise tree.problem(f"the class folder {f'{split}/{name}'!r} holds no images; fill it or remove it")
    train, test = (tree.classes_of(split)[1] for split in SPLITS)
    for name in sorted(train ^ test):
        has, lacks = SPLITS if name in train else reversed(SPLITS)
        raise tree.problem(
            f"{lacks}/ has no class {name!r}, but {has}/ has; add it to {lacks}/, or remove it from {has}/"
        )
    if len(train) == 1:
        raise tree.problem(f"it has a single class, {min(train)!r}; give two or more")
    for name in sorted(train):
        if not name.isprintable():
            raise tree.problem(
                f"the name of the class {name!r} has characters that cannot be printed; rename the folder"
            )
    return tuple(sorted(train))


# -- pixels ------------------------------------------------------------------------------------------------------------


def _decode_all(
    tree: Tree, paths: Sequence[str], size: int, skip_corrupt: bool, split: str
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Images of the paths that can be decoded, and which those are."""
    images = blank((len(paths), size, size, 3), np.uint8)
    sound = np.ones(len(paths), bool)
    lines = []
    count = 0
    with contextlib.closing(_in_threads(lambda path: _decode(tree, path, size), paths)) as results:
        for i, result in enumerate(tqdm(results, split, len(paths), leave=False, unit=" images", disable=None)):
            if not isinstance(result, str):
                images[count] = result
                count += 1
            elif skip_corrupt:
                lines.append(f"skipped {paths[i]!r}: {result}")
                sound[i] = False
            else:
                raise tree.problem(
                    f"{paths[i]!r} cannot be decoded ({result}); replace it, "
                    "or leave such images out with --skip-corrupt True"
                )
    for line in lines:
        print(line)
    return images[:count], sound


def _in_threads(decode: Callable[[str], Pixels | str], paths: Sequence[str]) -> Generator[Pixels | str]:
    """decode(path) of each path, in order, worked out by threads."""
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        for start in range(0, len(paths), WINDOW):
            yield from threads.map(decode, paths[start : start + WINDOW])


def _decode(tree: Tree, path: str, size: int) -> Pixels | str:
    """The image at `path` as (size, size, 3), or in a few words why there is none."""
    try:
        if tree.images[path][0] > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MB")
        with PIL.Image.open(io.BytesIO(tree.content(path))) as image:
            image.load()  # all of it: `open` reads no more than the header
            return fit(image, size)
    except PIL.UnidentifiedImageError:
        return "its content is not an image"
    except Exception as error:  # decoders raise whatever their format's code comes upon
        return one_line(error)


def fit(image: PIL.Image.Image, size: int) -> Pixels:
    """Any image as RGB pixels (size, size, 3): upright, over white where transparent, its center cut to a square.

    An image of exactly that size keeps its pixels; others are resized, bilinear with antialiasing.
    """
    PIL.ImageOps.exif_transpose(image, in_place=True)
    image = _rgb(image)
    if image.size != (size, size):
        image = PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts off what is beyond 255
        values = np.asarray(image).astype(np.float64) / 257
        return PIL.Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
