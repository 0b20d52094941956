"""How the images of a folder or an archive lie: which folders are its splits, which its classes, what a table of labels says, and
how a set without test images is divided. Of paths alone: nothing here opens an image."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.data.images import SPLITS, UNLABELED
from train.data.pictures import MOST_BYTES
from train.data.splits import Division
from train.tracking.problem import one_line

if TYPE_CHECKING:
    from train.data.folder import Tree

LAYOUT = "train/CLASS/* and test/CLASS/*"
# What the folders of the splits are called, in any case; of several the first counts.
WORDS = (("train", "training"), ("test", "testing", "val", "valid", "validation"))
TABLE = "labels.csv"  # of a column for the file and one for its label
COLUMNS = ("file", "label")
DELIMITERS = (",", ";", "\t")
JOINERS = {0x200C: None, 0x200D: None}  # letters of Persian and Indic words, which Python takes for controls
NAMED = 4  # folders that a line names

Labels = Mapping[str, str | None]  # a class for each image, or none


@dataclass(frozen=True)
class Place:
    """base: the folder that holds the set. splits: the names of the folders in it that hold the training and the test
    images; of the training images alone, or none. rivals: folders of which each holds a set of its own."""

    base: str
    splits: tuple[str, ...]
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Which image is of which split and class. title: the layout in a few words. classes: their names, sorted. paths: of each
    split, in the order of their paths. labels: (n,) int64 of each split, indices into `classes`, or UNLABELED."""

    title: str
    classes: tuple[str, ...]
    paths: Mapping[str, Sequence[str]]
    labels: Mapping[str, NDArray[np.int64]]


# -- which folders -----------------------------------------------------------------------------------------------------


def place(inner: Callable[[str], Set[str]], flat: Callable[[str], bool]) -> Place:
    """The folder that holds the set: that at hand, or one that it is wrapped in. inner: the names of the folders in a folder.
    flat: whether a folder itself holds images, or a table of labels."""
    base = _exact(inner)
    if inner(base) >= set(SPLITS):
        return Place(base, _with_classes(base, SPLITS, inner))
    base = ""
    while True:
        names = inner(base)
        if splits := _splits(base, names, inner, flat):
            return Place(base, splits)
        paths = [_join(base, name) for name in sorted(names)]
        homes = [path for path in paths if _splits(path, inner(path), inner, flat)]
        if len(homes) > 1:
            return Place(base, (), tuple(homes))
        if not homes and (len(paths) != 1 or flat(base) or _first(names, WORDS[1])):
            return Place(base, ())
        (base,) = homes or paths


def _exact(inner: Callable[[str], Set[str]]) -> str:
    """The folder that holds train/ and test/, so called."""
    base = ""
    while not (names := inner(base)) & set(SPLITS):
        paths = [_join(base, name) for name in names]
        homes = [path for path in paths if inner(path) & set(SPLITS)]
        if len(homes or paths) != 1:
            return ""
        (base,) = homes or paths
    return base


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _splits(
    base: str, names: Set[str], inner: Callable[[str], Set[str]], flat: Callable[[str], bool]
) -> tuple[str, ...]:
    """The folders of the training and of the test images among those in `base`; empty where it has none of the first."""
    train, test = (_first(names, words) for words in WORDS)
    if not train:
        return ()
    if not test and flat(path := _join(base, train)) and not inner(path):
        alone = not any(flat(_join(base, name)) for name in names - {train})
        return (train,) if alone else ()  # beside folders of cars and buses, one of trains is a class
    return _with_classes(base, (train, test), inner) if test else (train,)


def _with_classes(base: str, splits: tuple[str, str], inner: Callable[[str], Set[str]]) -> tuple[str, ...]:
    """The splits, or in place of a test folder without classes another one that has some: competitions keep the labels of
    their test images, and give others to validate on."""
    train, test = splits
    if inner(_join(base, train)) and not inner(_join(base, test)):
        others = {name for name in inner(base) if inner(_join(base, name))}
        return train, _first(others, WORDS[1]) or test
    return splits


def _first(names: Iterable[str], words: Sequence[str]) -> str | None:
    """The name that is one of the words, in any case; of several the earliest word, so written if it is."""
    ranks = [(words.index(name.lower()), name != name.lower(), name) for name in names if name.lower() in words]
    return min(ranks)[2] if ranks else None


