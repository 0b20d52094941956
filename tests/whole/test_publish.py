"""What was made without an account goes to a loopback server, with W&B's real client: all of it, once, whatever happens."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import Fault, Server
from tests.parts import processes
from tests.parts.chain import run
from tests.whole.test_online import LINEAGE, Lab, at_wandb, local, media_of
from train.tracking.declarations import declaration
from train.tracking.origin import Origin
from train.tracking.store import Store

COMMANDS = (
    "train.prepare --dataset digits",
    "patches = train.patches --images digits --patches 8",
    "eval.embed --encoder {patches}",
    "eval.probe --embeddings {patches} --resamples 200",
    "eval.probe --embeddings {patches} --resamples 300",  # the first probe is superseded: no alias names it
)
PUBLISH = ("-m", "train.tracking", "publish")
WRITES = ("CreateArtifact", "CommitArtifact", "UpsertBucket", "AddAliases", "CreateRunFiles", "UseArtifact")


Home = tuple[Path, dict[str, str]]


def make(home: Path, commands: Sequence[str], **names: str) -> Home:
    """Runs the commands offline in a home; their variants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(home))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        return home, run(commands, **names)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the first two stages have run."""
    return make(tmp_path_factory.mktemp("begun") / "peel", COMMANDS[:2])


@pytest.fixture(scope="module")
def made(begun: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One in which all have."""
    home = tmp_path_factory.mktemp("made") / "peel"
    return make(shutil.copytree(begun[0], home, symlinks=True), COMMANDS[2:], **begun[1])


@pytest.fixture
def server() -> Iterator[Server]:
    """It knows nothing yet."""
    with Server() as running:
        yield running
        assert running.unhandled == []


@pytest.fixture
def lab(made: Home, server: Server, tmp_path: Path) -> Lab:
    """A copy of that home."""
    return Lab(Path(shutil.copytree(made[0], tmp_path / "copy", symlinks=True)), server, made[1])


@pytest.fixture
def few(begun: Home, server: Server, tmp_path: Path) -> Lab:
    """Images and an encoder, which is made from them: enough for faults, that come while one run is sent."""
    return Lab(Path(shutil.copytree(begun[0], tmp_path / "copy", symlinks=True)), server, begun[1])


