"""Image sets by name, by torchvision and scikit-learn, and the user's own by path.

train.prepare publishes what `load` returns. Downloads go to PEEL_HOME/downloads, and $PEEL_DATA is only read.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from train.data import arrays, fingerprints, folder, tables, tars
from train.data.arrays import fit_all, is_array
from train.data.images import SPLITS, UNLABELED, Images, Pixels, blank
from train.data.splits import Division, Splits
from train.tracking import environment
from train.tracking.declarations import listing
from train.tracking.problem import Problem, incident, one_line
from train.tracking.store import home

CROP, STRIDE = 64, 32  # pixels; of the sample photos
SECONDS = 30  # without an answer before a download is given up

Content = tuple[tuple[str, ...], dict[str, NDArray[Any]]]  # class names; images and labels by name, as in `Images`


def load(dataset: str, name: str, size: int = 32, skip_corrupt: bool = False, encoding: str = "") -> Images:
    """As `read`, called `name`."""
    splits = read(dataset, size, skip_corrupt, encoding)
    return Images.from_arrays(name, splits.classes, splits.arrays)


def read(
    dataset: str,
    size: int = 32,
    skip_corrupt: bool = False,
    encoding: str = "",
    division: Division | None = None,
    unlabeled: bool = False,
) -> Splits:
    """An image set, its images size x size.

    dataset: a name from NAMES, or the path of a folder or file. encoding: of the names in an archive that does not state it.
    division: of a set without test images, where it is not the default. unlabeled: leaves out what labels it has. Raises
    Problem where there is no such set.
    """
    source = own(dataset)
    if source is not None and not is_array(source) and not tables.files(source):
        return folder.read(source, size, skip_corrupt, encoding, division, unlabeled)
    splits = _as_it_lies(dataset, source, size, skip_corrupt, division)
    return splits.without_labels() if unlabeled else splits


def _as_it_lies(dataset: str, source: Path | None, size: int, skip_corrupt: bool, division: Division | None) -> Splits:
    """What lies in a file of arrays or in tables, or a set from NAMES."""
    if source is not None:
        if is_array(source):
            return arrays.read(source, size, division)
        return tables.read(source, size, skip_corrupt, division)
    if division and dataset not in UNDIVIDED:
        raise Problem(f"{dataset!r} has test images of its own and needs no --test-share or --seed; leave them out")
    if dataset not in GENERATORS:
        return from_torchvision(dataset, size, division)
    return Splits(f"{dataset} as it comes", *GENERATORS[dataset](size))


def own(dataset: str) -> Path | None:
    """The folder or file that holds `dataset`: a path, or what $PEEL_DATA has under that name. None for a known set
    that is made or downloaded. Raises Problem where there is nothing of the kind."""
    if dataset in GENERATORS:
        return None
    if path := _here(dataset):
        return path
    root = data_folder()
    if root and dataset and dataset == Path(dataset).name:
        if (root / f"{dataset}.zip").is_file():
            return root / f"{dataset}.zip"
        if dataset in NAMES and all((root / dataset / split).is_dir() for split in SPLITS):
            return root / dataset  # and no folder of that name that torchvision made
        if dataset not in NAMES and (root / dataset).exists():
            return root / dataset
    if dataset in NAMES:
        return None
    raise Problem(f"no data set {dataset!r}; give the path of a folder or file, or one of: {listing(NAMES)}")


def is_known(dataset: str) -> bool:
    """Whether a name is that of a set from NAMES, and of no path."""
    return dataset in NAMES and not _here(dataset)


def _here(dataset: str) -> Path | None:
    """The path that `dataset` is, unless that is a name."""
    if dataset and (dataset not in NAMES or dataset in ADDED):
        path = Path(os.path.abspath(os.path.expanduser(dataset)))  # noqa: PTH100, PTH111 (pathlib keeps `..`)
        with contextlib.suppress(OSError, ValueError):  # no path at all, such as a name too long
            if path.exists():
                return path
    return None


def is_archive(dataset: str) -> bool:
    """Whether `dataset` is a zip or a tar archive of one's own. Raises Problem as `own` does."""
    source = own(dataset)
    return source is not None and source.is_file() and not is_array(source) and source.suffix.lower() != tables.SUFFIX