# -- which classes -----------------------------------------------------------------------------------------------------


def layout(tree: "Tree", division: Division | None = None, unlabeled: bool = False) -> Layout:
    """Raises Problem on a layout that does not serve. division: of a set that has no test images; None where nobody asked
    for another one than the default. unlabeled: whether folders are no classes, and tables of labels are passed over."""
    _check(tree)
    prefixes = [f"{split}/" for split in tree.splits] or [""]
    groups = [sorted(path for path in tree.images if path.startswith(prefix)) for prefix in prefixes]
    labels: Labels
    if unlabeled:
        labels, title = {path: None for group in groups for path in group}, f"{_places(prefixes)}, labels left out"
    elif tree.tables:
        labels, title = _from_tables(tree, groups), f"{TABLE} beside {_places(prefixes)}"
    else:
        labels, title = _from_folders(tree, prefixes, groups)
    classes = tuple(sorted({name for name in labels.values() if name is not None}))
    _check_names(tree, classes)
    numbers = {None: UNLABELED} | {name: number for number, name in enumerate(classes)}
    paths: Mapping[str, Sequence[str]]
    if len(groups) == len(SPLITS):
        if division:
            raise tree.problem(
                f"it has test images of its own, {prefixes[1]}, and needs no --test-share or --seed; leave them out"
            )
        paths = dict(zip(SPLITS, groups, strict=True))
    else:
        division = division or Division()
        paths = divide(tree, groups[0], labels, prefixes[0], division)
        title = f"{title}, {division}"
    rows = {split: np.array([numbers[labels[path]] for path in paths[split]], dtype=np.int64) for split in SPLITS}
    return Layout(title, classes, paths, rows)


def _check(tree: "Tree") -> None:
    """Raises Problem where there is no set, or more than one."""
    remainder = f", but {tree.remainder()}" if tree.left_out else ""
    if tree.rivals:
        raise tree.problem(
            f"{tree.inventory()}, and each of {shown(tree.rivals)} holds a set of its own; give one of them, or lay all out as"
            f" {LAYOUT}"
        )
    if not tree.splits and (test := _first({path.split("/")[0] for path in tree.images if "/" in path}, WORDS[1])):
        raise tree.problem(
            f"it has no folder train/{remainder}, beside {test}/: {tree.inventory()}; lay it out as {LAYOUT}"
        )
    for split in tree.splits:
        if not any(path.startswith(f"{split}/") for path in tree.images):
            raise tree.problem(f"{split}/ holds no images{remainder}; lay it out as {LAYOUT}")
    if not tree.images:
        raise tree.problem(
            f"it holds no images{remainder}; give a folder of images, of class folders, or one laid out as {LAYOUT}"
        )


def _from_folders(tree: "Tree", prefixes: Sequence[str], groups: Sequence[Sequence[str]]) -> tuple[Labels, str]:
    """The folders below the splits, or below the set itself, are the classes where there are two or more in a split."""
    kinds = [{path: _kind(path, prefix) for path in group} for prefix, group in zip(prefixes, groups, strict=True)]
    filled = [{name for name in part.values() if name is not None} for part in kinds]
    if max(map(len, filled)) < 2:
        single = sorted({name for names in filled for name in names})
        remark = f" ({shown(single)} alone {'is' if len(single) == 1 else 'are'} none)" if single else ""
        return {path: None for part in kinds for path in part}, f"{_places(prefixes)} without classes{remark}"
    for prefix, names in zip(prefixes, filled, strict=True):
        if names and prefix:
            parts = [path.removeprefix(prefix) for path in tree.folders if path.startswith(prefix)]
            for name in sorted({part.split("/")[0] for part in parts} - names):
                raise tree.problem(f"the class folder {f'{prefix}{name}'!r} holds no images; fill it or remove it")
    labels = {path: name for part in kinds for path, name in part.items()}
    if all(filled):
        _check_both(tree, prefixes, filled)
    places = [f"{prefix}{'CLASS/' * bool(names)}*" for prefix, names in zip(prefixes, filled, strict=True)]
    return labels, " and ".join(places)


def _places(prefixes: Sequence[str]) -> str:
    return " and ".join(f"{prefix}*" for prefix in prefixes) if any(prefixes) else "images"


def _kind(path: str, prefix: str) -> str | None:
    """The class folder that an image lies in."""
    name, slash, _ = path.removeprefix(prefix).partition("/")
    return name if slash else None


