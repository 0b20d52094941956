"""Hostile images, archives and arrays by the hundred: cut, flipped, spliced, with other sizes in their headers. In a process of its own with
little memory, since what a decoder does wrong may be a signal."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Count

ROOT = Path(__file__).parents[2]

COMMON = """
import random, resource, sys, zipfile
from pathlib import Path
import numpy as np
import PIL.Image
from tests.parts.pictures import encode, pixels, png, two_classes
from train.data import folder, pictures
from train.tracking import Problem

count, where = int(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
chance = random.Random(0)
lost = crashed = refused = 0

def harm(content, samples):
    content = bytearray(content)
    way = chance.choice(("flip", "flip", "header", "cut", "splice", "repeat"))
    if way == "cut":
        return bytes(content[: chance.randrange(len(content))])
    if way == "splice":
        other = chance.choice(samples)
        return bytes(content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :])
    if way == "repeat":
        start = chance.randrange(len(content))
        return bytes(content[:start] + content[start : start + 200] * chance.randrange(2, 50) + content[start:])
    reach = min(len(content), 64) if way == "header" else len(content)
    for _ in range(chance.randint(1, 6)):
        content[chance.randrange(reach)] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    return bytes(content)
"""

IMAGES = (
    COMMON
    + """
exif = PIL.Image.Exif()
exif[0x0112] = 6
picture = PIL.Image.fromarray(pixels(40, 30, 3))
clear = PIL.Image.fromarray(pixels(40, 30, 4))
deep = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 65536, (40, 30), dtype=np.uint16))
frames = {"save_all": True, "append_images": [picture.transpose(0)]}
samples = [encode(picture, kind) for kind in ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")]
samples += [encode(picture, "AVIF")] * ("AVIF" in pictures.formats())
samples += [encode(clear, kind) for kind in ("PNG", "TIFF", "WEBP", "JPEG2000")]
samples += [encode(deep, kind) for kind in ("PNG", "TIFF", "JPEG2000")]
samples += [encode(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
samples += [encode(picture, kind, **frames) for kind in ("GIF", "PNG", "TIFF", "WEBP")]
samples += [encode(picture.convert(mode), kind) for mode, kind in (("CMYK", "JPEG"), ("L", "PNG"), ("1", "TIFF"), ("LAB", "TIFF"), ("P", "PNG"))]
samples += [encode(picture, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")]
samples += [encode(picture, "JPEG", progressive=True), encode(picture.convert("P"), "PNG", transparency=3)]
contents = [harm(chance.choice(samples), samples) for _ in range(count)]

def decode(path):
    global lost, crashed, refused
    try:
        result = pictures.decode(contents[int(path)], 8)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        (where / "crash").write_bytes(contents[int(path)])
        crashed += 1
        return "crashed"
    if isinstance(result, str):
        refused += 1
        lost += "\\n" in result or not result
    else:
        lost += result.pixels.shape != (8, 8, 3) or result.pixels.dtype != np.uint8
    return result

pictures.THREADS = 1  # one image at a time under the limit of memory
assert len(list(pictures.in_threads(decode, [str(i) for i in range(count)]))) == count
print(count, refused, lost, crashed)
"""
)

ZIPS = (
    COMMON
    + """
from tests.parts.zips import raw_zip

whole = {}
for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    with zipfile.ZipFile(where / "x.zip", "w", method) as packed:
        for name, content in two_classes(each=1).items():
            packed.writestr(f"p/{name}".replace("cat", "Katze \\u732b"), content)
    whole[method] = (where / "x.zip").read_bytes()
foreign = {name.replace("dog", "Hund\\u00e4").encode("cp437"): content for name, content in two_classes(each=1).items()}
samples = [*whole.values(), raw_zip(where / "x.zip", foreign).read_bytes()]
for number in range(count):
    content = harm(chance.choice(samples), samples)
    if chance.random() < 0.5:  # where the names, flags and sizes stand
        content = bytearray(content)
        start = content.find(b"PK\\1\\2")
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(max(start, 0), len(content))] = chance.randrange(256)
    source = where / "set.zip"
    source.write_bytes(content)
    try:
        folder.read(source, 8, skip_corrupt=chance.random() < 0.5, encoding=chance.choice(("", "", "cp437", "gbk")))
    except Problem as problem:
        refused += 1
        lost += "\\n" in str(problem) or len(str(problem)) > 3000
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        (where / "crash").write_bytes(content)
        crashed += 1
assert sorted(path.name for path in where.iterdir() if path.name not in ("home", "crash")) == ["set.zip", "x.zip"]
print(count, refused, lost, crashed)
"""
)


OTHERS = (
    COMMON
    + """
import gzip, io, json, tarfile
import pyarrow as pa
import pyarrow.parquet as pq
from train.data import datasets

def saved(save):
    file = io.BytesIO()
    save(file)
    return file.getvalue()

def tar(file, kind):
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in two_classes(each=1).items():
            about = tarfile.TarInfo(f"{'p' * 120}/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))

images, labels = pixels(12, 8, 8, 3), np.arange(12) % 2
rows = {"image": [{"bytes": png(image), "path": "x"} for image in images], "label": labels}
features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(features)})
tars = [saved(lambda file: tar(file, kind)) for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
samples = {
    ".tar": tars,
    ".tar.gz": [gzip.compress(content) for content in tars],
    ".npy": [saved(lambda file: np.save(file, images))],
    ".npz": [saved(lambda file: save(file, x_train=images, y_train=labels)) for save in (np.savez, np.savez_compressed)],
    ".parquet": [saved(lambda file: pq.write_table(table, file, compression=name)) for name in ("none", "snappy", "zstd")],
}
for number in range(count):
    suffix = chance.choice(sorted(samples))
    content = harm(chance.choice(samples[suffix]), samples[suffix])
    if suffix == ".tar.gz" and chance.random() < 0.5:
        content = gzip.compress(harm(chance.choice(tars), tars))
    source = where / f"set{suffix}"
    source.write_bytes(content)
    try:
        datasets.read(str(source), 8, skip_corrupt=chance.random() < 0.5)
    except Problem as problem:
        refused += 1
        lost += "\\n" in str(problem) or len(str(problem)) > 3000
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        (where / "crash").write_bytes(content)
        crashed += 1
    source.unlink()
assert {path.name for path in where.iterdir()} <= {"home", "crash"}
print(count, refused, lost, crashed)
"""
)


@pytest.mark.parametrize(
    ("kind", "script", "each"),
    [("hostile images", IMAGES, 150), ("hostile zips", ZIPS, 60), ("hostile archives and arrays", OTHERS, 100)],
)
def test_every_hostile_input_is_read_or_refused_in_one_line(
    kind: str, script: str, each: int, scale: int, count: Count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEEL_HOME", str(tmp_path / "home"))
    command = [sys.executable, "-c", script, str(each * scale), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    if process.returncode:
        count(kind, each * scale, 0, 1)
    assert process.returncode == 0, process.stderr[-2000:]
    tried, refused, lost, crashed = map(int, process.stdout.split()[-4:])
    count(kind, tried, lost, crashed)
    assert refused > tried // 4, "the harm is felt"
    assert (lost, crashed) == (0, 0), process.stderr[-2000:]
