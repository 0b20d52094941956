"""Peak memory of the stages as commands, at growing sizes of the image set.

What counts is memory of the process's own; pages of mapped files, which the system takes back when it needs them, are
told apart (RssAnon and RssFile of /proc).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tests.bench.table import Row
from tests.bench.training import COUNT, made_up
from tests.parts.artifacts import publish_images
from train.data.images import Images
from train.tracking.progress import over

GIGA = 1e9
TESTED = 2_000  # test images, however many are trained on
SECONDS = 40  # of a training: its memory does not grow after the first steps and measurements


def peak(command: list[str], home: Path, limit: float | None = None) -> tuple[float, float]:
    """Bytes of the process's own memory, and of pages of mapped files, each at its peak, sampled 50 times a second. limit: seconds, then it is interrupted."""
    environment = {**os.environ, "PEEL_HOME": str(home), "WANDB_MODE": "offline"}
    with tempfile.TemporaryFile() as errors:  # of a pipe that nobody reads, progress bars fill the buffer, and wait
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        own, mapped, started = 0, 0, time.monotonic()
        while process.poll() is None:
            now = resident(process.pid)
            own, mapped = max(own, now[0]), max(mapped, now[1])
            time.sleep(0.02)
            if limit and time.monotonic() - started > limit:
                process.terminate()
                limit = None
        if process.returncode not in (0, 130):
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {errors.read().decode()[-300:]}")
    return float(own), float(mapped)


def resident(pid: int) -> tuple[int, int]:
    """Bytes of RssAnon and of RssFile; none of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines)
    own, mapped = (1024 * int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile"))
    return own, mapped


def measure_pretrain() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        published(made_up(COUNT), home)
        own, mapped = peak(["train.pretrain", "--images", "noise"], home, SECONDS)
    note = f"{COUNT:,} images, the default preset; its first {SECONDS} s, with a measurement; mapped files beside it: {mapped / 1e6:,.0f} MB"
    return [Row("memory of train.pretrain", (own / GIGA,), "GB", ("<=", 1.5), note)]


def published(images: Images, home: Path) -> None:
    with patch.dict(os.environ, PEEL_HOME=str(home)):
        publish_images(images)


def measure_growth() -> list[Row]:
    """Peaks at 1, 4 and 16 times CIFAR's number of training images, and whether the last step costs more an image than the
    one before. In smaller sets what grows hides below the peak of the imports."""
    sizes = [COUNT, 4 * COUNT, 16 * COUNT]
    peaks: dict[str, list[float]] = {}
    maps: dict[str, float] = {}
    for size in over(sizes, "memory", "size"):
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, PEEL_DATA=f"{folder}/torchvision"):
            home = Path(folder) / "peel"
            write_mnist(Path(folder) / "torchvision", size)
            commands = {
                "train.prepare": ["train.prepare", "--dataset", "mnist"],
                "eval.embed": ["eval.embed", "--encoder", "mnist-untrained-8"],
                "eval.index": [
                    "eval.index", "--embeddings", "mnist-untrained-8", "--kind", "ivf", "--lists", "1024", "--probes", "8",
                ],
                "eval.anomaly": [
                    "eval.anomaly", "--embeddings", "mnist-untrained-8", "--anomalies", "mnist-untrained-8-on-photos",
                ],
            }  # fmt: skip
            own, maps["train.prepare"] = peak(commands["train.prepare"], home)
            peaks.setdefault("train.prepare", []).append(own)
            peak(["train.prepare", "--dataset", "photos"], home)
            peak(["train.pretrain", "--images", "mnist", "--epochs", "0", "--width", "8"], home)
            alias = variant(home)
            for name in ("eval.embed", "eval.index", "eval.anomaly"):
                command = [part.replace("mnist-untrained-8", alias) for part in commands[name]]
                if name == "eval.anomaly":
                    peak(["eval.embed", "--encoder", alias, "--images", "photos", "--train", "False"], home)
                own, maps[name] = peak(command, home)
                peaks.setdefault(name, []).append(own)
    rows = []
    for name, (small, middle, large) in peaks.items():
        early, late = (middle - small) / (3 * COUNT), (large - middle) / (12 * COUNT)
        note = ", ".join(
            f"{size:,}: {each / 1e6:,.0f} MB" for size, each in zip(sizes, (small, middle, large), strict=True)
        )
        note += f"; {late / 1e3:.2f} kB an image at the end, {early / 1e3:.2f} before; mapped files beside it: {maps[name] / 1e6:,.0f} MB"
        rows.append(
            Row(
                f"memory of {name}, growth an image, late against early",
                (late / max(early, 1.0),),
                "x",
                ("<=", 1.5),
                note,
            )
        )
    return rows


def variant(home: Path) -> str:
    """What the encoder that was made last is called."""
    from train.tracking.store import Store

    store = Store(home / "store")
    name = str(store.rows("SELECT variant FROM runs ORDER BY rowid DESC LIMIT 1")[0]["variant"])
    store.close()
    return name


def write_mnist(root: Path, count: int) -> None:
    """Noise in MNIST's own files: a set of any size that train.prepare reads as it reads the real one."""
    random = np.random.default_rng(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, size in (("train", count), ("t10k", TESTED)):
        header = b"".join(int(number).to_bytes(4, "big") for number in (0x803, size, 28, 28))
        with (raw / f"{name}-images-idx3-ubyte").open("wb") as file:
            file.write(header)
            for start in range(0, size, 10_000):
                file.write(random.integers(0, 256, (min(10_000, size - start), 28, 28), dtype=np.uint8).tobytes())
        labels = np.arange(size, dtype=np.uint8) % 10
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(
            b"".join(int(number).to_bytes(4, "big") for number in (0x801, size)) + labels.tobytes()
        )
