"""Images of one's own: a folder or a zip laid out train/CLASS/*, test/CLASS/*. It is only read, and hostile until checked."""

import contextlib
import errno
import os
import stat
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from train.data import archive, pictures
from train.data.images import SPLITS, Pixels, blank
from train.data.pictures import Picture
from train.tracking.problem import Problem, incident, one_line
from train.tracking.progress import over

LAYOUT = "train/CLASS/* and test/CLASS/*"
# What systems put beside one's files, whatever its case; as is all that begins with a dot.
CLUTTER = frozenset(
    ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found",
     "system volume information")
)  # fmt: skip
JOINERS = {0x200C: None, 0x200D: None}  # letters of Persian and Indic words, which Python takes for controls
UNREADABLE, LINKED, BROKEN, SPECIAL = "unreadable folder", "linked folder", "broken link", "special file"
MOST_KINDS = 10  # named in the line of what was left out
SHARE_USED = 8  # a set that uses less than an eighth of its range is probably one of fewer bits

Key = TypeVar("Key")


@dataclass(frozen=True)
class Tree:
    """What a folder or a zip holds under train/ and test/; paths are in Unicode's composed form (NFC).

    images: path inside -> size in bytes, and what else differs once the file was written to. folders: paths inside.
    content: the bytes of an image.
    left_out: how many files of each kind are no part of the set; what systems leave beside files is not counted.
    """

    source: Path
    images: dict[str, tuple[int, ...]]
    folders: set[str]
    content: Callable[[str], bytes]
    left_out: Counter[str]

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

    def remainder(self) -> str:
        """What was left out, such as `25 .txt, 3 .psd`."""
        kinds = sorted(self.left_out.items(), key=lambda pair: (-pair[1], pair[0]))
        several = (UNREADABLE, LINKED, BROKEN, SPECIAL)
        parts = [f"{count:,} {kind}{'s' * (count > 1 and kind in several)}" for kind, count in kinds[:MOST_KINDS]]
        others = sum(count for _, count in kinds[MOST_KINDS:])
        return ", ".join([*parts, *([f"{others:,} of other kinds"] if others else [])])


def read(
    source: Path, size: int, skip_corrupt: bool, encoding: str = ""
) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Class names, sorted; images (n, size, size, 3) uint8 and labels (n,) int64 of both splits, as in `Images`.

    Images are in the order of their paths. One that cannot be decoded is a Problem, or left out and named in a line.
    encoding: of the names in a zip, where the zip does not state it.
    """
    with open_tree(source, encoding) as tree:
        classes = class_names(tree)
        remarks = Remarks()
        arrays: dict[str, NDArray[Any]] = {}
        for split in SPLITS:
            paths = sorted(path for path in tree.images if path.startswith(f"{split}/"))
            labels = np.array([classes.index(path.split("/")[1]) for path in paths], dtype=np.int64)
            images, sound = _decode_all(tree, paths, size, skip_corrupt, split, remarks)
            arrays[split], arrays[f"{split}_labels"] = images, labels[sound]
            for label in np.flatnonzero(np.bincount(labels[sound], minlength=len(classes)) == 0):
                raise tree.problem(f"no image of {f'{split}/{classes[label]}'!r} can be decoded; replace its images")
        if tree.left_out:
            print(f"left out: {tree.remainder()}")
        for line in remarks.lines():
            print(line)
    return classes, arrays


# -- what is there -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_tree(source: Path, encoding: str = "") -> Iterator[Tree]:
    """The folder or zip at `source`. Raises Problem where it is neither, or an entry of the zip leaves its folder."""
    if source.is_dir():
        yield _walk(source)
    elif source.is_file():
        with archive.open_zip(source, LAYOUT) as opened:
            yield _entries(source, opened, encoding)
    else:
        raise Problem(f"{str(source)!r} is neither a folder nor a file; give a folder or a zip that holds {LAYOUT}")


def _walk(source: Path) -> Tree:
    base = source / _base(lambda path: _subfolders(source / path))
    splits = [base / split for split in SPLITS]
    ahead = {*base.parents, base, *splits}
    files: list[tuple[str, Path]] = []
    folders: set[str] = set()
    left_out: Counter[str] = Counter()

    def pass_over(error: OSError) -> None:
        place = Path(error.filename)
        if place in ahead or any(split in place.parents for split in splits):
            _unreadable(error)
        left_out[UNREADABLE] += 1

    for top, inner, names in os.walk(source, onerror=pass_over, followlinks=True):
        here = Path(top)
        inner[:] = [name for name in inner if not _hidden(name)]
        for name in list(inner):
            # Class folders may be links; links below them may go in circles and are left out.
            if here not in splits and here / name not in ahead and (here / name).is_symlink():
                left_out[LINKED] += 1
                inner.remove(name)
        folders.add(_inside(here, source))
        files.extend((_inside(here / name, source), here / name) for name in names)
    return _tree(source, _inside(base, source), files, folders, _about, Path.read_bytes, left_out)


def _inside(path: Path, source: Path) -> str:
    return "" if path == source else path.relative_to(source).as_posix()


def _subfolders(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name)}
    except OSError as error:
        _unreadable(error)


def _about(path: Path) -> tuple[int, ...] | str:
    """As `mark`, or what it is instead of a file."""
    try:
        about = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return BROKEN
        _unreadable(error)
    return mark(about) if stat.S_ISREG(about.st_mode) else SPECIAL


def mark(about: os.stat_result) -> tuple[int, int, int, int]:
    """Size, time of the last write, time of the last change (which nobody can set) and inode of a file."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _unreadable(error: OSError) -> NoReturn:
    if error.errno in (errno.EACCES, errno.EPERM):  # of the images, which PEEL_HOME does not hold
        raise Problem(f"cannot read {error.filename!r}: {error.strerror}; make it readable") from error
    raise incident(error) or Problem(f"cannot read {error.filename!r}: {error.strerror}; make it readable") from error


