"""train.prepare: what it makes of each kind of source, and what it refuses."""

import gzip
import hashlib
import http.server
import io
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray

from train import prepare
from train.data import datasets, folder
from train.data.images import SPLITS, Images
from train.tracking import Problem
from train.tracking.stage import settings
from train.tracking.store import Store, home

Pixels = NDArray[np.uint8]
Files = dict[str, bytes]


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array: Pixels) -> bytes:
    return encoded(PIL.Image.fromarray(array))


def two_classes(size: int = 8, each: int = 3) -> Files:
    """A small sound set of random pictures."""
    names = [f"{split}/{kind}/{i}.png" for split in SPLITS for kind in ("cat", "dog") for i in range(each)]
    return {name: png(pixels(size, size, 3, seed=seed)) for seed, name in enumerate(names)}


def unpacked(at: Path, files: Files) -> Path:
    for name, content in files.items():
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return at


def packed(at: Path, files: Files) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return at


def loaded(source: Path, size: int = 8, skip_corrupt: bool = False) -> Images:
    return datasets.load(str(source), "own", size, skip_corrupt)


def one(tmp_path: Path, content: bytes, size: int, suffix: str = "png") -> Pixels:
    """What becomes of one image file: it is class `odd`'s only training image."""
    files = {**two_classes(size), f"train/odd/a.{suffix}": content, f"test/odd/a.{suffix}": content}
    images = loaded(unpacked(tmp_path / "set", files), size)
    (found,) = images.train[images.train_labels == images.classes.index("odd")]
    result: Pixels = found
    return result


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises(Problem) as refused:
        run()
    line = str(refused.value)
    assert "\n" not in line
    return line


def same(one: Images, other: Images) -> bool:
    keys = [key for split in SPLITS for key in (split, f"{split}_labels")]
    return one.classes == other.classes and all(np.array_equal(getattr(one, key), getattr(other, key)) for key in keys)


# -- folders and zips --------------------------------------------------------------------------------------------------


def test_images_of_the_asked_size_keep_every_pixel_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["train/b/2.png", "train/b/10.png", "train/a/z.png", "train/a/deeper/y.png", "test/a/1.png", "test/b/1.png"]
    arrays = {name: pixels(32, 32, 3, seed=seed) for seed, name in enumerate(names)}
    images = loaded(unpacked(tmp_path / "set", {name: png(array) for name, array in arrays.items()}), 32)
    train = sorted(name for name in names if name.startswith("train"))
    np.testing.assert_array_equal(images.train, np.stack([arrays[name] for name in train]))
    np.testing.assert_array_equal(images.test, np.stack([arrays["test/a/1.png"], arrays["test/b/1.png"]]))
    assert images.classes == ("a", "b")
    assert images.train_labels.tolist() == [0, 0, 1, 1]
    assert images.test_labels.tolist() == [0, 1]