def title(source: Path) -> str:
    """What a set is called that lies there."""
    suffix = next((suffix for suffix in tars.SUFFIXES if source.name.lower().endswith(suffix)), "")
    if source.is_dir():
        return source.name
    return source.name.removesuffix(source.name[-len(suffix) :]) if suffix else source.stem


def data_folder() -> Path | None:
    """$PEEL_DATA: a torchvision root, or a folder of zips, to look in before anything is downloaded."""
    path = environment.folder("PEEL_DATA")
    if path and not path.is_dir():
        raise Problem(
            f"PEEL_DATA (make: DATA=) is {str(path)!r}, which is not a folder; give a folder that holds data sets"
        )
    return path


def fingerprint(dataset: str, encoding: str = "") -> object:
    """Changes when the images of `dataset` do; the name of one that is made or downloaded."""
    source = own(dataset)
    return dataset if source is None else fingerprints.fingerprint(source, encoding)


# -- scikit-learn ------------------------------------------------------------------------------------------------------


def digits(size: int) -> Content:
    """The 1,797 handwritten digits, 8x8 pixels of 0 to 16, enlarged; a fifth of each class is the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    rows = train_test_split(np.arange(len(data.target)), test_size=0.2, stratify=data.target, random_state=0)
    enlarged = np.empty((len(data.images), size, size, 3), np.uint8)
    for i, image in enumerate(data.images):
        scaled = PIL.Image.fromarray((image * (255 / 16)).astype(np.float32))
        scaled = scaled.resize((size, size), PIL.Image.Resampling.BILINEAR)
        enlarged[i] = np.asarray(scaled).round().clip(0, 255)[..., None]
    arrays = {}
    for split, ids in zip(SPLITS, map(np.sort, rows), strict=True):
        arrays[split], arrays[f"{split}_labels"] = enlarged[ids], data.target[ids].astype(np.int64)
    return tuple(str(name) for name in data.target_names), arrays


def photos(size: int) -> Content:
    """Crops of scikit-learn's two sample photos, by photo: of their left halves for training, of the right for testing."""
    from sklearn.datasets import load_sample_image

    classes = ("china", "flower")
    parts: dict[str, list[NDArray[Any]]] = {key: [] for split in SPLITS for key in (split, f"{split}_labels")}
    for label, name in enumerate(classes):
        photo = load_sample_image(f"{name}.jpg")
        middle = photo.shape[1] // 2
        for split, half in zip(SPLITS, (photo[:, :middle], photo[:, middle:]), strict=True):
            crops = np.lib.stride_tricks.sliding_window_view(half, (CROP, CROP), axis=(0, 1))[::STRIDE, ::STRIDE]
            crops = crops.transpose(0, 1, 3, 4, 2).reshape(-1, CROP, CROP, 3)
            parts[split].append(fit_all(crops, size, name))
            parts[f"{split}_labels"].append(np.full(len(crops), label, np.int64))
    return classes, {key: np.concatenate(arrays) for key, arrays in parts.items()}


GENERATORS: dict[str, Callable[[int], Content]] = {"digits": digits, "photos": photos}


# -- torchvision -------------------------------------------------------------------------------------------------------

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "eurosat": "EuroSAT",
    "fashion-mnist": "FashionMNIST",
    "mnist": "MNIST",
    "stl10": "STL10",
    "svhn": "SVHN",
}
NAMES = (*GENERATORS, *TORCHVISION)
# Later than the others: users may have sets of their own that are called so.
ADDED = ("eurosat", "stl10")
UNDIVIDED = ("eurosat",)  # has no test images


def from_torchvision(name: str, size: int, division: Division | None = None) -> Splits:
    """A set that torchvision reads: from $PEEL_DATA, else from the downloads, else downloaded there."""
    downloads = home() / "downloads"
    splits = None
    read = READERS.get(name, _read)
    for root in filter(None, (data_folder(), downloads)):
        splits = splits or _local(name, root, partial(read, name, size, division))
    return splits or _download(name, downloads, partial(read, name, size, division))