def _entries(source: Path, opened: zipfile.ZipFile, encoding: str) -> Tree:
    files = []
    folders = {""}
    for path, entry in archive.entries(opened, source, encoding):
        if not any(map(_hidden, path.split("/"))):
            if not path.endswith("/"):
                files.append((path, entry))
            folders.update(path[:end] for end, sign in enumerate(path) if sign == "/")
    inner: dict[str, set[str]] = defaultdict(set)
    for path in folders - {""}:
        parent, _, name = path.rpartition("/")
        inner[parent].add(name)

    def about(entry: zipfile.ZipInfo) -> tuple[int, ...]:
        archive.check_unpackable(entry, source)
        return entry.file_size, entry.CRC

    base = _base(lambda path: inner[path])
    return _tree(source, base, files, folders, about, lambda entry: archive.content(opened, entry), Counter())


def _base(inner: Callable[[str], Set[str]]) -> str:
    """The path of the folder that holds train/ and test/: that at hand, or one that it is wrapped in. inner: the names of the
    folders in a folder."""
    base = ""
    while not (names := inner(base)) & set(SPLITS):
        paths = [f"{base}/{name}" if base else name for name in names]
        homes = [path for path in paths if inner(path) & set(SPLITS)]
        if len(homes or paths) != 1:
            return ""
        (base,) = homes or paths
    return base


def _tree(
    source: Path,
    base: str,
    files: Iterable[tuple[str, Key]],
    folders: Iterable[str],
    about: Callable[[Key], tuple[int, ...] | str],
    content: Callable[[Key], bytes],
    left_out: Counter[str],
) -> Tree:
    """What lies under `base`. files: paths, and what `about` and `content` take for them."""
    images: dict[str, tuple[int, ...]] = {}
    keys: dict[str, Key] = {}
    start = f"{base}/" if base else ""
    for path, key in files:
        name = unicodedata.normalize("NFC", path.removeprefix(start))
        split, slash, _ = name.partition("/")
        suffix = PurePosixPath(path).suffix.lower()
        if _hidden(PurePosixPath(path).name):
            continue
        if not (path.startswith(start) and slash and split in SPLITS and suffix in pictures.suffixes()):
            left_out[_kind(path, suffix)] += 1
        elif isinstance(facts := about(key), str):
            left_out[facts] += 1
        elif name in images:
            raise Problem(
                f"{str(source)!r}: the entry {archive.shown(name)} occurs twice, or in two Unicode forms; leave one out"
            )
        else:
            images[name], keys[name] = facts, key
    inside = {unicodedata.normalize("NFC", path.removeprefix(start)) for path in folders if path.startswith(start)}
    return Tree(source, images, inside, lambda name: content(keys[name]), left_out)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _kind(path: str, suffix: str) -> str:
    """What a file that is left out is counted as."""
    if suffix in pictures.suffixes():
        return f"{suffix} in {archive.shown(path.split('/')[0] + '/')}" if "/" in path else f"{suffix} in no folder"
    if package := pictures.plugin(suffix):
        return f"{suffix} (pip install {package} reads them)"
    return suffix if 1 < len(suffix) <= 12 and suffix.isprintable() and " " not in suffix else "without a suffix"


