"""The whole chain with an account: W&B's real client, online, against a loopback server.

It tests the contract of the client, not W&B's servers; test_live.py asks those.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.loopback import Server
from tests.parts import processes
from tests.parts.chain import CHAIN, EVALUATIONS, PANELS
from train.tracking.declarations import declarations
from train.tracking.store import Store

ROOT = Path(__file__).parents[2]
WANDB = Path(sys.executable).parent / "wandb"
DIGITS = {"source": "digits", "images": "digits", "epochs": "2", "batch": "64"}
# A second version of all but what takes long, or is of another variant.
ONCE = ("eval.project", "eval.cluster", "eval.generate", "eval.decode", "eval.latents", "eval.transfer")
SECOND = [command for command in EVALUATIONS if not command.startswith(ONCE)]
COMMANDS = (*CHAIN, *(command.replace("{vicreg}", "{neighbors}") for command in SECOND))
LINEAGE = """
import json, sys, wandb
api = wandb.Api()
edges, waiting, seen = [], [sys.argv[1]], set()
while waiting:
    reference = waiting.pop()
    if reference not in seen:
        seen.add(reference)
        run = api.artifact(reference).logged_by()
        for used in run.used_artifacts():
            edges.append([used.name, reference])
            waiting.append(used.name)
            assert run.id in [user.id for user in used.used_by()], "used_artifacts and used_by are one relation"
