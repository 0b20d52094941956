"""Images of one's own: a folder or an archive of them. It is only read, and hostile until checked."""

import contextlib
import errno
import os
import stat
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from numpy.typing import NDArray

from train.data import archive, layouts, pictures, tars
from train.data.decoding import Remarks, decode_all
from train.data.images import SPLITS, UNLABELED
from train.data.layouts import LAYOUT, TABLE, Place
from train.data.pictures import Picture
from train.data.splits import Division, Splits
from train.tracking.problem import Problem, incident, one_line

# What systems put beside one's files, whatever its case; as is all that begins with a dot.
CLUTTER = frozenset(
    ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found",
     "system volume information")
)  # fmt: skip
UNREADABLE, LINKED, BROKEN, SPECIAL = "unreadable folder", "linked folder", "broken link", "special file"
MOST_KINDS = 10  # named in the line of what was left out

Key = TypeVar("Key")


@dataclass(frozen=True)
class Tree:
    """What a folder or an archive holds, under the folders of its splits where it has such; paths are in Unicode's composed
    form (NFC).

    images: path inside -> size in bytes, and what else differs once the file was written to. tables: the same of tables of
    labels. folders: paths inside. content: the bytes of an image, or of a table.
    left_out: how many files of each kind are no part of the set; what systems leave beside files is not counted.
    splits, rivals: as `Place` has them.
    """

    source: Path
    images: dict[str, tuple[int, ...]]
    tables: dict[str, tuple[int, ...]]
    folders: set[str]
    content: Callable[[str], bytes]
    left_out: Counter[str]
    splits: tuple[str, ...]
    rivals: tuple[str, ...]

    def problem(self, text: str) -> Problem:
        return Problem(f"{str(self.source)!r}: {text}")

    def inventory(self) -> str:
        """What there is, such as `12,304 images in 3 folders ('a', 'b', 'c')`."""
        homes = {path.rpartition("/")[0] for path in self.images} - {""}
        where = f" in {len(homes):,} folder{'s' * (len(homes) > 1)} ({layouts.shown(homes)})" if homes else ""
        return f"{len(self.images):,} image{'s' * (len(self.images) != 1)}{where}"

    def remainder(self) -> str:
        """What was left out, such as `25 .txt, 3 .psd`."""
        kinds = sorted(self.left_out.items(), key=lambda pair: (-pair[1], pair[0]))
        several = (UNREADABLE, LINKED, BROKEN, SPECIAL)
        parts = [f"{count:,} {kind}{'s' * (count > 1 and kind in several)}" for kind, count in kinds[:MOST_KINDS]]
        others = sum(count for _, count in kinds[MOST_KINDS:])
        return ", ".join([*parts, *([f"{others:,} of other kinds"] if others else [])])


def read(
    source: Path,
    size: int,
    skip_corrupt: bool,
    encoding: str = "",
    division: Division | None = None,
    unlabeled: bool = False,
) -> Splits:
    """Images are in the order of their paths. One that cannot be decoded is a Problem, or left out and named in a line.

    encoding: of the names in an archive, where that does not state it. division, unlabeled: as `layouts.layout` takes them.
    """
    with open_tree(source, encoding) as tree:
        layout = layouts.layout(tree, division, unlabeled)
        remarks = Remarks()
        arrays: dict[str, NDArray[Any]] = {}
        for split in SPLITS:
            paths, labels = layout.paths[split], layout.labels[split]
            results = _results(tree, paths, size)
            images, sound = decode_all(results, len(paths), size, skip_corrupt, split, remarks, tree.problem)
            arrays[split], arrays[f"{split}_labels"] = images, labels[sound]
            for label in sorted({*labels.tolist()} - {*labels[sound].tolist()}):
                what = "/".join([split, *([layout.classes[label]] if label != UNLABELED else [])])
                raise tree.problem(f"no image of {what!r} can be decoded; replace its images")
        if tree.left_out:
            print(f"left out: {tree.remainder()}")
        for line in remarks.lines():
            print(line)
    return Splits(layout.title, layout.classes, arrays)


# -- what is there -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_tree(source: Path, encoding: str = "") -> Iterator[Tree]:
    """The folder or archive at `source`. Raises Problem where it is neither, or an entry of it leaves its folder."""
    if source.is_dir():
        yield _walk(source)
    elif source.is_file():
        if tars.is_tar(source):
            with tars.open_tar(source, LAYOUT, encoding, _is_wanted, pictures.MOST_BYTES) as (entries, content):
                yield _packed(source, entries, lambda entry: SPECIAL if entry.special else (entry.count,), content)
            return
        with archive.open_zip(source, LAYOUT) as opened:
            pairs = archive.entries(opened, source, encoding)

            def about(entry: zipfile.ZipInfo) -> tuple[int, ...]:
                archive.check_unpackable(entry, source)
                return entry.file_size, entry.CRC

            yield _packed(source, pairs, about, lambda entry: archive.content(opened, entry))
    else:
        raise Problem(
            f"{str(source)!r} is neither a folder nor a file; give a folder, a zip or a tar that holds {LAYOUT}, or images alone"
        )