def class_names(tree: Tree) -> tuple[str, ...]:
    """The classes, sorted. Raises Problem on a layout that does not serve."""
    remainder = f", but {tree.remainder()}" if tree.left_out else ""
    for split in SPLITS:
        if split not in tree.folders:
            raise tree.problem(f"it has no folder {split}/{remainder}; lay it out as {LAYOUT}")
    loose = sorted(path for path in tree.images if path.count("/") == 1)
    if loose:
        others = f" and {len(loose) - 1:,} others lie" if loose[1:] else " lies"
        raise tree.problem(f"{loose[0]!r}{others} in no class folder; lay it out as {LAYOUT}")
    for split in SPLITS:
        folders, filled = tree.classes_of(split)
        if not filled:
            raise tree.problem(f"{split}/ holds no images{remainder}; lay it out as {LAYOUT}")
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
        if not name.translate(JOINERS).isprintable():
            raise tree.problem(
                f"the name of the class {name!r} has characters that cannot be printed; rename the folder"
            )
    return tuple(sorted(train))


# -- pixels ------------------------------------------------------------------------------------------------------------


@dataclass
class Remarks:
    """What is worth a line about images that were all read."""

    several: list[str] = field(default_factory=list)
    extents: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # mode -> lowest, highest value, images

    def add(self, path: str, picture: Picture) -> None:
        if picture.several:
            self.several.append(path)
        low, high, count = self.extents.get(picture.mode, (255, 0, 0))
        self.extents[picture.mode] = (
            min(low, int(picture.pixels.min())),
            max(high, int(picture.pixels.max())),
            count + 1,
        )

    def lines(self) -> Iterator[str]:
        if self.several:
            yield f"of {len(self.several):,} files with several frames the first was taken, as of {self.several[0]!r}"
        everything = sum(count for _, _, count in self.extents.values())
        for mode, (low, high, count) in sorted(self.extents.items()):
            if high - low < 256 // SHARE_USED and count * 10 >= everything:
                yield (
                    f"the {count:,} images of mode {mode} lie between {low} and {high} of 0 to 255: if their files have more "
                    "bits than their values need, scale the values up first"
                )


def _decode_all(
    tree: Tree, paths: Sequence[str], size: int, skip_corrupt: bool, split: str, remarks: Remarks
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Images of the paths that can be decoded, and which those are."""
    images = blank((len(paths), size, size, 3), np.uint8)
    sound = np.ones(len(paths), bool)
    lines = []
    count = 0
    with contextlib.closing(pictures.in_threads(lambda path: _decode(tree, path, size), paths)) as results:
        for i, result in enumerate(over(results, split, "image", len(paths), leave=False)):
            if not isinstance(result, str):
                images[count] = result.pixels
                remarks.add(paths[i], result)
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


def _decode(tree: Tree, path: str, size: int) -> Picture | str:
    """The image at `path`, or in a few words why there is none. Raises Problem where the reason is not the image."""
    count = tree.images[path][0]
    if count > pictures.MOST_BYTES:
        return f"larger than {pictures.MOST_BYTES >> 20} MB"
    try:
        with pictures.turn(count / pictures.MOST_BYTES):
            return pictures.decode(tree.content(path), size)
    except MemoryError as error:
        raise tree.problem(f"{path!r} needs more memory than there is; free some, or save the image smaller") from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a damaged zip leads outside itself
            return one_line(error)
        raise tree.problem(f"cannot read {path!r}: {error.strerror}; make it readable and run again") from error
    except Exception as error:  # zipfile trusts what a zip says of itself
        return one_line(error)
