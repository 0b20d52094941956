"""A server that lies, hangs, drips or does not end: one line, in time, and none of its bytes stays."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.loopback import Fault, Server
from tests.loopback.state import Version, manifest_digest
from tests.whole.test_online import Lab
from tests.whole.test_security import FETCH, plant

QUICK = "import train.tracking.download as d; d.SECONDS, d.SILENCE, d.RETRIES = 2, 1, 0\n"
GHOST = base64.b64encode(hashlib.md5(b"ghost").digest()).decode()
Contents = dict[str, dict[str, Any]]

# What the manifest says, against what is there: how its contents are changed, whether the digest is that of the lie, and
# what the line says.
LIES: dict[str, tuple[Callable[[Contents], object], bool, str]] = {
    "digest": (lambda contents: contents["big"].update(digest=GHOST), False, "a manifest of digest"),
    "less": (lambda contents: contents["big"].update(size=1000), True, "more than 1000 bytes"),
    "more": (lambda contents: contents["big"].update(size=30_000), True, "arrived with 20000 bytes"),
    "other": (lambda contents: contents["big"].update(digest=GHOST), True, "not as the manifest says"),
    "petabyte": (lambda contents: contents["big"].update(size=10**15), True, "1,000,000,000,000,002 bytes"),
    "negative": (lambda contents: contents["big"].update(size=-1), True, "greater than or equal to 0"),
    "text": (lambda contents: contents["big"].update(size="many"), True, "valid integer"),
    "no digest": (lambda contents: contents["big"].pop("digest"), False, "big.digest"),
    "short digest": (lambda contents: contents["big"].update(digest="abcd"), True, "has no MD5 of 'big'"),
    "no base64": (lambda contents: contents["big"].update(digest="ä"), True, "has no MD5 of 'big'"),
    "inside a file": (
        lambda contents: contents.update({"big/x": contents["big"]}),
        True,
        "cannot download|has no file",
    ),
    "long": (lambda contents: contents.update({"n" * 300: contents["big"]}), True, "cannot download|has no file"),
    "absent": (lambda contents: contents.update(ghost={"digest": GHOST, "size": 5}), True, "has no file 'ghost'"),
}
NONSENSE = {
    "bytes": b"\xff\0",
    "list": b"[1]",
    "null": b"null",
    "contents": b'{"version": 1, "contents": [1]}',
    "empty": b"{}",
}
# What happens to the file: the line, unless it was slow besides.
FAULTS = {
    "hang": "cannot download",
    "drip": "did not give",
    "flood": "more than 20000 bytes",
    "drop": "cannot download",
    "fail": "cannot download",
    "refuse": "cannot download",
}


def put(server: Server, name: str) -> Version:
    """An artifact of that alias with a file that no other has."""
    plant(server, name, {"origin.json": b"{}", "big": name.encode().ljust(20_000, b"y")})
    version = server.state.find("peel", f"embeddings:{name}")
    assert version is not None
    return version


def check(lab: Lab, code: str, lines: dict[str, str]) -> None:
    """Fetches each alias. What is refused is refused with its line, and nothing of it stays."""
    lab.home.mkdir()
    process = lab.python("-c", code, *lines)
    assert process.returncode == 0, process.stderr
    for (alias, expected), answer in zip(lines.items(), map(json.loads, process.stdout.splitlines()), strict=True):
        assert answer is not None and re.search(expected, answer) and "\n" not in answer, (alias, answer)
    left = [path for path in lab.home.rglob("*") if path.is_file() and b"yyyy" in path.read_bytes()]
    left += [*(lab.home / "store" / "objects").rglob("*"), *(lab.home / "store" / "scratch").iterdir()]
    assert left == []


def test_a_server_that_lies_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    lines: dict[str, str] = {}
    with Server() as server:
        for name, (change, consistent, line) in LIES.items():
            version = put(server, name.replace(" ", "-"))
            lines[name.replace(" ", "-")] = line
            manifest = json.loads(version.manifest)
            change(manifest["contents"])
            version.lie = json.dumps(manifest).encode()
            version.digest = manifest_digest(manifest["contents"]) if consistent else version.digest
        for name, lie in NONSENSE.items():
            put(server, name).lie = lie
            lines[name] = "cannot download"
        check(Lab(tmp_path / "peel", server, {}), FETCH, lines)


def test_a_server_that_hangs_drips_or_does_not_end_is_refused_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    lines: dict[str, str] = {}
    with Server() as server:
        for kind, line in FAULTS.items():
            version = put(server, f"file-{kind}")
            lines[f"file-{kind}"] = f"{line}|did not give embeddings:file-{kind} within 2 s"
            server.faults.append(Fault(kind, f"/blob/{version.blobs['big']}"))  # type: ignore[arg-type]
        for kind in ("hang", "drip", "flood"):
            version = put(server, f"manifest-{kind}")
            lines[f"manifest-{kind}"] = f"did not give the manifest of embeddings:manifest-{kind} within 2 s"
            server.faults.append(Fault(kind, f"/manifest/{version.id}"))  # type: ignore[arg-type]
        check(Lab(tmp_path / "peel", server, {}), QUICK + FETCH, lines)
