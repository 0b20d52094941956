"""The image sets known by name: scikit-learn's, which need no network, and torchvision's."""

import gzip
import hashlib
import http.server
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import torch
import torch.nn.functional as F
import torchvision

from tests.bench.memory import resident
from tests.parts.artifacts import refusal
from tests.parts.pictures import Files, Pixels, encode, load_set, pixels, same, two_classes, write_folder, write_zip
from train import prepare
from train.data import datasets
from train.data.images import blank
from train.data.splits import Division
from train.tracking.store import home

# -- scikit-learn ------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_each_in_one_split() -> None:
    images = datasets.load("digits", "digits", size=8)
    data = sklearn.datasets.load_digits()
    truth = np.rint(data.images / 16 * 255).astype(np.uint8)
    reference = sorted((image.tobytes(), int(label)) for image, label in zip(truth, data.target, strict=True))
    both = [(images.train, images.train_labels), (images.test, images.test_labels)]
    actual = [(image[..., 0].tobytes(), int(label)) for split in both for image, label in zip(*split, strict=True)]
    assert sorted(actual) == reference
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


# -- memory ------------------------------------------------------------------------------------------------------------


def test_images_are_filled_into_a_file_that_has_no_name_not_into_memory(peel_home: Path) -> None:
    before, _ = resident(os.getpid())
    images = blank((64, 1024, 1024), np.uint8)
    images[:] = 7
    own, _ = resident(os.getpid())
    assert own - before < 8 << 20, "of 64 MiB"
    assert images.shape == (64, 1024, 1024) and (images == 7).all()
    assert list(peel_home.iterdir()) == []


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


