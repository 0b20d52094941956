"""What a file of a picture may be: its format, the range of its values, its EXIF data, its size; and what memory it costs."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from tests.parts.pictures import Pixels, encode, pixels, png
from train.data import pictures
from train.data.scores import Scores
from train.tracking import Problem


def decode(content: bytes, size: int = 8) -> pictures.Picture | str:
    """As `read` has it done, with its limits in force."""
    (picture,) = pictures.in_threads(lambda path: pictures.decode(content, size), ["x"])
    return picture


def decoded(content: bytes, size: int = 8) -> Pixels:
    picture = decode(content, size)
    assert isinstance(picture, pictures.Picture), picture
    return picture.pixels


def reason(content: bytes) -> str:
    """Why there is no picture."""
    picture = decode(content)
    assert isinstance(picture, str)
    return picture


COLORS = pixels(8, 8, 3)
GRAY = pixels(8, 8)
PICTURE = PIL.Image.fromarray(COLORS)


def three(gray: Pixels) -> Pixels:
    return np.repeat(gray[..., None], 3, axis=2)


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pictures.FORMATS)
def test_every_format_that_is_read_here_gives_back_what_was_saved(name: str) -> None:
    if name not in pictures.formats() or name not in PIL.Image.SAVE:
        assert name in (*pictures.PLUGINS, "QOI"), "Pillow itself reads and writes the others"
        return
    smooth = np.linspace(40, 200, 32).astype(np.uint8)
    array = np.broadcast_to(smooth[:, None, None], (32, 32, 3))
    exact = name in ("BMP", "DIB", "PNG", "PPM", "QOI", "TIFF", "JPEG2000")
    content = encode(PIL.Image.fromarray(np.ascontiguousarray(array)), name)
    np.testing.assert_allclose(decoded(content, 32).astype(int), array, atol=0 if exact else 6)


def test_suffixes_of_one_format_are_all_taken() -> None:
    registered = {suffix for suffix, name in PIL.Image.registered_extensions().items() if name in pictures.formats()}
    assert {".jfif", ".jpe", ".jp2", ".apng", ".pnm", ".tif"} <= registered & pictures.suffixes()
    assert registered - pictures.suffixes() == {".pfm"}, (
        "numbers of unknown range, beside images more often than among them"
    )


def test_no_other_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would have Ghostscript run an EPS, whatever its suffix."""
    trace = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {trace}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(Exception), PIL.Image.open(io.BytesIO(script)) as image:  # noqa: B017 (what Pillow raises)
        image.load()
    assert trace.exists(), "the trap works"
    trace.unlink()
    assert "not an image" in reason(script)
    (tmp_path / "probe-v0/pictures").mkdir(parents=True)
    (tmp_path / "probe-v0/scores.json").write_text("{}")
    (tmp_path / "probe-v0/pictures/x.png").write_bytes(script)
    with pytest.raises(Problem):
        Scores.load(tmp_path / "probe-v0")
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["ICNS", "ICO", "BLP", "DDS", "PCX", "SGI", "TGA", "SPIDER", "MSP", "XBM"])
def test_formats_whose_suffixes_are_not_taken_are_not_read_under_another(kind: str) -> None:
    mode = {"MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P"}.get(kind, "RGB")
    assert "not an image" in reason(encode(PICTURE.quantize(8) if mode == "P" else PICTURE.convert(mode), kind))


def test_an_artifacts_pictures_are_png_whole_and_of_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "x.png"
    place.write_bytes(png(COLORS))
    np.testing.assert_array_equal(np.asarray(pictures.open_png(place)), COLORS)
    for other in (encode(PICTURE, "JPEG"), encode(PICTURE, "GIF"), encode(PICTURE, "TIFF"), png(COLORS)[:-30]):
        place.write_bytes(other)
        with pytest.raises((OSError, SyntaxError)):
            pictures.open_png(place)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 63)
    place.write_bytes(png(COLORS))
    with pytest.raises(ValueError, match="8 x 8 pixels"):
        pictures.open_png(place)


# -- the range of values -----------------------------------------------------------------------------------------------


def tiff(array: NDArray[Any], bits: int, kind: int = 1, photometric: int = 1) -> bytes:
    """A TIFF of 8 x 8 gray values. kind: of its numbers, 1 unsigned, 2 signed, 3 floating. photometric: 0 where zero is white."""
    data = array.tobytes()
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 8, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


