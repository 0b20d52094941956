"""Image sets by name, by torchvision and scikit-learn, and the user's own by path.

train.prepare publishes what `load` returns. Downloads go to PEEL_HOME/downloads, and $PEEL_DATA is only read.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from train.data import fingerprints, folder, pictures
from train.data.images import SPLITS, Images, Pixels, blank
from train.tracking import environment
from train.tracking.declarations import listing
from train.tracking.problem import Problem, incident, one_line
from train.tracking.progress import over
from train.tracking.store import home

CROP, STRIDE = 64, 32  # pixels; of the sample photos
SECONDS = 30  # without an answer before a download is given up

Splits = tuple[tuple[str, ...], dict[str, NDArray[Any]]]  # class names; images and labels by name, as in `Images`


def load(dataset: str, name: str, size: int = 32, skip_corrupt: bool = False, encoding: str = "") -> Images:
    """An image set called `name`, its images size x size.

    dataset: a name from NAMES, or the path of a folder or zip. encoding: of the names in a zip that does not state it.
    Raises Problem where there is no such set.
    """
    source = own(dataset)
    if source is not None:
        classes, arrays = folder.read(source, size, skip_corrupt, encoding)
    elif dataset in GENERATORS:
        classes, arrays = GENERATORS[dataset](size)
    else:
        classes, arrays = from_torchvision(dataset, size)
    return Images.from_arrays(name, classes, arrays)


def own(dataset: str) -> Path | None:
    """The folder or zip that holds `dataset`: a path, or what $PEEL_DATA has under that name. None for a known set
    that is made or downloaded. Raises Problem where there is nothing of the kind."""
    if dataset in GENERATORS:
        return None
    if dataset not in NAMES and dataset:
        path = Path(os.path.abspath(os.path.expanduser(dataset)))  # noqa: PTH100, PTH111 (pathlib keeps `..`)
        with contextlib.suppress(OSError, ValueError):  # no path at all, such as a name too long
            if path.exists():
                return path
    root = data_folder()
    if root and dataset and dataset == Path(dataset).name:
        if (root / f"{dataset}.zip").is_file():
            return root / f"{dataset}.zip"
        if all((root / dataset / split).is_dir() for split in SPLITS):
            return root / dataset
    if dataset in NAMES:
        return None
    raise Problem(f"no data set {dataset!r}; give the path of a folder or zip, or one of: {listing(NAMES)}")


def is_zip(dataset: str) -> bool:
    """Whether `dataset` is a zip of one's own. Raises Problem as `own` does."""
    source = own(dataset)
    return source is not None and source.is_file()


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


def digits(size: int) -> Splits:
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


def photos(size: int) -> Splits:
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
            parts[split].append(_resize(crops, size, name))
            parts[f"{split}_labels"].append(np.full(len(crops), label, np.int64))
    return classes, {key: np.concatenate(arrays) for key, arrays in parts.items()}


def _resize(images: Pixels, size: int, what: str) -> Pixels:
    """(n, height, width) gray or (n, height, width, 3) images as (n, size, size, 3)."""
    result = blank((len(images), size, size, 3), np.uint8)
    if images.shape[1:3] == (size, size):
        result[:] = images if images.ndim == 4 else images[..., None]
    else:
        for i, image in enumerate(over(images, what, "image", leave=False)):
            result[i] = pictures.fit(PIL.Image.fromarray(image), size)
    return result


GENERATORS: dict[str, Callable[[int], Splits]] = {"digits": digits, "photos": photos}


# -- torchvision -------------------------------------------------------------------------------------------------------

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion-mnist": "FashionMNIST",
    "mnist": "MNIST",
    "svhn": "SVHN",
}
NAMES = (*GENERATORS, *TORCHVISION)


def from_torchvision(name: str, size: int) -> Splits:
    """A set that torchvision reads: from $PEEL_DATA, else from the downloads, else downloaded there."""
    downloads = home() / "downloads"
    splits = None
    for root in filter(None, (data_folder(), downloads)):
        splits = splits or _local(name, root)
    classes, arrays = splits or _download(name, downloads)
    return classes, {
        key: _resize(array, size, key) if key in SPLITS else np.asarray(array, np.int64)
        for key, array in arrays.items()
    }


def _read(name: str, root: Path, download: bool) -> Splits:
    """The set as it comes: gray images have no channels."""
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
    return classes, arrays


def _local(name: str, root: Path) -> Splits | None:
    """What `root` holds of the set, None for nothing. Raises Problem where it is damaged."""
    try:
        return _read(name, root, download=False)
    except Exception as error:  # torchvision trusts what it finds: a file cut short raises anything
        reason = one_line(error)
        if "Dataset not found" in reason:
            return None
        raise incident(error) or Problem(
            f"{name!r} in {str(root)!r} cannot be read ({reason}); remove it from there and run again"
        ) from error


def _download(name: str, downloads: Path) -> Splits:
    """As `_local`. Files appear in `downloads` when they are complete."""
    downloads.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=downloads) as part:
            splits = _read(name, Path(part), download=True)
            for path in Path(part).iterdir():
                with contextlib.suppress(OSError):  # another process was faster
                    path.rename(downloads / path.name)
            return splits
    except (OSError, RuntimeError, HTTPException) as error:
        reason = one_line(error)
        full = incident(error) if isinstance(error, OSError) and error.filename else None
        raise full or Problem(
            f"cannot download {name!r} ({reason}); give a folder that holds it as PEEL_DATA (make: DATA=), "
            "a folder or zip of your own as --dataset, or --dataset digits, which needs no network"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
