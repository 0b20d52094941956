"""A server that lies, hangs, drips or does not end: one line, in time, and none of its bytes stays."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.loopback import Fault, Server
from tests.loopback.state import manifest_digest
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
    "inside a file": (lambda contents: contents.update({"big/x": contents["big"]}), True, "has no file"),
    "long": (lambda contents: contents.update({"n" * 300: contents["big"]}), True, "has no file"),
    "absent": (lambda contents: contents.update(ghost={"digest": GHOST, "size": 5}), True, "has no file 'ghost'"),
}
NONSENSE = {
    "bytes": b"\xff\0",
    "list": b"[1]",
    "null": b"null",
    "contents": b'{"version": 1, "contents": [1]}',
    "empty": b"{}",
}
FAULTS = {
    "hang": "cannot download",
    "drip": "did not give embeddings:blob-drip within",
    "flood": "more than 20000 bytes",
    "drop": "cannot download",
    "fail": "cannot download",
    "refuse": "cannot download",
}


def test_whatever_a_server_says_is_one_line_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    lines: dict[str, str] = {}
    with Server() as server:

        def put(name: str, line: str) -> Any:
            alias = name.replace(" ", "-")
            plant(server, alias, {"origin.json": b"{}", "big": name.encode().ljust(20_000, b"y")})
            lines[alias] = line
            return server.state.find("peel", f"embeddings:{alias}")

        for name, (change, consistent, line) in LIES.items():
            version = put(name, line)
            manifest = json.loads(version.manifest)
            change(manifest["contents"])
            version.lie = json.dumps(manifest).encode()
            version.digest = manifest_digest(manifest["contents"]) if consistent else version.digest
        for name, lie in NONSENSE.items():
            put(name, "cannot download").lie = lie
        for name, line in FAULTS.items():
            version = put(f"blob-{name}", line)
            server.faults.append(Fault(name, f"/blob/{version.blobs['big']}"))  # type: ignore[arg-type]
        for name in ("hang", "drip", "flood"):
            version = put(f"manifest-{name}", f"did not give the manifest of embeddings:manifest-{name} within 2 s")
            server.faults.append(Fault(name, f"/manifest/{version.id}"))  # type: ignore[arg-type]
        lab = Lab(tmp_path / "peel", server, {})
        lab.home.mkdir()
        process = lab.python("-c", QUICK + FETCH, *lines)
    assert process.returncode == 0, process.stderr
    for (alias, expected), answer in zip(lines.items(), map(json.loads, process.stdout.splitlines()), strict=True):
        assert answer is not None and expected in answer and "\n" not in answer, (alias, answer)
    left = [path for path in lab.home.rglob("*") if path.is_file() and b"yyyy" in path.read_bytes()]
    assert left == [], "none of its bytes stays"
    assert list((lab.home / "store" / "objects").rglob("*")) == list((lab.home / "store" / "scratch").iterdir()) == []