UNRANGED = {
    "unsigned 32": tiff(GRAY.astype("<u4"), 32),
    "signed 32": tiff(GRAY.astype("<i4"), 32, 2),
    "signed 16": tiff(GRAY.astype("<i2"), 16, 2),
    "signed 8": tiff(GRAY, 8, 2),
    "floating": tiff((GRAY / 255).astype("<f4"), 32, 3),
    "floating PFM": b"Pf\n8 8\n-1.0\n" + GRAY.astype("<f4").tobytes(),
    "Pillow's I": encode(PIL.Image.fromarray(GRAY.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("name", UNRANGED)
def test_values_of_unknown_range_are_refused(name: str) -> None:
    assert "unknown range" in reason(UNRANGED[name])


def twelve(gray: Pixels) -> Pixels:
    """Values of 12 bits, two in three bytes."""
    first, second = (gray.astype(int) * 4095 / 255).round().astype(int).reshape(-1, 2).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)


DEEP = GRAY.astype(np.uint16) * 257
RANGED = {
    "16-bit PNG": encode(PIL.Image.fromarray(DEEP)),
    "16-bit TIFF": tiff(DEEP.astype("<u2"), 16),
    "16-bit TIFF, zero is white": tiff((65535 - DEEP).astype("<u2"), 16, photometric=0),
    "8-bit TIFF, zero is white": tiff(255 - GRAY, 8, photometric=0),
    "12-bit TIFF": tiff(twelve(GRAY), 12),
    "16-bit JPEG 2000": encode(PIL.Image.fromarray(DEEP), "JPEG2000"),
    "16-bit PGM": b"P5 8 8 65535\n" + DEEP.astype(">u2").tobytes(),
    "12-bit PGM": b"P5 8 8 4095\n" + (GRAY.astype(int) * 4095 / 255).round().astype(">u2").tobytes(),
    "PGM of 0 to 1000": b"P2 8 8 1000\n"
    + b" ".join(b"%d" % round(value * 1000 / 255) for value in GRAY.ravel().tolist()),
}


@pytest.mark.parametrize("name", RANGED)
def test_values_whose_range_the_file_states_fill_it(name: str) -> None:
    np.testing.assert_allclose(decoded(RANGED[name]).astype(int), three(GRAY), atol=1)


def test_the_transparent_value_of_a_deep_image_is_white() -> None:
    expected = three(GRAY).copy()
    expected[GRAY[0, 0] == GRAY] = 255
    content = encode(PIL.Image.fromarray(DEEP), transparency=int(DEEP[0, 0]))
    np.testing.assert_array_equal(decoded(content), expected)


# -- EXIF --------------------------------------------------------------------------------------------------------------

DAMAGED = {
    "no TIFF header": b"Exif\0\0" + bytes(range(40)),
    "cut header": b"Exif\0\0II",
    "cut entries": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
    "leads outside": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "endless text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\x7f\x06\0\0\0\0\0\0\0",
    "no such turn": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    "empty": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_an_image_with_damaged_exif_data_is_taken_as_it_lies(kind: str, name: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = decoded(encode(PICTURE, kind, **options))
    np.testing.assert_array_equal(decoded(encode(PICTURE, kind, exif=DAMAGED[name], **options)), expected)


def test_damaged_exif_data_in_a_text_of_a_png_do_not_matter() -> None:
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  4\nzzzz", zip=True)
    np.testing.assert_array_equal(decoded(encode(PICTURE, pnginfo=text)), COLORS)


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_that_is_noted(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("black", "white", "red")]
    picture = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert isinstance(picture, pictures.Picture) and picture.several
    np.testing.assert_array_equal(picture.pixels, np.zeros((8, 8, 3)))
    alone = decode(encode(frames[0], kind))
    assert isinstance(alone, pictures.Picture) and not alone.several


# -- size and memory ---------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def blank_png(side: int, bits: int, color: int) -> bytes:
    """Small, however large the picture."""
    row = bytes(1 + side * bits * {0: 1, 2: 3, 6: 4}[color] // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("limit", ["MOST_PIXELS", "MOST_JPEG_PIXELS", "MOST_JPEG2000_PIXELS"])
def test_an_image_over_its_formats_limit_is_refused_with_its_size(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"MOST_JPEG_PIXELS": "JPEG", "MOST_JPEG2000_PIXELS": "JPEG2000"}.get(limit, "PNG")
    monkeypatch.setattr(pictures, limit, 64)
    assert isinstance(decode(encode(PICTURE, kind)), pictures.Picture)
    line = reason(encode(PICTURE.resize((9, 8)), kind))
    assert "9 x 8 pixels" in line or "72 pixels" in line


def test_a_tile_larger_than_its_image_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 x 8 pixels in a tile of 40,000 x 40,000 would take 1.5 GB in each thread."""
    data = zlib.compress(bytes(64 * 64))
    head = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 64, 323: 64, 324: 134, 325: len(data)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in head.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(head)) + tags + struct.pack("<I", 0) + data
    assert isinstance(decode(content), pictures.Picture)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 64 * 64 - 1)
    assert "tile" in reason(content)


def test_a_photo_of_108_megapixels_is_read_halved_by_its_decoder() -> None:
    small = PIL.Image.fromarray(pixels(13, 13))
    photo = small.resize((10_400, 10_400), PIL.Image.Resampling.NEAREST)
    assert photo.width * photo.height > pictures.MOST_PIXELS
    content = encode(photo, "JPEG", quality=90)
    assert len(content) < pictures.MOST_BYTES
    expected = decoded(png(np.asarray(small.resize((1_040, 1_040), PIL.Image.Resampling.NEAREST))), 13)
    np.testing.assert_allclose(decoded(content, 13).astype(int), expected, atol=3)


MEMORY = """
import resource, sys
from pathlib import Path
from train.data import pictures

pictures.THREADS = 4
content = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = list(pictures.in_threads(lambda path: pictures.decode(content, 32), list("abcd")))
assert not any(isinstance(result, str) for result in results), results
unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // unit)
"""


@pytest.mark.parametrize(("bits", "color"), [(16, 0), (8, 6)])
def test_four_large_images_take_the_memory_of_one(tmp_path: Path, bits: int, color: int) -> None:
    side = 4000  # 16 megapixels: over the share that is read side by side
    assert side**2 * pictures.SHARE > pictures.MOST_PIXELS
    (tmp_path / "x.png").write_bytes(blank_png(side, bits, color))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "x.png")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(process.stdout) < 2.5 * 8 * side**2 / 2**20, "8 bytes a pixel, and what the interpreter adds"
