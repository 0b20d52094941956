"""A disk, a file system or a memory that refuses at a random moment: one line or success, and nothing half written."""

import contextlib
import errno
import functools
import hashlib
import importlib
import os
import random
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open

from tests.faults.conftest import Count
from tests.faults.test_kills import small_disk
from tests.parts import processes
from tests.parts.artifacts import images
from tests.parts.chain import latest_variant, run
from tests.parts.embeddings import blobs, publish_embeddings
from tests.parts.pictures import pixels, two_classes, write_folder
from train.data.neighbors import find_neighbors
from train.data.scores import Scores
from train.engine import checkpoint
from train.models.encoder import Architecture, Encoder
from train.tracking import __main__ as cli
from train.tracking.command import answer
from train.tracking.panels import figure
from train.tracking.problem import Incident, incident
from train.tracking.store import Store, home, housekeeping, write_whole

ERRORS = [
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
    errno.ENOLCK, errno.ESTALE, errno.ENAMETOOLONG, errno.ENOMEM, errno.EOPNOTSUPP,
]  # fmt: skip
CALLS = {
    "open", "os.chmod", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.symlink",
    "shutil.copyfile",
}  # fmt: skip
NAMELESS = {"fcntl.flock", "mmap.__new__"}
UNHEARD = ("fsync", "posix_fallocate")  # of `os`: no audit hook hears of them


class Saboteur:
    """Lets the n-th call that touches a folder fail as the system would. Every other call is the real one."""

    def __init__(self) -> None:
        self.folder = ""  # nothing fails elsewhere, and nothing at all without one
        self.rest = -1  # calls that still succeed
        self.calls = 0
        self.number = 0

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event in NAMELESS:
            self.call()
        elif event in CALLS:
            paths = [os.fsdecode(value) for value in arguments if isinstance(value, str | bytes | os.PathLike)]
            if any(path.startswith(self.folder) for path in paths):
                self.call(paths[0])

    def call(self, path: str | None = None) -> None:
        self.calls += 1
        self.rest -= 1
        if not self.rest:
            raise OSError(self.number, os.strerror(self.number), path)

    @contextlib.contextmanager
    def at_work(self, folder: Path, which: int = 0, number: int = 0) -> Iterator[None]:
        """The call of that place, from 1, fails with the error of that number; none with 0."""
        self.folder, self.rest, self.calls, self.number = str(folder), which, 0, number
        try:
            yield
        finally:
            self.folder = ""


@functools.cache
def hook() -> Saboteur:
    """The process's only one: an audit hook cannot be taken away."""
    saboteur = Saboteur()
    sys.addaudithook(saboteur.hear)
    return saboteur


