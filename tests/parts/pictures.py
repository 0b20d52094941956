"""Sets of small random pictures, as folders and zips: what a user may hand to train.prepare."""

import io
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from train.data import datasets
from train.data.images import SPLITS, Images

Pixels = NDArray[np.uint8]
Files = dict[str, bytes]


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array: Pixels) -> bytes:
    return encode(PIL.Image.fromarray(array))


SOUND = PIL.Image.fromarray(pixels(64, 64, 3))
CUT = encode(SOUND)[:-2000]  # a PNG that ends too early


def two_classes(size: int = 8, each: int = 3) -> Files:
    """A small sound set of random pictures."""
    names = [f"{split}/{kind}/{i}.png" for split in SPLITS for kind in ("cat", "dog") for i in range(each)]
    return {name: png(pixels(size, size, 3, seed=seed)) for seed, name in enumerate(names)}


def write_folder(at: Path, files: Files) -> Path:
    for name, content in files.items():
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return at


def write_zip(at: Path, files: Files) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return at


def load_set(source: Path, size: int = 8, skip_corrupt: bool = False) -> Images:
    return datasets.load(str(source), "own", size, skip_corrupt)


def same(one: Images, other: Images) -> bool:
    keys = [key for split in SPLITS for key in (split, f"{split}_labels")]
    return one.classes == other.classes and all(np.array_equal(getattr(one, key), getattr(other, key)) for key in keys)
