"""Folders and zips of one's own images: what is made of them, and what is refused."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from tests.parts.artifacts import refusal
from tests.parts.pictures import (
    CUT,
    SOUND,
    Files,
    Pixels,
    encode,
    load_set,
    pixels,
    png,
    same,
    two_classes,
    write_folder,
    write_zip,
)
from train.data import pictures
from train.data.images import SPLITS


def one(tmp_path: Path, content: bytes, size: int, suffix: str = "png") -> Pixels:
    """What becomes of one image file: it is class `odd`'s only training image."""
    files = {**two_classes(size), f"train/odd/a.{suffix}": content, f"test/odd/a.{suffix}": content}
    images = load_set(write_folder(tmp_path / "set", files), size)
    (image,) = images.train[images.train_labels == images.classes.index("odd")]
    result: Pixels = image
    return result


# -- folders and zips --------------------------------------------------------------------------------------------------


def test_images_of_the_asked_size_keep_every_pixel_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["train/b/2.png", "train/b/10.png", "train/a/z.png", "train/a/deeper/y.png", "test/a/1.png", "test/b/1.png"]
    arrays = {name: pixels(32, 32, 3, seed=seed) for seed, name in enumerate(names)}
    images = load_set(write_folder(tmp_path / "set", {name: png(array) for name, array in arrays.items()}), 32)
    train = sorted(name for name in names if name.startswith("train"))
    np.testing.assert_array_equal(images.train, np.stack([arrays[name] for name in train]))
    np.testing.assert_array_equal(images.test, np.stack([arrays["test/a/1.png"], arrays["test/b/1.png"]]))
    assert images.classes == ("a", "b")
    assert images.train_labels.tolist() == [0, 0, 1, 1]
    assert images.test_labels.tolist() == [0, 1]


def test_mean_and_deviation_are_those_of_numpy_over_the_training_images(tmp_path: Path) -> None:
    images = load_set(write_folder(tmp_path / "set", two_classes()))
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
    reference = load_set(write_folder(tmp_path / "plain", files))
    assert same(reference, load_set(write_folder(tmp_path / "cluttered", {**clutter, **files})))
    assert same(reference, load_set(write_zip(tmp_path / "flat.zip", {**clutter, **files})))
    topped = {f"pets/{name}": content for name, content in {**files, "train/": b"", "train/cat/": b""}.items()}
    assert same(reference, load_set(write_zip(tmp_path / "topped.zip", {**topped, "__MACOSX/pets/._train": b""})))
    dotted = {f"./{name}": content for name, content in files.items()}
    assert same(reference, load_set(write_zip(tmp_path / "dotted.zip", dotted)))
    backslashes = {name.replace("/", "\\"): content for name, content in files.items()}
    assert same(reference, load_set(write_zip(tmp_path / "windows.zip", backslashes)))


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    files = two_classes()
    reference = load_set(write_folder(tmp_path / "plain", files))
    for split in SPLITS:
        (tmp_path / "linked" / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "linked" / split / name).symlink_to(tmp_path / "plain" / split / name)
    (tmp_path / "plain/train/cat/circle").symlink_to(tmp_path / "plain")
    assert same(reference, load_set(tmp_path / "linked"))


def test_order_holds_over_several_windows_of_threads(tmp_path: Path) -> None:
    count = 2 * pictures.WINDOW + 10
    numbers = np.arange(count)
    arrays = np.zeros((count, 8, 8, 3), np.uint8)
    arrays[:, 0, 0, 0], arrays[:, 0, 0, 1] = numbers % 256, numbers // 256
    files = {f"train/a/{i:05}.bmp": encode(PIL.Image.fromarray(array), "BMP") for i, array in enumerate(arrays)}
    images = load_set(write_zip(tmp_path / "many.zip", {**two_classes(), **files, "test/a/0.png": png(arrays[0])}))
    np.testing.assert_array_equal(images.train[images.train_labels == 0], arrays)


# -- any mode, any size ------------------------------------------------------------------------------------------------


def test_gray_images_get_three_equal_channels(tmp_path: Path) -> None:
    gray = pixels(8, 8)
    np.testing.assert_array_equal(one(tmp_path, png(gray), 8), np.repeat(gray[..., None], 3, axis=2))