def publish(lab: Lab, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return lab.python(*PUBLISH, *arguments, **variables)


def whole(lab: Lab) -> None:
    """All that is here is there: versions once, aliases, digests, curves, and who made what from what."""
    assert at_wandb(lab.server).keys() == local(lab.store()).keys() and at_wandb(lab.server) == local(lab.store())
    state = lab.server.state
    store = lab.store()
    assert {run.name for run in state.runs.values()} == {row["id"] for row in store.rows("SELECT id FROM runs")}
    for run_ in state.runs.values():
        here = store.run(run_.name)
        assert (run_.job_type, run_.state) == (here.stage, "finished")
        names = {collection for _, collection in state.collections if not collection.startswith("run-")}
        inputs = {edge.version.reference for edge in state.inputs if edge.run == run_.name}
        assert inputs == {source.reference for source in here.inputs.values() if source}
        outputs = {
            version.reference
            for version in state.versions_of(state.outputs, run_.name)
            if version.collection.name in names
        }
        assert outputs == {version.reference for version in store.outputs(here)}


def test_what_was_made_here_is_there_with_its_lineage_and_a_second_time_makes_nothing(lab: Lab, tmp_path: Path) -> None:
    would = publish(lab, "--dry-run", "--json")
    assert would.returncode == 0, would.stderr
    plan = json.loads(would.stdout)
    objects = sum(path.stat().st_size for path in (lab.home / "store" / "objects").rglob("*") if path.is_file())
    assert plan["images"] == ["images:v0"] and plan["size"] == objects and len(plan["runs"]) == 5
    assert not set(WRITES) & set(lab.server.calls)

    done = publish(lab)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("5 published, 0 there already, 0 failed")
    whole(lab)
    lineage = json.loads(lab.python("-c", LINEAGE, "probe:latest").stdout)
    graph = json.loads(lab.python("-m", "train.tracking", "lineage", "probe", "--json").stdout)
    names = {f"{v.name}:{alias}": v.reference for v in lab.store().versions() for alias in v.aliases}
    edges = {tuple(names.get(reference, reference) for reference in edge) for edge in lineage}
    assert edges == {(edge["from"], edge["to"]) for edge in graph["edges"]}

    before = {name: lab.server.calls[name] for name in WRITES}
    blobs = set(lab.server.state.blobs)
    again = publish(lab)
    assert again.stdout.startswith("0 published, 5 there already, 0 failed, 0 aliases moved")
    assert {name: lab.server.calls[name] for name in WRITES} == before and set(lab.server.state.blobs) == blobs

    second = Lab(tmp_path / "second", lab.server, lab.names)
    second.home.mkdir()
    probe = ("-m", "eval.probe", "--embeddings", lab.names["patches"], "--resamples", "300")
    assert second.python(*probe).returncode == 0
    assert second.store().get("probe", "latest").digest == lab.store().get("probe", "latest").digest
    assert second.python(*probe, WANDB_MODE="offline").returncode == 0
    nothing = publish(second)
    assert nothing.returncode == 0 and at_wandb(lab.server) == local(lab.store()), "what was pulled is there already"


def test_what_is_sent_says_what_it_is_and_is_kept_for_as_long_as_was_asked(few: Lab) -> None:
    assert publish(few, PEEL_TTL="encoder=30").returncode == 0
    whole(few)  # neither changes a digest
    store = few.store()
    for version in few.server.state.versions.values():
        if version.collection.name.startswith("run-"):
            continue
        origin = Origin.load(store.folder(store.get(version.collection.name, "latest")))
        assert json.loads(version.metadata or "") == json.loads(json.dumps(dataclasses.asdict(origin)))
        assert version.description is not None
        assert version.description.casefold().startswith(declaration(version.collection.name).holds.casefold())
        assert f"python -m {origin.stage}" in version.description and str(origin.dataset) in version.description
        assert version.ttl == (30 * 24 * 3600 if version.collection.name == "encoder" else None)


def test_encoders_are_linked_to_a_registry_by_their_variant_and_once(few: Lab) -> None:
    patches = ("-m", "train.patches", "--images", "digits", "--patches", "8", "--registry", "encoders")
    offline = few.python(*patches, WANDB_MODE="offline")
    assert offline.returncode == 2 and "publish --registry encoders" in offline.stderr
    for _ in range(2):
        done = publish(few, "--registry", "encoders")
        assert done.returncode == 0 and "1 encoder linked to encoders" in done.stdout, done.stdout + done.stderr
    version = few.server.state.find("peel", "encoder:latest")
    assert few.server.state.links == {("wandb-registry-encoders", "digits-patches-8"): [version]}
    few.server.state.links.clear()
    done = few.python(*patches)
    assert done.returncode == 0, done.stderr
    assert few.server.state.links == {("wandb-registry-encoders", "digits-patches-8"): [version]}, "the same version"
    for wrong in ("", "a b", "wandb-registry-x"):
        refusal = publish(few, "--registry", wrong)
        assert refusal.returncode == 2 and f"--registry {wrong!r}" in refusal.stderr


def test_a_reference_takes_what_it_was_made_from_along_and_nothing_else(lab: Lab) -> None:
    done = publish(lab, f"embeddings:{lab.names['patches']}")
    assert done.returncode == 0, done.stderr
    assert {name.partition(":")[0] for name in at_wandb(lab.server)} == {"images", "encoder", "embeddings"}
    refusal = publish(lab, "probe:nothing")
    assert refusal.returncode == 2 and "no artifact 'probe:nothing'" in refusal.stderr


@pytest.mark.parametrize("whom", ["publication", "sender"])
def test_killed_at_any_moment_and_repeated_it_converges(few: Lab, whom: str) -> None:
    for calls in (3, 12, 25):  # of the server: the moment
        before = few.server.calls.total()
        process = processes.start(*PUBLISH, env=few.environment(), cwd=few.home)
        while process.poll() is None and few.server.calls.total() < before + calls:
            time.sleep(0.005)
        target = process.pid if whom == "publication" else next(iter(children(process.pid)), process.pid)
        if process.poll() is None:
            os.kill(target, signal.SIGKILL)
        process.communicate()
    last = publish(few)
    assert last.returncode == 0, last.stdout + last.stderr
    whole(few)
    assert publish(few).stdout.startswith("0 published, 2 there already, 0 failed, 0 aliases moved")


def children(pid: int) -> list[int]:
    """Those of a process; none where it has ended."""
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def test_a_name_of_another_type_stops_what_depends_on_it_and_nothing_else(lab: Lab) -> None:
    variables: dict[str, Any] = {
        "projectName": "peel",
        "artifactCollectionName": "embeddings",
        "artifactTypeName": "model",
    }
    version = lab.server.state.create({**variables, "digest": "0" * 32, "clientID": "somebody"})
    version.manifest = b'{"contents": {}}'
    version.number = 0
    version.collection.versions.append(version)
    version.collection.aliases["latest"] = version
    done = publish(lab)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("2 published, 0 there already, 3 failed")
    assert "eval.embed" in lines[0] and "type" in lines[0] and "Traceback" not in done.stdout + done.stderr
    assert all("it was made from embeddings:v0" in line for line in lines[1:3])


def test_a_refused_upload_is_one_line_and_the_rest_goes_on(few: Lab) -> None:
    few.server.faults.append(Fault("refuse", r"PUT /blob"))
    done = publish(few)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("not published: train.prepare digits -> images:v0: ")
    few.server.faults.clear()
    assert publish(few).returncode == 0
    whole(few)


def test_a_server_that_stops_answering_ends_it_and_the_next_time_it_goes_on(few: Lab) -> None:
    few.server.faults.append(Fault("drop", "UpsertBucket|RunResumeStatus|Viewer|ServerFeatures|ProjectArtifacts"))
    nobody = publish(few, WANDB__GRAPHQL_RETRY_MAX="1", WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS="1")
    assert nobody.returncode == 2 and len(nobody.stderr.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in nobody.stderr
    few.server.faults[:] = [Fault("hang", "CommitArtifact", times=1), Fault("fail", "CreateArtifact$", times=2)]
    done = publish(few, WANDB__GRAPHQL_TIMEOUT_SECONDS="2")  # it asks again, and goes on
    assert done.returncode == 0, done.stdout + done.stderr
    whole(few)


def test_without_a_record_a_run_is_incomplete_until_the_record_is_back(few: Lab, tmp_path: Path) -> None:
    elsewhere = (few.home / "wandb").rename(tmp_path / "wandb")
    first = publish(few)
    assert first.returncode == 1, first.stderr
    assert (
        first.stdout.count("incomplete: ") == 2
        and "0 published, 0 there already, 0 failed, 2 incomplete" in first.stdout
    )
    at = next(run for run in few.server.state.runs.values() if run.job_type == "train.prepare")
    assert at.group == "digits" and json.loads(at.config)["size"]["value"] == 32 and at.history == []
    before = {name: few.server.calls[name] for name in WRITES}
    assert publish(few).returncode == 1
    assert {name: few.server.calls[name] for name in WRITES} == before, "nothing is sent twice"
    done = publish(few, WANDB_DIR=str(elsewhere.parent))
    assert done.returncode == 0 and done.stdout.startswith("2 published, 0 there already, 0 failed, "), done.stdout
    whole(few)
    assert "images/samples" in media_of(at.history)


def test_without_an_account_it_says_how_to_get_one_and_what_would_go(lab: Lab) -> None:
    nobody = publish(lab, WANDB_MODE="offline")
    assert nobody.returncode == 2 and "wandb login" in nobody.stderr and len(nobody.stderr.splitlines()) == 1
    would = publish(lab, "--dry-run", WANDB_MODE="offline")
    assert would.returncode == 0 and "images are sent too: images:v0" in would.stdout
    assert would.stdout.splitlines()[-1].endswith("->  your W&B project")


def test_a_stage_says_when_its_input_is_here_but_not_there(lab: Lab) -> None:
    done = lab.python("-m", "eval.probe", "--embeddings", lab.names["patches"])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"python -m train.tracking publish embeddings:{lab.names['patches']}" in line


def test_a_damaged_copy_is_fetched_again_from_where_it_was_published(lab: Lab) -> None:
    assert publish(lab, f"embeddings:{lab.names['patches']}").returncode == 0
    store = lab.store()
    (vectors,) = [file for path, file in store.files(store.get("embeddings", "latest")).items() if path == "train.npy"]
    copy = store.object(vectors.md5)
    copy.chmod(0o644)
    copy.write_bytes(b"x" * vectors.size)
    probe = ("-m", "eval.probe", "--embeddings", lab.names["patches"], "--resamples", "300")
    offline = lab.python(*probe, WANDB_MODE="offline")
    assert offline.returncode == 2 and "loopback/peel/embeddings:v0" in offline.stderr
    assert lab.python(*probe).returncode == 0
    assert lab.python("-m", "train.tracking", "verify").returncode == 0


def test_a_store_of_the_first_format_is_brought_up_to_date_with_all_that_it_holds(made: Home, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made[0], tmp_path / "copy", symlinks=True))
    store = Store(copy / "store")
    before = [(version.reference, version.digest, version.aliases) for version in store.versions()]
    for table in ("remotes", "published", "journal"):
        store._connection.execute(f"DROP TABLE {table}")
    store._connection.execute("PRAGMA user_version = 1")
    store.journal.unlink()
    store.close()
    script = (
        "import sys; from pathlib import Path; from train.tracking.store import Store; Store(Path(sys.argv[1])).close()"
    )
    together = [processes.start("-c", script, copy / "store") for _ in range(4)]
    assert [process.communicate()[1] for process in together] == [""] * 4
    store = Store(copy / "store")
    assert [(version.reference, version.digest, version.aliases) for version in store.versions()] == before
    store.remember("http://127.0.0.1/somebody/peel", {store.get("images", "digits").id: "somebody/peel/images:v0"})
    assert store.remotes(store.get("images", "digits")) == {"http://127.0.0.1/somebody/peel": "somebody/peel/images:v0"}
    store.close()
