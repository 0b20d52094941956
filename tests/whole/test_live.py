"""A short chain at W&B's own servers, where PEEL_LIVE=1 and WANDB_API_KEY ask for it. It stays in the project `peel-live`.

The other online tests hold the client to a contract with a server of ours; this one asks whether W&B's keep it too.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import LIVE
from tests.whole.test_online import LINEAGE, WANDB, alone
from tests.whole.test_publish import COMMANDS, PUBLISH
from train.tracking.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not LIVE, reason="W&B's own servers are not asked: set PEEL_LIVE=1 and WANDB_API_KEY")
def test_what_was_made_here_is_published_and_read_again_at_wandb(tmp_path: Path) -> None:
    import subprocess

    def python(home: str, *arguments: str, **variables: str) -> str:
        folder = tmp_path / home
        folder.mkdir(exist_ok=True)
        environment = {**alone(), **LIVE, "WANDB_PROJECT": "peel-live", "PEEL_HOME": str(folder), **variables}
        process = subprocess.run(
            [sys.executable, *arguments], text=True, capture_output=True, cwd=ROOT, env={**environment}
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    output = python("one", "-m", "tests.parts.chain", "{}", *COMMANDS, WANDB_MODE="offline")
    patches = json.loads(output.splitlines()[-1])["patches"]
    python("one", *PUBLISH)
    assert "0 published" in python("one", *PUBLISH)
    python("two", "-m", "eval.index", "--embeddings", patches, "--k", "6")
    one, two = (Store(tmp_path / home / "store") for home in ("one", "two"))
    assert two.get("embeddings", patches).digest == one.get("embeddings", patches).digest
    edges = json.loads(python("two", "-c", LINEAGE, "neighbors:latest").splitlines()[-1])
    assert {name.partition(":")[0] for edge in edges for name in edge} == {
        "neighbors",
        "embeddings",
        "encoder",
        "images",
    }
    assert WANDB.exists()
