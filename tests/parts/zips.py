"""Zips as other packers write them, byte by byte: names in any encoding, flags, fields and methods of one's choice."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def raw_zip(
    at: Path,
    files: Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]],
    flags: Mapping[bytes, int] | None = None,
    extra: Mapping[bytes, bytes] | None = None,
    methods: Mapping[bytes, int] | None = None,
) -> Path:
    """Contents are stored as they are, whatever method is claimed."""
    at.parent.mkdir(parents=True, exist_ok=True)
    body, directory = b"", b""
    pairs = list(files.items() if isinstance(files, Mapping) else files)
    for name, content in pairs:
        flag, method, field = (flags or {}).get(name, 0), (methods or {}).get(name, 0), (extra or {}).get(name, b"")
        about = struct.pack(
            "<HHHHIIIHH", flag, method, 0, 0x21, zlib.crc32(content), len(content), len(content), len(name), len(field)
        )
        directory += (
            b"PK\1\2" + struct.pack("<HH", 20, 20) + about + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name + field
        )
        body += b"PK\3\4" + struct.pack("<H", 20) + about + name + field + content
    end = struct.pack("<HHHHIIH", 0, 0, len(pairs), len(pairs), len(directory), len(body), 0)
    at.write_bytes(body + directory + b"PK\5\6" + end)
    return at