@pytest.fixture
def saboteur(monkeypatch: pytest.MonkeyPatch) -> Saboteur:
    saboteur = hook()

    def heard(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if saboteur.folder:
                saboteur.call()
            return real(*arguments)

        return call

    for name in UNHEARD:
        monkeypatch.setattr(os, name, heard(getattr(os, name)))
    return saboteur


# -- one command -------------------------------------------------------------------------------------------------------


def ended(command: str, capture: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and errors of `python -m COMMAND`, here. A traceback comes out as the exception that it is of."""
    program, *flags = shlex.split(command)
    body = cli.main if program == "train.tracking" else importlib.import_module(program).COMMAND.run
    before = signal.getsignal(signal.SIGTERM)
    try:
        answer(program, lambda: body(flags))
    except SystemExit as end:
        return int(end.code or 0), capture.readouterr().err
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0, capture.readouterr().err


def half_written() -> list[str]:
    """What stands in PEEL_HOME, outside of scratch, and is not whole."""
    store = Store()
    faults = [str(damage) for damage in housekeeping.verify(store)]
    faults += [f"{path} has another content" for path in store.objects.glob("*/*") if path.name != md5(path)]
    for folder, version in [(store.folders / version.folder, version) for version in store.versions()]:
        if folder.exists():
            names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
            faults += [f"{folder} holds {names}"] if names != set(store.files(version)) else []
    store.close()
    for path in (home() / "checkpoints").glob("*"):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                file.metadata()
        elif path.suffix != ".lock":
            faults.append(f"{path} is left")
    pages = [path for path in home().iterdir() if path.is_file()]
    return faults + [f"{page} is no page" for page in pages if not page.read_text().rstrip().endswith("</html>")]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def state() -> set[tuple[str, str]]:
    """What every number and every alias names."""
    store = Store()
    versions = store.versions()
    store.close()
    names = [(f"{version.name}:{alias}", version.digest) for version in versions for alias in version.aliases]
    return {*names, *((version.reference, version.digest) for version in versions if version.aliases)}


QUICK = (
    "train.prepare --dataset {folder} --name tiny --size 8",
    "eval.index --embeddings blobs-vicreg --k 5",
    "train.tracking pull images:tiny --to {out}",
    "train.tracking verify",
    "train.tracking gc --yes",
)
STAGES = (
    "train.pretrain --images tiny --preset small --epochs 1 --batch-size 8 --width 4 --view-count 2",
    "train.patches --images tiny --kind pixels",
    "eval.embed --encoder {variant}",
    "eval.index --embeddings {variant} --k 5",
    "train.eigenmaps --embeddings {variant} --k 3 --dimension 2",
    "eval.probe --embeddings {variant} --resamples 50",
    "eval.retrieve --embeddings {variant}",
    "eval.project --embeddings {variant}",
    "eval.cluster --embeddings {variant}",
    "eval.compare --variants {variant} --resamples 50",
    "eval.report --variants {variant}",
)


@pytest.fixture
def words(tmp_path: Path, scale: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What stands for the names in braces; with --full everything is made once."""
    monkeypatch.setattr("train.tracking.run.RECORD_SECONDS", 5)
    words = {"folder": str(write_folder(tmp_path / "pictures", two_classes(8, 12))), "out": str(home() / "out")}
    publish_embeddings(blobs(3, 12, 4, seed=0))
    run([QUICK[0].format(**words)])
    for command in STAGES if scale > 1 else ():
        if "{variant}" in command and "variant" not in words:
            words["variant"] = latest_variant("train.pretrain")
        run([command.format(**words)])
    return words


def test_an_error_at_any_call_is_one_line_and_the_same_command_works_again(
    saboteur: Saboteur, words: dict[str, str], capsys: pytest.CaptureFixture[str], scale: int, count: Count
) -> None:
    dice = random.Random(0)
    faults: list[str] = []
    for command in (*QUICK, *(STAGES if scale > 1 else ())):
        line = command.format(**words)
        with saboteur.at_work(home()):
            assert ended(line, capsys)[0] == 0
            calls = saboteur.calls
        each = 4 if scale == 1 else 220 if command in QUICK[2:] else 55
        losses = crashes = 0
        for _ in range(each):
            which, number = dice.randint(1, calls), dice.choice(ERRORS)
            case = f"{line}, {errno.errorcode[number]} at call {which}"
            before = state()
            try:
                with saboteur.at_work(home(), which, number):
                    code, errors = ended(line, capsys)
            except Exception as error:  # it would be a traceback
                crashes += 1
                faults.append(f"{case}: {error!r}")
            else:
                said = [text for text in errors.splitlines() if text.startswith(f"{line.split()[0]}: ")]
                damage = code == 1 and "verify" in line  # a file that cannot be read
                if not (code == 0 or damage or (code == 2 and len(said) == 1)) or "Traceback" in errors:
                    crashes += 1
                    faults.append(f"{case}: {code} {errors}")
            lost, again = before - state(), ended(line, capsys)
            if lost or half_written() or again[0]:
                losses += 1
                faults.append(f"{case}: lost {lost}, half written {half_written()}, then {again}")
        count("I/O errors injected", each, losses, crashes)
    assert not faults, "\n".join(faults)


# -- writers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def limit(size: int) -> Iterator[None]:
    """No file can grow above `size` bytes, whoever writes it: native code too gets EFBIG, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_checkpoint(folder: Path) -> None:
    network = torch.nn.Linear(20, 20)
    checkpoint.save(
        folder / "x.safetensors", network, torch.optim.SGD(network.parameters()), checkpoint.Progress(1, (), ())
    )


def writers() -> dict[str, Callable[[Path], None]]:
    embeddings = blobs(3, 12, 4, seed=0)
    scores = Scores(
        {"a/b": 1.0},
        {"a/figure": figure("x" * 3000)},
        {"a/picture": PIL.Image.fromarray(pixels(60, 60, 3))},
        {"a/b": np.arange(500.0), "a/short": np.arange(3)},
    )
    return {
        "images": images("blobs", embeddings).save,
        "embeddings": embeddings.save,
        "neighbors": find_neighbors(embeddings, 3).save,
        "neighbors of few": find_neighbors(blobs(2, 4, 2, seed=0), 1).save,
        "encoder": Encoder(Architecture("compact", 4, 8, 4, 8, (0.5,) * 3, (0.5,) * 3)).save,
        "scores": scores.save,
        "checkpoint": save_checkpoint,
        "page": lambda folder: write_whole(folder / "page", b"x" * 3000),
    }


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_no_writer_ends_well_with_a_file_cut_short(tmp_path: Path, scale: int, count: Count) -> None:
    """numpy.save and FAISS's write_index, by name, did: what the C library still held was lost as the file was closed."""
    dice = random.Random(0)
    for name, save in writers().items():
        whole = tmp_path / name
        whole.mkdir()
        save(whole)
        largest = max(sizes(whole).values())
        for case in range(6 * scale):
            folder = tmp_path / f"{name} {case}"
            folder.mkdir()
            room = dice.randrange(largest)
            with limit(room), pytest.raises(Exception) as error:
                save(folder)
            assert "File too large" in str(incident(error.value)), (name, room)
            if name in ("checkpoint", "page"):
                assert sizes(folder) == {}, "what is half written is removed"
        with limit(largest):
            save(folder)
        assert sizes(folder) == sizes(whole)
        count("writers that met the end of a file", 6 * scale)


def test_a_disk_that_fills_in_a_writer_is_noticed(tmp_path: Path, count: Count) -> None:
    with small_disk(tmp_path / "disk", 400_000) as how:
        filler = tmp_path / "disk" / "filler"
        for name, save in writers().items():
            folder = tmp_path / "disk" / "files"
            for room in (0, 4096):
                folder.mkdir()
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
                os.truncate(filler, filler.stat().st_size - room)
                try:
                    save(folder)
                except Exception as error:
                    assert incident(error), (name, error)
                else:
                    filler.unlink()
                    whole = tmp_path / f"{name} {room}"
                    whole.mkdir()
                    save(whole)
                    assert sizes(folder) == sizes(whole), (name, how)
                filler.unlink(missing_ok=True)
                shutil.rmtree(folder)
        count(f"writers on a full disk ({how})", 2 * len(writers()))


def test_a_record_that_w_and_b_could_not_write_is_no_success(count: Count) -> None:
    """Its client is a process of its own, which says nothing when the disk takes no more; the run's curves were lost."""
    body = """
import resource
from tests.parts.embeddings import NoConfig, blobs, publish_embeddings
from train.tracking import Stage, run
from train.tracking.command import answer
run.RECORD_SECONDS = 1
def body():
    with Stage("eval.embed", NoConfig()) as stage:
        stage.dataset, stage.variant, stage.seed = "x", "y", 0
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
        stage.run  # starts the client, which keeps the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        for i in range(300):
            stage.log({"loss": i})
        stage.publish("embeddings", blobs(3, 12, 4, 0).save)
answer("stage", body)
"""
    environment = {
        name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"
    }  # else it is this process's client
    process = processes.run("-c", body, env=environment)
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith("stage: ") and "has not all that was logged; free some space and run again" in line
    store = Store()
    assert store.versions() == []
    store.close()
    count("a record that could not be written", 1)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """Path.rglob passes over it, and a version without its files was published."""
    write_folder(tmp_path / "artifact", {"scores.json": b"{}", "figures/a.json": b"{}"})
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "figures":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        for read in (store.take, Scores.load):
            with pytest.raises((PermissionError, Incident), match="Permission denied"):
                read(tmp_path / "artifact")
    assert set(store.take(tmp_path / "artifact")) == {"scores.json", "figures/a.json"}
    count("folders that could not be read", 2)