print(json.dumps(edges))
"""


@dataclass(frozen=True)
class Lab:
    """A home whose stages work online. names: the variants of the chain."""

    home: Path
    server: Server
    names: dict[str, str]

    def environment(self, **variables: str) -> dict[str, str]:
        path = f"{WANDB.parent}:{os.environ['PATH']}"  # as in an activated environment: an agent starts `python`
        ours = {"PEEL_HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT)}
        return {**alone(), **self.server.environment, **ours, **variables}

    def run(self, *command: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = self.environment(**variables)
        return subprocess.run(command, text=True, capture_output=True, cwd=self.home, env=environment)

    def python(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return processes.run(*arguments, env=self.environment(**variables), cwd=self.home)

    def store(self) -> Store:
        return Store(self.home / "store")


def alone() -> dict[str, str]:
    """The environment, without the client that this process may have started: a child has its own."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def chain(server: Server, home: Path, **variables: str) -> Lab:
    home.mkdir()
    lab = Lab(home, server, {})
    # A real start: chains that shall make the same bytes have another seed of `hash()` each.
    done = lab.run(sys.executable, "-m", "tests.parts.chain", json.dumps(DIGITS), *COMMANDS, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    lab.names.update(json.loads(done.stdout.splitlines()[-1]))
    return lab


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def handled(server: Server) -> Iterator[None]:
    """A test that calls what the server does not speak has failed, whatever the client made of it."""
    before = len(server.unhandled)
    yield
    assert server.unhandled[before:] == []


@pytest.fixture(scope="module")
def lab(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return chain(server, tmp_path_factory.mktemp("online") / "peel")


def at_wandb(server: Server) -> dict[str, str]:
    """As `local`. A table that holds images makes an artifact of its own, `run-...`, which is no business of ours."""
    return {name: digest for name, digest in server.references().items() if not name.startswith("run-")}


def local(store: Store) -> dict[str, str]:
    """NAME:vN and NAME:ALIAS -> digest."""
    versions = store.versions()
    return {
        f"{version.name}:{name}": version.digest
        for version in versions
        for name in (f"v{version.number}", *version.aliases)
    }


def test_every_version_and_alias_is_at_wandb_with_its_digest(lab: Lab) -> None:
    assert at_wandb(lab.server) == local(lab.store())
    assert {version.name for version in lab.store().versions()} == declarations().keys() - {"sweep"}


def test_the_same_commands_offline_make_the_same_bytes(lab: Lab, tmp_path: Path) -> None:
    offline = chain(lab.server, tmp_path / "peel", WANDB_MODE="offline")
    assert local(offline.store()) == local(lab.store())


def test_every_artifact_says_at_wandb_what_made_it_of_what_from_what(lab: Lab) -> None:
    store = lab.store()
    versions = {
        version.reference: version for version in lab.server.state.versions.values() if version.number is not None
    }
    for version in store.versions():
        copy = versions[version.reference]
        origin = json.loads((store.folder(version) / "origin.json").read_text())
        assert json.loads(copy.metadata or "") == origin and copy.ttl is None
        assert f"python -m {origin['stage']}" in (copy.description or "")


def test_lineage_from_the_report_to_the_images_is_the_local_one(lab: Lab) -> None:
    answer = lab.python("-c", LINEAGE, "report:digits")
    assert answer.returncode == 0, answer.stderr
    lineage = lab.python("-m", "train.tracking", "lineage", "report:digits", "--json")
    edges = [[edge["from"], edge["to"]] for edge in json.loads(lineage.stdout)["edges"]]
    versions = {f"{v.name}:{alias}": v.reference for v in lab.store().versions() for alias in v.aliases}
    remote = [[versions.get(reference, reference) for reference in edge] for edge in json.loads(answer.stdout)]
    assert sorted(remote) == sorted(edges) and ["images:v0", "embeddings:v0"] in edges


def test_every_promised_panel_and_its_file_arrives(lab: Lab) -> None:
    runs = [run for run in lab.server.state.runs.values() if run.project == lab.server.project]
    for stage, panels in PANELS.items():
        if stage == "eval.sweep":  # below
            continue
        run = next(run for run in runs if run.job_type == stage)
        assert run.state == "finished"
        media = media_of(run.history)
        assert {panel: media[panel]["_type"] for panel in panels} == panels, stage
        for panel in panels:
            assert run.files[media[panel]["path"]], f"{stage} {panel}"


def media_of(history: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        key: value for line in history for key, value in line.items() if isinstance(value, dict) and "path" in value
    }


def test_curves_arrive_whole_with_an_axis_of_their_own(lab: Lab) -> None:
    run = next(run for run in lab.server.state.runs.values() if run.job_type == "train.pretrain" and run.history)
    batches = [line["batch"] for line in run.history if "loss/total" in line]
    assert batches == list(range(1, 2 * (1437 // 64) + 1))
    assert [line["epoch"] for line in run.history if "knn/top1" in line] == [0, 1, 2]


def test_a_missing_alias_is_one_line(lab: Lab) -> None:
    done = lab.python("-m", "eval.probe", "--embeddings", "digits-nothing")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "loopback/peel/embeddings:digits-nothing" in line and "python -m train.eigenmaps or eval.embed" in line


def test_aliases_move_to_what_was_made_last(lab: Lab) -> None:
    before = at_wandb(lab.server)
    done = lab.python("-m", "eval.probe", "--embeddings", lab.names["vicreg"], "--resamples", "201")
    assert done.returncode == 0, done.stderr
    after = at_wandb(lab.server)
    (new,) = set(after) - set(before)
    assert re.fullmatch(r"probe:v\d+", new) and after[new] not in before.values()
    references = {reference for reference, digest in after.items() if before.get(reference, digest) != digest}
    assert references == {f"probe:{alias}" for alias in ("latest", lab.names["vicreg"], f"{lab.names['vicreg']}-s0")}


def test_what_was_pulled_is_there_offline(lab: Lab, tmp_path: Path) -> None:
    second = Lab(tmp_path, lab.server, lab.names)
    command = ("-m", "eval.index", "--embeddings", lab.names["vicreg"], "--k", "6")
    done = second.python(*command)
    assert done.returncode == 0, done.stderr
    online = local(second.store())
    calls = lab.server.calls.total()
    done = second.python(*command, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert local(second.store()) == online and online["neighbors:latest"] in at_wandb(lab.server).values()
    assert lab.server.calls.total() == calls


def test_wandbs_own_sweep_and_agent_run_our_file_and_eval_sweep_reads_it(lab: Lab) -> None:
    definition = yaml.safe_load((ROOT / "sweeps" / "terms.yaml").read_text())
    smaller = {"epochs": 1, "seed": 0, "covariance": 1.0, "invariance": 25.0, "width": 4}
    definition["parameters"] |= {name: {"value": value} for name, value in smaller.items()}
    (lab.home / "terms.yaml").write_text(yaml.safe_dump(definition))
    output = lab.run(WANDB, "sweep", "--project", "peel", "terms.yaml")
    sweep = re.search(r"wandb agent (\S+/\S+/\S+)", output.stdout + output.stderr)
    assert sweep, output.stderr
    agent = lab.run(WANDB, "agent", sweep[1])
    assert agent.returncode == 0, agent.stderr[-3000:]
    runs = [run for run in lab.server.state.runs.values() if run.sweep]
    points = {tuple(json.loads(run.config)[term]["value"] for term in ("invariance", "variance")) for run in runs}
    assert [run.state for run in runs] == ["finished"] * 2, agent.stderr[-3000:]
    assert points == {(25.0, 25.0), (25.0, 0.0)}
    summary = lab.python("-m", "eval.sweep", "--sweep", sweep[1])
    assert summary.returncode == 0, summary.stderr
    store = lab.store()
    folder = store.folder(store.get("sweep", "latest"))
    scores = json.loads((folder / "scores.json").read_text())
    best = max(json.loads(run.summary)["knn/top1"] for run in runs)
    assert scores["sweep/best/value"] == pytest.approx(best)
    media = media_of(next(run for run in lab.server.state.runs.values() if run.job_type == "eval.sweep").history)
    assert {panel: media[panel]["_type"] for panel in PANELS["eval.sweep"]} == PANELS["eval.sweep"]


def test_the_server_speaks_every_operation_that_the_client_called(lab: Lab) -> None:
    """Last: `pytest -rP tests/whole/test_online.py` shows what it prints."""
    for name, count in sorted(lab.server.calls.items()):
        print(f"{count:6} {name}")
    assert lab.server.unhandled == []
    assert {"CommitArtifact", "UseArtifact", "UpsertBucket", "UpsertSweep", "Heartbeat"} <= set(lab.server.calls)