@pytest.mark.parametrize(("name", "inside"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_a_torchvision_root_is_read_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None, name: str, inside: str
) -> None:
    files, arrays = mnist_files(f"{inside}/raw/")
    root = write_folder(tmp_path / "held", files)
    monkeypatch.setenv("PEEL_DATA", str(root))
    images = datasets.load(name, name, size=28)
    for split, start in (("train", "train"), ("test", "t10k")):
        gray = arrays[f"{start}-images-idx3-ubyte"]
        np.testing.assert_array_equal(getattr(images, split), np.repeat(gray[..., None], 3, axis=3))
        np.testing.assert_array_equal(getattr(images, f"{split}_labels"), arrays[f"{start}-labels-idx1-ubyte"])
    assert len(images.classes) == 10
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(files)
    assert not (home() / "downloads").exists()


def test_gray_sets_are_resized_as_rgb_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, arrays = mnist_files("MNIST/raw/")
    monkeypatch.setenv("PEEL_DATA", str(write_folder(tmp_path / "held", files)))
    planes = torch.from_numpy(arrays["train-images-idx3-ubyte"])[:, None].float()
    expected = F.interpolate(planes, (32, 32), mode="bilinear", antialias=True)
    actual = datasets.load("mnist", "mnist", size=32).train
    np.testing.assert_allclose(actual[..., 2].astype(float), expected[:, 0], atol=1)


def test_a_torchvision_file_cut_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = mnist_files("MNIST/raw/")
    root = write_folder(tmp_path / "held", {name: content[:20] for name, content in files.items()})
    monkeypatch.setenv("PEEL_DATA", str(root))
    assert repr(str(root)) in refusal(lambda: datasets.load("mnist", "mnist"))


def test_known_sets_are_found_as_zips_and_folders_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    reference = load_set(write_folder(tmp_path / "held/svhn", two_classes()))
    write_zip(tmp_path / "held/cifar10.zip", two_classes())
    monkeypatch.setenv("PEEL_DATA", str(tmp_path / "held"))
    assert same(reference, datasets.load("cifar10", "cifar10", 8))
    assert same(reference, datasets.load("svhn", "svhn", 8))


# -- STL10 and EuroSAT -------------------------------------------------------------------------------------------------


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A small STL10 in a torchvision root, whose sums torchvision takes for those of the real one."""
    files = {
        "train_X.bin": pixels(20, 3, 96, 96, seed=1).tobytes(),
        "train_y.bin": bytes(range(1, 11)) * 2,
        "unlabeled_X.bin": pixels(7, 3, 96, 96, seed=2).tobytes(),
        "test_X.bin": pixels(10, 3, 96, 96, seed=3).tobytes(),
        "test_y.bin": bytes(range(1, 11)),
        "class_names.txt": "\n".join(
            ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
        ).encode(),
    }
    write_folder(tmp_path / "held/stl10_binary", files)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    kind = torchvision.datasets.STL10
    for names in ("train_list", "test_list"):
        monkeypatch.setattr(kind, names, [[name, sums[name]] for name, _ in getattr(kind, names)])
    monkeypatch.setenv("PEEL_DATA", str(tmp_path / "held"))
    return files


@pytest.mark.usefixtures("stl10", "no_network")
def test_stl10_is_trained_on_with_its_unlabeled_images(tmp_path: Path) -> None:
    images = datasets.load("stl10", "stl10", size=96)
    for split, name in (("train", "train+unlabeled"), ("test", "test")):
        reference = torchvision.datasets.STL10(tmp_path / "held", name)
        expected = np.stack([np.asarray(reference[i][0]) for i in range(len(reference))])
        np.testing.assert_array_equal(getattr(images, split), expected)
        np.testing.assert_array_equal(getattr(images, f"{split}_labels"), reference.labels)
    assert images.classes[:2] == ("airplane", "bird") and images.labeled
    assert str(datasets.read("stl10", 8)) == (
        "stl10 as it comes: 27 training and 10 test images of 10 classes; 7 of the training images are unlabeled"
    )
    assert "--test-share" in refusal(lambda: datasets.read("stl10", 8, division=Division(0.5)))


@pytest.mark.usefixtures("stl10", "no_network")
def test_a_damaged_stl10_is_refused(tmp_path: Path) -> None:
    (tmp_path / "held/stl10_binary/test_X.bin").write_bytes(b"")
    assert "cannot download 'stl10'" in refusal(lambda: datasets.load("stl10", "stl10"))


def eurosat(root: Path) -> Files:
    files = {
        f"eurosat/2750/{kind}/{kind}_{i}.jpg": encode(PIL.Image.fromarray(pixels(64, 64, 3, seed=i)), "JPEG")
        for kind in ("Forest", "River", "SeaLake")
        for i in range(1, 6)
    }
    write_folder(root, files)
    return files


@pytest.mark.usefixtures("no_network")
def test_eurosat_is_divided_as_class_folders_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eurosat(tmp_path / "held")
    monkeypatch.setenv("PEEL_DATA", str(tmp_path / "held"))
    images = datasets.load("eurosat", "eurosat", size=64)
    assert images.classes == ("Forest", "River", "SeaLake")
    assert np.bincount(images.train_labels).tolist() == [4, 4, 4] and np.bincount(images.test_labels).tolist() == [
        1,
        1,
        1,
    ]
    own = load_set(Path(shutil.copytree(tmp_path / "held/eurosat/2750", tmp_path / "own")), 64)
    assert same(images, own)
    assert len(datasets.read("eurosat", 8, division=Division(0.4, 1)).arrays["test"]) == 6
    damaged = tmp_path / "held/eurosat/2750/River/River_2.jpg"
    damaged.write_bytes(b"")
    assert "River/River_2.jpg" in refusal(lambda: datasets.load("eurosat", "eurosat"))


def test_sets_of_other_names_are_found_there_however_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = write_folder(
        tmp_path / "held/beach", {name.replace("/", "-"): image for name, image in two_classes().items()}
    )
    write_folder(tmp_path / "held/MNIST/raw", {"readme.txt": b""})
    monkeypatch.setenv("PEEL_DATA", str(tmp_path / "held"))
    monkeypatch.chdir(tmp_path)
    assert same(datasets.load("beach", "beach", 8), load_set(flat))
    assert datasets.own("mnist") is None


def test_sets_of_ones_own_keep_the_names_that_others_have_got_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_zip(tmp_path / "stl10.zip", two_classes())
    write_folder(tmp_path / "eurosat", two_classes())
    for path, name in (("stl10.zip", "stl10"), ("eurosat", "eurosat")):
        config = prepare.Config(path, size=8)
        assert (config.dataset, config.name) == (str(tmp_path / path), name)
    (tmp_path / "eurosat").rename(tmp_path / "other")
    assert prepare.Config("eurosat").dataset == "eurosat"


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
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision takes for MNIST's mirror; it holds a small MNIST."""
    files, _ = mnist_files("")
    root = write_folder(tmp_path / "mirror", {f"{name}.gz": gzip.compress(content) for name, content in files.items()})
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(root.iterdir())]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    yield root
    server.shutdown()
    server.server_close()


def test_a_set_is_downloaded_once(mirror: Path) -> None:
    first = datasets.load("mnist", "mnist", size=28)
    np.testing.assert_array_equal(first.train[..., 0], mnist_files("")[1]["train-images-idx3-ubyte"])
    assert [path.name for path in (home() / "downloads").iterdir()] == ["MNIST"]
    for path in mirror.iterdir():
        path.unlink()
    assert same(first, datasets.load("mnist", "mnist", size=28))


def test_a_damaged_download_is_refused_and_not_kept(mirror: Path) -> None:
    (mirror / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    assert "cannot download 'mnist'" in refusal(lambda: datasets.load("mnist", "mnist"))
    assert list((home() / "downloads").iterdir()) == []