def _stl10(name: str, size: int, division: Division | None, root: Path, download: bool) -> Splits:
    """The unlabeled images follow on the labeled ones for training. torchvision checks and downloads; it would hold the
    2.8 GB of its training images in memory twice."""
    import torchvision

    kind = torchvision.datasets.STL10(root, "test", download=download)
    place = root / kind.base_folder
    parts = {"train": ("train", "unlabeled"), "test": ("test",)}
    arrays: dict[str, NDArray[Any]] = {}
    for split, files in parts.items():
        images = [_stl10_images(place / f"{file}_X.bin") for file in files]
        count = sum(map(len, images))
        labels = np.fromfile(place / f"{split}_y.bin", np.uint8).astype(np.int64) - 1
        arrays[f"{split}_labels"] = np.append(labels, np.full(count - len(labels), UNLABELED))
        arrays[split] = blank((count, size, size, 3), np.uint8)
        start = 0
        for part in images:
            fit_all(part, size, split, result=arrays[split][start : start + len(part)])
            start += len(part)
    return Splits(f"{name} as it comes", tuple(kind.classes), arrays)


def _stl10_images(path: Path) -> Pixels:
    """(n, 96, 96, 3), mapped into memory. In the file channels come first, and columns before rows."""
    return np.memmap(path, np.uint8, "r").reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)


def _eurosat(name: str, size: int, division: Division | None, root: Path, download: bool) -> Splits:
    """Class folders of JPEGs, divided as one's own are."""
    import torchvision

    kind = torchvision.datasets.EuroSAT(root, download=download)
    splits = folder.read(Path(kind.root, "eurosat", "2750"), size, skip_corrupt=False, division=division)
    return replace(splits, layout=f"{name}, {division or Division()}")


def _read(name: str, size: int, division: Division | None, root: Path, download: bool) -> Splits:
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    classes = tuple("0123456789")
    arrays: dict[str, NDArray[Any]] = {}
    for split in SPLITS:
        if name == "svhn":
            data = kind(root, split, download=download)
            arrays[split], arrays[f"{split}_labels"] = data.data.transpose(0, 2, 3, 1), data.labels
        else:  # what CIFAR pickles, torchvision opens only where its MD5 sum is the known one
            data = kind(root, split == "train", download=download)
            arrays[split], arrays[f"{split}_labels"] = np.asarray(data.data), np.asarray(data.targets)
            if name != "mnist":
                classes = tuple(data.classes)
    fitted = {
        key: fit_all(array, size, key) if key in SPLITS else np.asarray(array, np.int64)
        for key, array in arrays.items()
    }
    return Splits(f"{name} as it comes", classes, fitted)


READERS = {"eurosat": _eurosat, "stl10": _stl10}


def _local(name: str, root: Path, read: Callable[[Path, bool], Splits]) -> Splits | None:
    """What `root` holds of the set, None for nothing. Raises Problem where it is damaged."""
    try:
        return read(root, False)
    except Problem:
        raise
    except Exception as error:  # torchvision trusts what it finds: a file cut short raises anything
        reason = one_line(error)
        if "Dataset not found" in reason:
            return None
        raise incident(error) or Problem(
            f"{name!r} in {str(root)!r} cannot be read ({reason}); remove it from there and run again"
        ) from error


def _download(name: str, downloads: Path, read: Callable[[Path, bool], Splits]) -> Splits:
    """As `_local`. Files appear in `downloads` when they are complete."""
    downloads.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=downloads) as part:
            splits = read(Path(part), True)
            for path in Path(part).iterdir():
                with contextlib.suppress(OSError):  # another process was faster
                    path.rename(downloads / path.name)
            return splits
    except (OSError, RuntimeError, HTTPException) as error:
        reason = one_line(error)
        full = incident(error) if isinstance(error, OSError) and error.filename else None
        raise full or Problem(
            f"cannot download {name!r} ({reason}); give a folder that holds it as PEEL_DATA (make: DATA=), "
            "a folder or file of your own images as --dataset, or --dataset digits, which needs no network"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