def _check_both(tree: "Tree", prefixes: Sequence[str], classes: Sequence[Set[str]]) -> None:
    """Raises Problem where a class is in one of two splits alone."""
    train, test = classes[0], classes[-1]
    for name in sorted(train ^ test):
        has, lacks = prefixes if name in train else reversed(prefixes)
        raise tree.problem(f"{lacks} has no class {name!r}, but {has} has; add it to {lacks}, or remove it from {has}")


def _check_names(tree: "Tree", classes: Sequence[str]) -> None:
    for name in classes:
        if not name.translate(JOINERS).isprintable():
            raise tree.problem(
                f"the name of the class {name!r} has characters that cannot be printed; rename the folder"
            )


def _from_tables(tree: "Tree", groups: Sequence[Sequence[str]]) -> Labels:
    """What the tables of labels say of the images. Raises Problem where one cannot be read, or speaks of no image here."""
    labels: dict[str, str | None] = {path: None for group in groups for path in group}
    places: dict[str, list[str]] = defaultdict(list)  # by the last part of a path
    for path in labels:
        places[path.rpartition("/")[2]].append(path)
    for table in tree.tables:
        folder = table.rpartition("/")[0]
        rows = read_table(tree, table)
        lost = []
        for file, label in rows:
            path = _join(folder, file.replace("\\", "/").removeprefix("./"))
            likely = [path] if path in labels else places.get(path.rpartition("/")[2], [])
            if len(likely) == 1:
                labels[likely[0]] = label or None
            else:
                lost.append(file)
        if lost and len(lost) == len(rows):
            raise tree.problem(f"none of the {len(rows):,} files that {table!r} names is here, such as {lost[0]!r}")
        if lost:
            print(f"{table} names files that are not here, or several: {len(lost):,}, such as {lost[0]!r}")
    names = [{labels[path] for path in group} - {None} for group in groups]
    if len({name for part in names for name in part}) < 2:
        raise tree.problem(f"{shown(tree.tables)} holds a single label; give two or more, or remove it")
    if len(groups) > 1 and all(names):
        _check_both(tree, [f"{split}/" for split in tree.splits], [{str(name) for name in part} for part in names])
    return labels


def read_table(tree: "Tree", table: str) -> list[tuple[str, str]]:
    """Files and labels of a CSV file with such columns, whatever stands between them."""
    if tree.tables[table][0] > MOST_BYTES:
        raise tree.problem(f"{table!r} is larger than {MOST_BYTES >> 20} MB, and no table of labels; remove it")
    try:
        text = tree.content(table).decode("utf-8-sig")
        delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            if row
        ]
    except MemoryError:
        raise
    except Exception as error:  # zipfile trusts what a zip says of itself
        raise tree.problem(f"{table!r} cannot be read as CSV in UTF-8 ({one_line(error)}); save it as such") from error
    if not rows or set(COLUMNS) - set(header := [cell.lower() for cell in rows[0]]):
        raise tree.problem(f"{table!r} has no columns {' and '.join(COLUMNS)} in its first line; name them so")
    at = [header.index(column) for column in COLUMNS]
    return [(row[at[0]], row[at[1]]) for row in rows[1:] if len(row) > max(at)]


# -- which for testing -------------------------------------------------------------------------------------------------


def divide(
    tree: "Tree", paths: Sequence[str], labels: Labels, prefix: str, division: Division
) -> dict[str, Sequence[str]]:
    """The paths of both splits. prefix: what the paths begin with wherever the set lies. Raises Problem where a class has one
    image alone."""
    try:
        tests = division.tests([path.removeprefix(prefix) for path in paths], [labels[path] for path in paths])
    except ValueError as error:
        raise tree.problem(
            f"{error} a single image, and one is for training and one for testing; add another, or give --unlabeled True"
            " (make: UNLABELED=1) if the folders are no classes"
        ) from error
    pairs = list(zip(paths, tests, strict=True))
    return {split: [path for path, test in pairs if test == (split == "test")] for split in SPLITS}


def shown(names: Iterable[str]) -> str:
    """Names in quotes, at most NAMED of them."""
    ordered = sorted(names)
    return ", ".join([*map(repr, ordered[:NAMED]), *(["..."] if ordered[NAMED:] else [])])
