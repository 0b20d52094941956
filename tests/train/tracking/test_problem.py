"""What the disk, the file system or the memory refuses is one line with the reason and a cure, whoever met it."""

import errno
import mmap
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

from train.tracking.problem import CURES, Incident, Problem, incident, naming, reading

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


def refused(body: Callable[[], object]) -> str:
    """The line for what `body` raises."""
    with pytest.raises(Exception) as error:  # of any class: that is the point
        body()
    line = incident(error.value)
    assert line is not None, repr(error.value)
    assert "\n" not in str(line)
    return str(line)


def big_index() -> "faiss.IndexFlatL2":
    index = faiss.IndexFlatL2(32)
    index.add(np.zeros((1000, 32), np.float32))
    return index


@needs_full
@pytest.mark.parametrize(
    "write",
    [
        lambda: FULL.write_bytes(b"x"),
        lambda: FULL.write_text("x" * 99_999),
        lambda: np.save(FULL.open("wb"), np.zeros(100_000)),
        lambda: PIL.Image.new("RGB", (9, 9)).save(FULL, "PNG"),
        lambda: faiss.write_index(big_index(), str(FULL)),
        lambda: shutil.copyfile(__file__, FULL),
    ],
    ids=["bytes", "text", "numpy", "Pillow", "FAISS", "copy"],
)
def test_a_full_disk_is_one_line_whatever_writes(write: Callable[[], object]) -> None:
    line = refused(write)
    assert "No space left on device" in line and line.endswith("; free some space and run again")


def test_a_file_above_its_limit_is_one_line(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError) as error, naming(tmp_path / "weights"):
            save_file({"x": torch.zeros(1000)}, tmp_path / "weights")
        text = refused(lambda: (tmp_path / "text").write_text("x" * 9999))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "weights"))
    assert text.startswith("the disk: File too large; raise the limit on the size of a file (ulimit -f)")


def test_no_more_open_files_is_one_line_for_files_and_for_artifacts(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        line = refused((tmp_path / "x").read_bytes)
        with pytest.raises(Incident, match="ulimit -n"), reading(tmp_path):
            (tmp_path / "x").read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert line == f"{tmp_path / 'x'}: Too many open files; raise the limit on open files (ulimit -n) and run again"


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(1 << 58),
        lambda: torch.empty(1 << 58),
        lambda: bytearray(1 << 60),
        lambda: mmap.mmap(-1, 1 << 60),
        lambda: torch.zeros(1 << 50).sum(),
        lambda: faiss.Float32Vector().resize(1 << 50),
    ],
    ids=["numpy", "torch", "Python", "mmap", "torch's zeros", "C++"],
)
def test_memory_that_is_not_there_is_one_line_whoever_asked_for_it(allocate: Callable[[], object]) -> None:
    line = refused(allocate)
    assert "close other programs, or take fewer images or a smaller batch and run again" in line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        MemoryError(),
    ],
)
def test_short_memory_is_known_by_the_words_of_each_library(error: Exception) -> None:
    assert "close other programs" in str(incident(error))


@pytest.mark.parametrize("number", CURES)
def test_an_error_of_the_system_is_named_also_where_native_code_says_it_in_its_own_words(number: int) -> None:
    reason = os.strerror(number)
    for error in (
        OSError(number, reason, "/a/file"),
        RuntimeError(f"Error in faiss::write_index: write error in /a/file: 3 != 12 ({reason})"),
        ValueError(f"Error while serializing: I/O error: {reason} (os error {number})"),
    ):
        line = str(incident(error))
        assert (reason in line and "/a/file" in line) or "serializing" in line
        assert line.endswith(f"; {CURES[number]} and run again")


def test_of_a_copy_what_is_written_is_named() -> None:
    line = str(incident(OSError(errno.ENOSPC, "", "/from", None, "/to")))
    assert line.startswith("/to: No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "x", "y"),
        ValueError("x"),
        RuntimeError("shapes differ"),
        OSError("x"),
        KeyError(1),
    ],
)
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert incident(error) is None
    with pytest.raises(type(error)), naming(Path("file")):
        raise error
    with pytest.raises(Problem, match="does not hold what its stage writes"), reading(Path("folder")):
        raise error