def test_mean_and_deviation_are_those_of_numpy_over_the_training_images(tmp_path: Path) -> None:
    images = loaded(unpacked(tmp_path / "set", two_classes()))
    scaled = images.train.astype(np.float64) / 255
    np.testing.assert_allclose(images.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(images.std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)


def test_a_zip_holds_the_same_set_as_the_folder_that_it_was_made_from(tmp_path: Path) -> None:
    files = two_classes()
    clutter = {
        "readme.txt": b"",
        "train/cat/notes.txt": b"",
        "train/cat/.hidden.png": b"",
        "train/.cache/a.png": b"",
        "__MACOSX/train/cat/._0.png": b"",
        ".DS_Store": b"",
    }
    wanted = loaded(unpacked(tmp_path / "plain", files))
    assert same(wanted, loaded(unpacked(tmp_path / "cluttered", {**clutter, **files})))
    assert same(wanted, loaded(packed(tmp_path / "flat.zip", {**clutter, **files})))
    topped = {f"pets/{name}": content for name, content in {**files, "train/": b"", "train/cat/": b""}.items()}
    assert same(wanted, loaded(packed(tmp_path / "topped.zip", {**topped, "__MACOSX/pets/._train": b""})))
    dotted = {f"./{name}": content for name, content in files.items()}
    assert same(wanted, loaded(packed(tmp_path / "dotted.zip", dotted)))
    backslashes = {name.replace("/", "\\"): content for name, content in files.items()}
    assert same(wanted, loaded(packed(tmp_path / "windows.zip", backslashes)))


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    files = two_classes()
    wanted = loaded(unpacked(tmp_path / "plain", files))
    for split in SPLITS:
        (tmp_path / "linked" / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "linked" / split / name).symlink_to(tmp_path / "plain" / split / name)
    (tmp_path / "plain/train/cat/circle").symlink_to(tmp_path / "plain")
    assert same(wanted, loaded(tmp_path / "linked"))


def test_order_holds_over_several_windows_of_threads(tmp_path: Path) -> None:
    count = 2 * folder.WINDOW + 10
    numbers = np.arange(count)
    arrays = np.zeros((count, 8, 8, 3), np.uint8)
    arrays[:, 0, 0, 0], arrays[:, 0, 0, 1] = numbers % 256, numbers // 256
    pictures = {f"train/a/{i:05}.bmp": encoded(PIL.Image.fromarray(array), "BMP") for i, array in enumerate(arrays)}
    images = loaded(packed(tmp_path / "many.zip", {**two_classes(), **pictures, "test/a/0.png": png(arrays[0])}))
    np.testing.assert_array_equal(images.train[images.train_labels == 0], arrays)


# -- any mode, any size ------------------------------------------------------------------------------------------------


def test_gray_images_get_three_equal_channels(tmp_path: Path) -> None:
    gray = pixels(8, 8)
    np.testing.assert_array_equal(one(tmp_path, png(gray), 8), np.repeat(gray[..., None], 3, axis=2))


def test_bilevel_images_become_black_and_white(tmp_path: Path) -> None:
    on = pixels(8, 8) > 127
    expected = np.repeat(on[..., None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(one(tmp_path, encoded(PIL.Image.fromarray(on)), 8), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_images_lie_over_white(tmp_path: Path, mode: str) -> None:
    channels = pixels(8, 8, len(mode)).astype(np.float64)
    alpha = channels[..., -1:] / 255
    expected = np.broadcast_to(channels[..., :-1] * alpha + 255 * (1 - alpha), (8, 8, 3))
    content = encoded(PIL.Image.fromarray(channels.astype(np.uint8), mode))
    np.testing.assert_allclose(one(tmp_path, content, 8), expected, atol=1)


def test_palette_images_show_their_colors_and_the_transparent_one_white(tmp_path: Path) -> None:
    colors, indices = pixels(16, 3), pixels(8, 8, seed=1) % 16
    image = PIL.Image.frombytes("P", (8, 8), indices.tobytes())
    image.putpalette(colors.tobytes())
    np.testing.assert_array_equal(one(tmp_path / "opaque", encoded(image), 8), colors[indices])
    transparent = colors.copy()
    transparent[5] = 255
    content = encoded(image, "GIF", transparency=5)
    np.testing.assert_array_equal(one(tmp_path / "transparent", content, 8, "GIF"), transparent[indices])


def test_cmyk_images_are_turned_to_rgb(tmp_path: Path) -> None:
    inks = pixels(8, 8, 4)
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    content = encoded(PIL.Image.frombytes("CMYK", (8, 8), inks.tobytes()), "TIFF")
    np.testing.assert_allclose(one(tmp_path, content, 8, "tif"), expected, atol=1)


def test_sixteen_bit_images_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    expected = np.rint(deep / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(one(tmp_path, encoded(PIL.Image.fromarray(deep)), 8)[..., 1], expected)


@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [
        (1, lambda upright: upright),
        (2, np.fliplr),
        (3, lambda upright: np.rot90(upright, 2)),
        (4, np.flipud),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),  # shown turned clockwise, so stored turned the other way
        (7, lambda upright: np.rot90(upright, 2).transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, stored_as: Callable[[Pixels], Pixels]) -> None:
    upright = pixels(8, 8, 3)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = PIL.Image.fromarray(np.ascontiguousarray(stored_as(upright)))
    np.testing.assert_array_equal(one(tmp_path, encoded(stored, exif=exif), 8), upright)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (96, 48), (16, 16), (8, 16), (24, 16)])
def test_other_sizes_are_resized_by_their_shorter_side_and_cut_to_the_center(
    tmp_path: Path, height: int, width: int
) -> None:
    array = pixels(height, width, 3)
    shape = height * 32 // min(height, width), width * 32 // min(height, width)
    planes = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    resized = F.interpolate(planes, shape, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    top, left = (shape[0] - 32) // 2, (shape[1] - 32) // 2
    expected = resized[top : top + 32, left : left + 32]
    np.testing.assert_allclose(one(tmp_path, png(array), 32).astype(float), expected, atol=1)


# -- images that cannot be decoded -------------------------------------------------------------------------------------


def header_only(side: int) -> bytes:
    """The beginning of a PNG that says it has side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    empty = b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 0) + empty + struct.pack(">I", zlib.crc32(empty))


SOUND = PIL.Image.fromarray(pixels(64, 64, 3))
UNSOUND = {
    "cut.png": encoded(SOUND)[:-2000],
    "cut.jpg": encoded(SOUND, "JPEG")[:-1000],
    "empty.png": b"",
    "text.jpg": b"not an image at all",
    "bomb.png": header_only(30_000),
    "large.png": header_only(10_000),
}


@pytest.mark.parametrize("name", UNSOUND)
@pytest.mark.parametrize("put", [unpacked, packed])
def test_an_image_that_cannot_be_decoded_is_named_and_skipped_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, put: Callable[[Path, Files], Path]
) -> None:
    wanted = loaded(unpacked(tmp_path / "sound", two_classes()))
    source = put(tmp_path / "set.zip", {**two_classes(), f"train/cat/1{name}": UNSOUND[name]})
    line = refusal(lambda: loaded(source))
    assert f"train/cat/1{name}" in line
    assert "--skip-corrupt True" in line
    assert same(wanted, loaded(source, skip_corrupt=True))
    assert [line for line in capsys.readouterr().out.splitlines() if f"train/cat/1{name}" in line]


def test_an_entry_damaged_inside_a_zip_is_found_by_its_checksum(tmp_path: Path) -> None:
    source = tmp_path / "set.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in {**two_classes(), "train/cat/x.bmp": encoded(SOUND, "BMP")}.items():
            archive.writestr(name, content)
    damaged = bytearray(source.read_bytes())
    damaged[damaged.index(b"train/cat/x.bmp") + 5000] ^= 1
    source.write_bytes(damaged)
    assert "train/cat/x.bmp" in refusal(lambda: loaded(source))
    assert len(loaded(source, skip_corrupt=True).train) == 6


def test_a_file_too_large_for_an_image_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_BYTES", 1 << 20)
    source = packed(tmp_path / "set.zip", {**two_classes(), "test/dog/bomb.png": bytes(1 << 21)})
    assert "larger than 1 MB" in refusal(lambda: loaded(source))


def test_a_class_of_which_nothing_can_be_decoded_is_refused_also_when_skipping(tmp_path: Path) -> None:
    files = {**two_classes(), "train/eel/1.png": b"", "test/eel/1.png": png(pixels(8, 8, 3))}
    assert "train/eel" in refusal(lambda: loaded(unpacked(tmp_path / "set", files), skip_corrupt=True))


# -- sources that do not serve -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["../evil.png", "train/cat/../../../evil.png", "/tmp/evil.png", "C:\\evil.png", "..\\evil.png", "C:evil.png"],
)
def test_a_zip_entry_that_leaves_its_folder_is_refused(tmp_path: Path, entry: str) -> None:
    line = refusal(lambda: loaded(packed(tmp_path / "set.zip", {**two_classes(), entry: b""})))
    assert repr(entry) in line


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    source = packed(tmp_path / "set.zip", two_classes())
    link = zipfile.ZipInfo("train/cat/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'train/cat/link.png'" in refusal(lambda: loaded(source))


def without(part: str) -> Files:
    return {name: content for name, content in two_classes().items() if part not in name}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (without("train/"), "train/"),
        (without("test/"), "test/"),
        (without("dog/"), "single class, 'cat'"),
        (without("train/dog/"), "'dog'"),
        (without("test/dog/"), "'dog'"),
        ({**without("test/dog"), "test/dog/notes.txt": b""}, "'test/dog'"),
        ({**two_classes(), "train/eel/notes.txt": b""}, "'train/eel'"),
        ({"train/cat/a.txt": b"", "test/cat/a.txt": b""}, "holds no images"),
        ({**two_classes(), "train/loose.png": b""}, "'train/loose.png'"),
        ({**two_classes(), "train/e\x07l/1.png": b"", "test/e\x07l/1.png": b""}, "cannot be shown"),
    ],
)
def test_a_layout_that_does_not_serve_is_refused(tmp_path: Path, files: Files, says: str) -> None:
    assert says in refusal(lambda: loaded(unpacked(tmp_path / "set", files)))


def test_empty_class_folders_are_found_in_zips_too(tmp_path: Path) -> None:
    assert "'train/eel'" in refusal(lambda: loaded(packed(tmp_path / "set.zip", {**two_classes(), "train/eel/": b""})))


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(b"0" * 600)
    assert "set.tar" in refusal(lambda: loaded(tmp_path / "set.tar"))
    whole = packed(tmp_path / "set.zip", two_classes()).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert "cut.zip" in refusal(lambda: loaded(tmp_path / "cut.zip"))


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    for asked in ("imagenet", str(tmp_path / "missing"), "", "x" * 5000):
        line = refusal(partial(prepare.Config, asked))
        assert "cifar10, cifar100, digits, fashion-mnist, mnist, photos, svhn" in line
        assert "path" in line
    assert "PEEL_DATA" in refusal(lambda: with_data(tmp_path / "missing"))


def with_data(held: Path) -> Path | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_DATA", str(held))
        return datasets.own("mnist")


# -- scikit-learn ------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_each_in_one_split() -> None:
    images = datasets.load("digits", "digits", size=8)
    data = sklearn.datasets.load_digits()
    shown = np.rint(data.images / 16 * 255).astype(np.uint8)
    wanted = sorted((image.tobytes(), int(label)) for image, label in zip(shown, data.target, strict=True))
    both = [(images.train, images.train_labels), (images.test, images.test_labels)]
    made = [(image[..., 0].tobytes(), int(label)) for split in both for image, label in zip(*split, strict=True)]
    assert sorted(made) == wanted
    assert (images.train == images.train[..., :1]).all()


def test_a_fifth_of_each_digit_is_for_testing() -> None:
    images = datasets.load("digits", "digits", size=8)
    count = np.bincount(np.concatenate([images.train_labels, images.test_labels]))
    np.testing.assert_allclose(np.bincount(images.test_labels), count / 5, atol=1)


def test_digits_are_enlarged_bilinearly() -> None:
    small, large = (datasets.load("digits", "digits", size=size) for size in (8, 32))
    planes = torch.from_numpy(small.test[..., :1]).permute(0, 3, 1, 2).float()
    expected = F.interpolate(planes, (32, 32), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(large.test[..., 0].astype(float), expected[:, 0], atol=1.01)


def test_photos_are_crops_of_the_left_halves_for_training_and_of_the_right_ones_for_testing() -> None:
    images = datasets.load("photos", "photos", size=64)
    assert images.classes == ("china", "flower")
    for label, name in enumerate(images.classes):
        photo = sklearn.datasets.load_sample_image(f"{name}.jpg")
        height, width = photo.shape[:2]
        for half, crops, labels in (
            (photo[:, : width // 2], images.train, images.train_labels),
            (photo[:, width // 2 :], images.test, images.test_labels),
        ):
            corners = [(y, x) for y in range(0, height - 63, 32) for x in range(0, half.shape[1] - 63, 32)]
            expected = np.stack([half[y : y + 64, x : x + 64] for y, x in corners])
            np.testing.assert_array_equal(crops[labels == label], expected)


# -- torchvision -------------------------------------------------------------------------------------------------------


def idx(array: Pixels) -> bytes:
    """The file format of MNIST."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(prefix: str) -> tuple[Files, dict[str, Pixels]]:
    arrays = {
        "train-images-idx3-ubyte": pixels(20, 28, 28, seed=1),
        "train-labels-idx1-ubyte": pixels(20, seed=2) % 10,
        "t10k-images-idx3-ubyte": pixels(12, 28, 28, seed=3),
        "t10k-labels-idx1-ubyte": pixels(12, seed=4) % 10,
    }
    return {f"{prefix}{name}": idx(array) for name, array in arrays.items()}, arrays


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.mark.parametrize(("name", "inside"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_a_torchvision_root_is_read_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None, name: str, inside: str
) -> None:
    files, arrays = mnist_files(f"{inside}/raw/")
    held = unpacked(tmp_path / "held", files)
    monkeypatch.setenv("PEEL_DATA", str(held))
    images = datasets.load(name, name, size=28)
    for split, start in (("train", "train"), ("test", "t10k")):
        gray = arrays[f"{start}-images-idx3-ubyte"]
        np.testing.assert_array_equal(getattr(images, split), np.repeat(gray[..., None], 3, axis=3))
        np.testing.assert_array_equal(getattr(images, f"{split}_labels"), arrays[f"{start}-labels-idx1-ubyte"])
    assert len(images.classes) == 10
    assert {str(path.relative_to(held)) for path in held.rglob("*") if path.is_file()} == set(files)
    assert not (home() / "downloads").exists()


def test_gray_sets_are_resized_as_rgb_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, arrays = mnist_files("MNIST/raw/")
    monkeypatch.setenv("PEEL_DATA", str(unpacked(tmp_path / "held", files)))
    planes = torch.from_numpy(arrays["train-images-idx3-ubyte"])[:, None].float()
    expected = F.interpolate(planes, (32, 32), mode="bilinear", antialias=True)
    made = datasets.load("mnist", "mnist", size=32).train
    np.testing.assert_allclose(made[..., 2].astype(float), expected[:, 0], atol=1)


def test_a_torchvision_file_cut_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = mnist_files("MNIST/raw/")
    held = unpacked(tmp_path / "held", {name: content[:20] for name, content in files.items()})
    monkeypatch.setenv("PEEL_DATA", str(held))
    assert repr(str(held)) in refusal(lambda: datasets.load("mnist", "mnist"))


def test_known_sets_are_found_as_zips_and_folders_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    wanted = loaded(unpacked(tmp_path / "held/svhn", two_classes()))
    packed(tmp_path / "held/cifar10.zip", two_classes())
    monkeypatch.setenv("PEEL_DATA", str(tmp_path / "held"))
    assert same(wanted, datasets.load("cifar10", "cifar10", 8))
    assert same(wanted, datasets.load("svhn", "svhn", 8))


@pytest.mark.parametrize("name", datasets.TORCHVISION)
def test_without_network_the_cures_are_named_and_nothing_is_left(no_network: None, name: str) -> None:
    line = refusal(lambda: datasets.load(name, name))
    for part in (name, "PEEL_DATA", "DATA=", "--dataset digits"):
        assert part in line
    assert list((home() / "downloads").iterdir()) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision takes for MNIST's mirror; it holds a small MNIST."""
    files, _ = mnist_files("")
    root = unpacked(tmp_path / "mirror", {f"{name}.gz": gzip.compress(content) for name, content in files.items()})
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(root.iterdir())]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    yield root
    server.shutdown()
    server.server_close()


def test_a_set_is_downloaded_once(served: Path) -> None:
    first = datasets.load("mnist", "mnist", size=28)
    np.testing.assert_array_equal(first.train[..., 0], mnist_files("")[1]["train-images-idx3-ubyte"])
    assert [path.name for path in (home() / "downloads").iterdir()] == ["MNIST"]
    for path in served.iterdir():
        path.unlink()
    assert same(first, datasets.load("mnist", "mnist", size=28))


def test_a_damaged_download_is_refused_and_not_kept(served: Path) -> None:
    (served / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    assert "cannot download 'mnist'" in refusal(lambda: datasets.load("mnist", "mnist"))
    assert list((home() / "downloads").iterdir()) == []


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*datasets.KNOWN, "latest", "v7"])
def test_names_that_stand_for_something_else_are_refused(tmp_path: Path, name: str) -> None:
    own = packed(tmp_path / f"{name}.zip", two_classes())
    assert "--name" in refusal(partial(prepare.Config, str(own)))
    assert prepare.Config(str(own), name="mine").name == "mine"
    other = "photos" if name == "digits" else "digits"
    assert "--name" in refusal(partial(prepare.Config, other, name))


@pytest.mark.parametrize("size", [-1, 0, 7, 513])
def test_sizes_that_make_no_sense_are_refused(size: int) -> None:
    assert str(size) in refusal(lambda: prepare.Config("digits", size=size))


def test_a_path_is_called_by_its_last_part_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"my photos.zip": "my-photos", "set.v1.zip": "set.v1", "katzen & hunde.zip": "katzen-hunde"}
    for file, name in names.items():
        assert prepare.Config(str(packed(tmp_path / file, two_classes()))).name == name
    assert prepare.Config(str(unpacked(tmp_path / "set.v2", two_classes()))).name == "set.v2"
    monkeypatch.chdir(tmp_path / "set.v2")
    assert prepare.Config(".") == prepare.Config("../set.v2/")
    assert "--name" in refusal(partial(prepare.Config, str(packed(tmp_path / "照片.zip", two_classes()))))


def test_settings_change_with_the_images_and_not_with_the_place(tmp_path: Path) -> None:
    def now(path: Path) -> str:
        return settings("train.prepare", prepare.Config(str(path), "own", 8))

    for put, name in ((unpacked, "set"), (packed, "set.zip")):
        source = put(tmp_path / name, two_classes())
        before = now(source)
        assert now(source) == before
        assert now(source.rename(tmp_path / f"moved-{name}")) == before
        more = {**two_classes(), "train/cat/more.png": png(pixels(8, 8, 3, seed=99))}
        assert now(put(tmp_path / name, more)) != before
    replaced = tmp_path / "moved-set/train/cat/0.png"
    before = now(tmp_path / "moved-set")
    os.utime(replaced, ns=(1, 1))
    assert now(tmp_path / "moved-set") != before
    assert len({settings("train.prepare", prepare.Config(name, "x")) for name in datasets.KNOWN}) == len(datasets.KNOWN)


# -- the stage ---------------------------------------------------------------------------------------------------------


def published(name: str) -> Path:
    store = Store()
    try:
        return store.folder(store.get("images", name))
    finally:
        store.close()


def test_the_same_set_is_the_same_version_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = []
    for place in ("here", "there"):
        monkeypatch.setenv("PEEL_HOME", str(tmp_path / place / "home"))
        prepare.main(prepare.Config(str(unpacked(tmp_path / place / "pets", two_classes())), size=8))
        digests.append(capsys.readouterr().out.split())
    assert digests[0] == digests[1]
    assert digests[0][:2] == ["images:v0", "pets"]
    assert same(Images.load(published("pets")), loaded(tmp_path / "here/pets"))
    for path in published("pets").rglob("*"):
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_name_keeps_standing_for_the_source_that_it_was_given_to(tmp_path: Path) -> None:
    first = packed(tmp_path / "one/pets.zip", two_classes())
    second = packed(tmp_path / "two/pets.zip", two_classes(each=4))
    prepare.main(prepare.Config(str(first), size=8))
    line = refusal(lambda: prepare.main(prepare.Config(str(second), size=8)))
    assert "images:pets" in line
    assert "--name" in line
    assert str(first) in line
    prepare.main(prepare.Config(str(second), "more-pets", size=8))
    prepare.main(prepare.Config(str(packed(first, two_classes(each=5))), size=8))  # the source itself may change
    assert len(Images.load(published("pets")).train) == 10
    assert len(Images.load(published("more-pets")).train) == 8


def test_the_run_shows_samples_counts_and_a_table(tmp_path: Path) -> None:
    prepare.main(prepare.Config(str(unpacked(tmp_path / "pets", two_classes())), size=8))
    (run,) = (home() / "wandb").glob("offline-run-*")
    media = run / "files/media"
    with PIL.Image.open(next(media.rglob("samples_*.png"))) as sheet:
        files = Images.load(published("pets"))
        assert sheet.size == prepare.sample_sheet(files, np.random.default_rng(0)).size
    counts = json.loads(next(media.rglob("classes_*.plotly.json")).read_text())
    assert [trace["name"] for trace in counts["data"]] == ["train", "test"]
    table = json.loads(next(media.rglob("table_*.table.json")).read_text())
    assert table["columns"] == ["image", "class", "split", "row"]
    for image, kind, split, row in table["data"]:
        assert image == "Image"  # offline, the table's own artifact holds the picture
        assert files.classes[getattr(files, f"{split}_labels")[row]] == kind
    for picture, _, split, row in prepare.sample_table(files, np.random.default_rng(0)).to_numpy(object).tolist():
        np.testing.assert_array_equal(np.asarray(picture), getattr(files, split)[row])


def test_each_row_of_the_samples_shows_images_of_its_class(tmp_path: Path) -> None:
    files = two_classes(size=32, each=5)
    images = loaded(unpacked(tmp_path / "set", files), 32)
    sheet = np.asarray(prepare.sample_sheet(images, np.random.default_rng(0), columns=4))
    for label in range(2):
        own = {image.tobytes() for image in images.train[images.train_labels == label]}
        shown = {
            sheet[34 * label : 34 * label + 32, 120 + 34 * column : 152 + 34 * column].tobytes() for column in range(4)
        }
        assert len(shown) == 4
        assert shown <= own


def test_the_figure_counts_the_images_of_each_class(tmp_path: Path) -> None:
    files = {**two_classes(each=3), "train/dog/more.png": png(pixels(8, 8, 3))}
    train, test = prepare.classes_figure(loaded(unpacked(tmp_path / "set", files))).data
    assert (list(train.x), list(train.y)) == (["cat", "dog"], [3, 4])
    assert list(test.y) == [3, 3]


def run_stage(*flags: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PEEL_DATA": str(data)} if data else dict(os.environ)
    return subprocess.run(
        [sys.executable, "-m", "train.prepare", *flags], capture_output=True, text=True, env=environment
    )


def test_bad_input_ends_in_one_line_and_exit_code_2(tmp_path: Path, no_network: None) -> None:
    unsound = unpacked(tmp_path / "unsound", {**two_classes(), "train/cat/cut.png": UNSOUND["cut.png"]})
    for flags, says in (
        (["--dataset", "imagenet"], "'imagenet'"),
        (["--dataset", str(unsound)], "'train/cat/cut.png'"),
        (["--dataset", "mnist"], "DATA="),
    ):
        ended = run_stage(*flags)
        (line,) = ended.stderr.splitlines()
        assert ended.returncode == 2
        assert line.startswith("train.prepare: ")
        assert says in line
        assert ended.stdout == ""
    store = Store()
    assert store.versions() == []
    store.close()
    assert not list((home()).glob("wandb/offline-run-*"))


def test_the_command_makes_what_the_flags_ask_for(tmp_path: Path) -> None:
    unsound = unpacked(tmp_path / "unsound", {**two_classes(), "train/cat/cut.png": UNSOUND["cut.png"]})
    ended = run_stage(f"--dataset={unsound}", "--name=pets", "--size=8", "--skip_corrupt=True")
    assert ended.returncode == 0, ended.stderr
    skipped, made = ended.stdout.splitlines()
    assert "'train/cat/cut.png'" in skipped
    assert "pets" in made
    assert same(Images.load(published("pets")), loaded(unsound, skip_corrupt=True))
