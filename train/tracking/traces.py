"""What W&B's client leaves on this machine, and where: records of runs, and copies staged for upload.

The environment says where when a run is made (WANDB_DIR, which W&B's agent sets too). A link in the home to each record
outside of it says so ever after, wherever a reader runs and whatever its environment says.
"""

import contextlib
import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from train.tracking.environment import folder, home

TEMPORARY = "tmp[a-z0-9_]{8}"  # tempfile's names
BLOCK = 32768
WHOLE, FIRST, LAST = 1, 2, 4  # kinds of pieces; 3 is one in the middle
RUN, NOTES = 17, 9  # numbers of fields: of the client's Record, and of the RunRecord in it

# -- records of runs ---------------------------------------------------------------------------------------------------


def places() -> list[Path]:
    """The folders that hold records: in the home, the links, and where WANDB_DIR says."""
    outside = folder("WANDB_DIR")
    own = home() / "wandb"
    return list(dict.fromkeys([own, own / "elsewhere", *([outside / "wandb", outside / ".wandb"] if outside else [])]))


def record(run: str) -> Path | None:
    """The folder of W&B's own record of a run, its curves and panels; the latest where it was resumed, an offline one
    before what was sent as it was made. None where it is out of reach."""
    folders = [
        path
        for place in places()
        for path in place.glob(f"*run-*-{glob.escape(run)}*")
        if (path / f"run-{run}.wandb").is_file()
    ]
    return max(folders, key=lambda path: (path.name.startswith("offline-"), path.name), default=None)


def link(record: Path) -> None:
    """Has the home say where a record is that W&B's client writes outside of it."""
    if record.parent == home() / "wandb":
        return
    target = home() / "wandb" / "elsewhere" / record.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        target.symlink_to(record.absolute())


def entries(log: bytes) -> Iterator[bytes]:
    """The content of a .wandb file without its framing: LevelDB's log format (blocks of 32 KiB; before each piece a
    checksum of 4 bytes, its length in 2, its kind in 1), after a header of 7 bytes."""
    entry = b""
    at = 7
    while at + 7 <= len(log):
        room = BLOCK - at % BLOCK
        if room < 7:  # the rest of a block is padding
            at += room
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        piece = log[at + 7 : at + 7 + length]
        entry = piece if kind in (WHOLE, FIRST) else entry + piece
        if kind in (WHOLE, LAST):
            yield entry
        at += 7 + length
    if entry and kind not in (WHOLE, LAST):
        yield entry


def notes(path: Path) -> str | None:
    """The notes of the run whose record is at `path`, the stage's finding; None where it has none, or cannot be read.

    Read without the client, which takes a second to import.
    """
    text = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        for entry in entries(path.read_bytes()):
            for run in _fields(entry, RUN):
                text = next((note.decode() for note in _fields(run, NOTES) if note), text)
    return text


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """The texts and messages that a protobuf message has as its field `number`."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(message, at)
            if key >> 3 == number:
                yield message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}.get(kind, len(message))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def is_whole(path: Path) -> bool:
    """Whether the record at `path` has all that was logged. W&B's client, a process of its own, writes it, and says nothing
    where the disk takes it no more."""
    from wandb.proto import wandb_internal_pb2 as messages

    count, last = 0, b""
    try:
        for entry in entries(path.read_bytes()):
            count, last = count + 1, entry
        record: Any = messages.Record.FromString(last)  # type: ignore[attr-defined]
    except Exception:  # protobuf has several versions and several errors
        return False
    return bool(record.num == count and record.WhichOneof("record_type") == "exit")


# -- copies staged for upload ------------------------------------------------------------------------------------------


def staged_copies(runs: Iterable[str]) -> list[Path]:
    """Copies in the home that the client staged for upload and that no run on this machine refers to; none while the
    record of one of `runs` is out of reach, which may refer to any. A folder that WANDB_DATA_DIR names is not ours alone."""
    staging = home() / "wandb" / "data" / "artifacts" / "staging"
    copies = {path.name: path for path in sorted(staging.glob("tmp*")) if re.fullmatch(TEMPORARY, path.name)}
    if not copies:
        return []
    logs = list(_logs())
    if {f"run-{run}.wandb" for run in runs} - {log.name for log in logs}:
        return []
    for log in logs:
        for name in re.findall(f"staging/({TEMPORARY})".encode(), b"".join(entries(log.read_bytes()))):
            copies.pop(name.decode(), None)
    return list(copies.values())


def _logs() -> Iterator[Path]:
    """The files that hold the records."""
    for place in places():
        yield from place.glob("*run-*/*.wandb")