def _walk(source: Path) -> Tree:
    place = layouts.place(
        lambda path: _listing(source / path)[0], lambda path: any(map(_counts, _listing(source / path)[1]))
    )
    base = source / place.base
    splits = [base / split for split in place.splits] or [base]
    ahead = {*base.parents, base, *splits}
    above = {base.resolve(), *base.resolve().parents}
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
            # Class folders may be links; links below them, and to what holds the set, may go in circles and are left out.
            circles = here not in splits or (here == base and (here / name).resolve() in above)
            if circles and here / name not in ahead and (here / name).is_symlink():
                left_out[LINKED] += 1
                inner.remove(name)
        folders.add(_inside(here, source))
        files.extend((_inside(here / name, source), here / name) for name in names)
    return _tree(source, place, files, folders, _about, Path.read_bytes, left_out)


def _inside(path: Path, source: Path) -> str:
    return "" if path == source else path.relative_to(source).as_posix()


def _listing(folder: Path) -> tuple[set[str], set[str]]:
    """The names of the folders and of the files in a folder, but for what is hidden."""
    try:
        with os.scandir(folder) as entries:
            names = [(entry.name, entry.is_dir()) for entry in entries if not _hidden(entry.name)]
    except OSError as error:
        _unreadable(error)
    return {name for name, inner in names if inner}, {name for name, inner in names if not inner}


def _is_wanted(path: str) -> bool:
    """Whether a file of an archive may be part of the set."""
    return _counts(path.rpartition("/")[2]) and not any(map(_hidden, path.split("/")))


def _counts(name: str) -> bool:
    """Whether a file is an image by its name, or a table of labels."""
    return PurePosixPath(name).suffix.lower() in pictures.suffixes() or name.lower() == TABLE


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


def _packed(
    source: Path,
    entries: Iterable[tuple[str, Key]],
    about: Callable[[Key], tuple[int, ...] | str],
    content: Callable[[Key], bytes],
) -> Tree:
    """Of an archive's entries, a `/` at the end of a folder's path. about, content: as `_tree` takes them."""
    files = []
    folders = {""}
    for path, entry in entries:
        if not any(map(_hidden, path.split("/"))):
            if not path.endswith("/"):
                files.append((path, entry))
            folders.update(path[:end] for end, sign in enumerate(path) if sign == "/")
    inner: dict[str, set[str]] = defaultdict(set)
    for path in folders - {""}:
        parent, _, name = path.rpartition("/")
        inner[parent].add(name)
    flat = {path.rpartition("/")[0] for path, _ in files if _counts(path.rpartition("/")[2])}
    place = layouts.place(lambda path: inner[path], flat.__contains__)
    return _tree(source, place, files, folders, about, content, Counter())


def _tree(
    source: Path,
    place: Place,
    files: Iterable[tuple[str, Key]],
    folders: Iterable[str],
    about: Callable[[Key], tuple[int, ...] | str],
    content: Callable[[Key], bytes],
    left_out: Counter[str],
) -> Tree:
    """What lies at `place`. files: paths, and what `about` and `content` take for them."""
    images: dict[str, tuple[int, ...]] = {}
    tables: dict[str, tuple[int, ...]] = {}
    keys: dict[str, Key] = {}
    start = f"{place.base}/" if place.base else ""
    for path, key in files:
        name = unicodedata.normalize("NFC", path.removeprefix(start))
        split, slash, _ = name.partition("/")
        suffix = PurePosixPath(path).suffix.lower()
        if _hidden(PurePosixPath(path).name):
            continue
        inside = path.startswith(start) and (not place.splits or (bool(slash) and split in place.splits))
        if path.startswith(start) and _is_table(name, place):
            tables[name], keys[name] = (), key
        elif not (inside and suffix in pictures.suffixes()):
            left_out[_kind(path, suffix)] += 1
        elif isinstance(facts := about(key), str):
            left_out[facts] += 1
        elif name in images:
            raise Problem(
                f"{str(source)!r}: the entry {archive.shown(name)} occurs twice, or in two Unicode forms; leave one out"
            )
        else:
            images[name], keys[name] = facts, key
    if tables and place.splits and len({path.split("/")[1] for path in images if path.count("/") > 1}) > 1:
        left_out[PurePosixPath(TABLE).suffix] += len(tables)  # the folders are the classes
        tables.clear()
    for name in list(tables):
        if isinstance(facts := about(keys[name]), str):
            left_out[facts] += 1
            del tables[name]
        else:
            tables[name] = facts
    inside_folders = {
        unicodedata.normalize("NFC", path.removeprefix(start)) for path in folders if path.startswith(start)
    }
    return Tree(
        source, images, tables, inside_folders, lambda name: content(keys[name]), left_out, place.splits, place.rivals
    )


def _is_table(name: str, place: Place) -> bool:
    """Whether a file is a table of labels in the folder of the set, or of one of its splits."""
    folder, _, file = name.rpartition("/")
    return file.lower() == TABLE and folder in ("", *place.splits)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _kind(path: str, suffix: str) -> str:
    """What a file that is left out is counted as."""
    if suffix in pictures.suffixes():
        return f"{suffix} in {archive.shown(path.split('/')[0] + '/')}" if "/" in path else f"{suffix} in no folder"
    if package := pictures.plugin(suffix):
        return f"{suffix} (pip install {package} reads them)"
    return suffix if 1 < len(suffix) <= 12 and suffix.isprintable() and " " not in suffix else "without a suffix"


# -- pixels ------------------------------------------------------------------------------------------------------------


def _results(tree: Tree, paths: Sequence[str], size: int) -> Generator[tuple[str, Picture | str]]:
    with contextlib.closing(pictures.in_threads(lambda path: _decode(tree, path, size), paths)) as results:
        for path, result in zip(paths, results, strict=True):
            yield repr(path), result


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
