"""W&B's own record of an offline run: a file RUN.wandb, of which `publish` makes the run at W&B."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
WHOLE, FIRST, LAST = 1, 2, 4  # kinds of pieces; 3 is one in the middle


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
