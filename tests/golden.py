"""Whether a change of the house left what it makes as it was: digests of four tiny trainings, of every artifact of `make run`
and of its page, written to a file, or compared with one. Both must come from one machine.

    python -m tests.golden HOME before.json     # HOME: a PEEL_HOME that `make run` has filled
    python -m tests.golden OTHER before.json    # again, after the change: says what differs

Kept until the moves are done. It reads the store's files and tables alone, so that it runs at any revision.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

TRAININGS = (
    "--preset small --epochs 1",
    "--preset small --epochs 1 --variance 0 --optimizer adam",
    "--preset default --epochs 1 --width 16",
    "--preset small --views neighbors --neighbors digits-vicreg",
)


def digests(home: Path) -> dict[str, str]:
    """Of every version in a store, by its first alias."""
    with contextlib.closing(sqlite3.connect(home / "store" / "registry.sqlite")) as registry:
        rows = registry.execute(
            "SELECT versions.name || ':' || (SELECT min(alias) FROM aliases WHERE version = versions.id"
            " AND alias != 'latest'), digest FROM versions"
        )
        return {str(name): str(digest) for name, digest in rows if name}


def trainings(home: Path) -> dict[str, str]:
    """Digests of the weights, by flags, on the images and neighbors of `home`."""
    weights = {}
    for flags in TRAININGS:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["cp", "-r", f"{home}/store", folder], check=True)
            command = [sys.executable, "-m", "train.pretrain", "--images", "digits", *flags.split(), "--seed", "7"]
            environment = {**os.environ, "PEEL_HOME": folder, "WANDB_MODE": "offline"}
            said = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
            (line,) = [line for line in said.splitlines() if line.startswith("encoder:")]
            weights[flags] = content(Path(folder), int(line.split()[0].removeprefix("encoder:v")))
    return weights


def content(home: Path, number: int) -> str:
    """The MD5 of an encoder's weights."""
    with contextlib.closing(sqlite3.connect(home / "store" / "registry.sqlite")) as registry:
        ((md5,),) = registry.execute(
            "SELECT md5 FROM files JOIN versions ON versions.id = version"
            " WHERE name = 'encoder' AND number = ? AND path = 'weights.safetensors'",
            [number],
        )
        return str(md5)


def main(home: Path, file: Path) -> int:
    page = hashlib.sha256((home / "lab-book.html").read_bytes()).hexdigest()
    now = {**digests(home), **trainings(home), "lab-book.html": page}
    if not file.exists():
        file.write_text(json.dumps(now, indent=1))
        print(f"{len(now)} digests written")
        return 0
    before = json.loads(file.read_text())
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            print(f"{name}: {before.get(name)} -> {now.get(name)}")
    same = sum(before[name] == now.get(name) for name in before)
    print(f"{same} of {len(before)} digests are equal")
    return int(same < len(before) or len(now) > len(before))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