def test_bilevel_images_become_black_and_white(tmp_path: Path) -> None:
    on = pixels(8, 8) > 127
    expected = np.repeat(on[..., None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(one(tmp_path, encode(PIL.Image.fromarray(on)), 8), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_images_lie_over_white(tmp_path: Path, mode: str) -> None:
    channels = pixels(8, 8, len(mode)).astype(np.float64)
    alpha = channels[..., -1:] / 255
    expected = np.broadcast_to(channels[..., :-1] * alpha + 255 * (1 - alpha), (8, 8, 3))
    content = encode(PIL.Image.fromarray(channels.astype(np.uint8), mode))
    np.testing.assert_allclose(one(tmp_path, content, 8), expected, atol=1)


def test_palette_images_show_their_colors_and_the_transparent_one_white(tmp_path: Path) -> None:
    colors, indices = pixels(16, 3), pixels(8, 8, seed=1) % 16
    image = PIL.Image.frombytes("P", (8, 8), indices.tobytes())
    image.putpalette(colors.tobytes())
    np.testing.assert_array_equal(one(tmp_path / "opaque", encode(image), 8), colors[indices])
    transparent = colors.copy()
    transparent[5] = 255
    content = encode(image, "GIF", transparency=5)
    np.testing.assert_array_equal(one(tmp_path / "transparent", content, 8, "GIF"), transparent[indices])


def test_cmyk_images_are_turned_to_rgb(tmp_path: Path) -> None:
    inks = pixels(8, 8, 4)
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    content = encode(PIL.Image.frombytes("CMYK", (8, 8), inks.tobytes()), "TIFF")
    np.testing.assert_allclose(one(tmp_path, content, 8, "tif"), expected, atol=1)


def test_sixteen_bit_images_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    expected = np.rint(deep / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(one(tmp_path, encode(PIL.Image.fromarray(deep)), 8)[..., 1], expected)


@pytest.mark.parametrize(
    ("orientation", "turn"),
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
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: Callable[[Pixels], Pixels]) -> None:
    upright = pixels(8, 8, 3)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture = PIL.Image.fromarray(np.ascontiguousarray(turn(upright)))
    np.testing.assert_array_equal(one(tmp_path, encode(picture, exif=exif), 8), upright)


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


UNSOUND = {
    "cut.png": CUT,
    "cut.jpg": encode(SOUND, "JPEG")[:-1000],
    "empty.png": b"",
    "text.jpg": b"not an image at all",
    "bomb.png": header_only(30_000),
    "large.png": header_only(10_000),
}


@pytest.mark.parametrize("name", UNSOUND)
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_an_image_that_cannot_be_decoded_is_named_and_skipped_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, write: Callable[[Path, Files], Path]
) -> None:
    reference = load_set(write_folder(tmp_path / "sound", two_classes()))
    source = write(tmp_path / "set.zip", {**two_classes(), f"train/cat/1{name}": UNSOUND[name]})
    line = refusal(lambda: load_set(source))
    assert f"train/cat/1{name}" in line
    assert "--skip-corrupt True" in line
    assert same(reference, load_set(source, skip_corrupt=True))
    assert [line for line in capsys.readouterr().out.splitlines() if f"train/cat/1{name}" in line]


def test_an_entry_damaged_inside_a_zip_is_found_by_its_checksum(tmp_path: Path) -> None:
    source = tmp_path / "set.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in {**two_classes(), "train/cat/x.bmp": encode(SOUND, "BMP")}.items():
            archive.writestr(name, content)
    damage = bytearray(source.read_bytes())
    damage[damage.index(b"train/cat/x.bmp") + 5000] ^= 1
    source.write_bytes(damage)
    assert "train/cat/x.bmp" in refusal(lambda: load_set(source))
    assert len(load_set(source, skip_corrupt=True).train) == 6


def test_a_file_too_large_for_an_image_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 1 << 20)
    source = write_zip(tmp_path / "set.zip", {**two_classes(), "test/dog/bomb.png": bytes(1 << 21)})
    assert "larger than 1 MB" in refusal(lambda: load_set(source))


def test_a_class_of_which_nothing_can_be_decoded_is_refused_also_when_skipping(tmp_path: Path) -> None:
    files = {**two_classes(), "train/eel/1.png": b"", "test/eel/1.png": png(pixels(8, 8, 3))}
    assert "train/eel" in refusal(lambda: load_set(write_folder(tmp_path / "set", files), skip_corrupt=True))


# -- sources that do not serve -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["../evil.png", "train/cat/../../../evil.png", "/tmp/evil.png", "C:\\evil.png", "..\\evil.png", "C:evil.png"],
)
def test_a_zip_entry_that_leaves_its_folder_is_refused(tmp_path: Path, entry: str) -> None:
    line = refusal(lambda: load_set(write_zip(tmp_path / "set.zip", {**two_classes(), entry: b""})))
    assert repr(entry) in line


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "set.zip", two_classes())
    link = zipfile.ZipInfo("train/cat/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'train/cat/link.png'" in refusal(lambda: load_set(source))


def without(part: str) -> Files:
    return {name: content for name, content in two_classes().items() if part not in name}


@pytest.mark.parametrize(
    ("files", "part"),
    [
        (without("train/"), "train/"),
        ({name: b"" for name in ("cat/0.png", "cat/1.png", "dog/0.png")}, "'dog' has a single image"),
        (without("train/dog/"), "'dog'"),
        (without("test/dog/"), "'dog'"),
        ({**without("test/dog"), "test/dog/notes.txt": b""}, "'test/dog'"),
        ({**two_classes(), "train/eel/notes.txt": b""}, "'train/eel'"),
        ({"train/cat/a.txt": b"", "test/cat/a.txt": b""}, "holds no images"),
        ({**two_classes(), "train/e\x07l/1.png": b"", "test/e\x07l/1.png": b""}, "cannot be printed"),
    ],
)
def test_a_layout_that_does_not_serve_is_refused(tmp_path: Path, files: Files, part: str) -> None:
    assert part in refusal(lambda: load_set(write_folder(tmp_path / "set", files)))


def test_empty_class_folders_are_found_in_zips_too(tmp_path: Path) -> None:
    assert "'train/eel'" in refusal(
        lambda: load_set(write_zip(tmp_path / "set.zip", {**two_classes(), "train/eel/": b""}))
    )


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(b"0" * 600)
    assert "set.tar" in refusal(lambda: load_set(tmp_path / "set.tar"))
    whole = write_zip(tmp_path / "set.zip", two_classes()).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert "cut.zip" in refusal(lambda: load_set(tmp_path / "cut.zip"))
