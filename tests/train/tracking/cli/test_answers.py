import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.parts import processes
from tests.parts.versions import put
from train.tracking.store import Store, home

ROOT = Path(__file__).parents[4]


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return processes.run("-m", "train.tracking", *arguments)


def ask(*arguments: object, code: int = 0) -> Any:
    """The JSON answer."""
    process = run(*arguments, "--json")
    assert (process.returncode, process.stderr) == (code, "")
    return json.loads(process.stdout)


def tell(*arguments: object, code: int = 0) -> str:
    """What a person reads."""
    process = run(*arguments)
    assert (process.returncode, process.stderr) == (code, "")
    return process.stdout


def refuse(*arguments: object) -> str:
    process = run(*arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.count("\n") == 1
    return process.stderr


@pytest.fixture
def store() -> Iterator[Store]:
    """images <- encoder (second version) <- embeddings <- neighbors, anomaly <- report; anomaly reads all four."""
    full = Store()
    put(full, "images", {"train.npy": "pixels"}, ["digits"], stage="train.prepare")
    put(full, "encoder", {"weights": "bad"}, ["x", "x-s0"], [("images", "digits")], stage="train.pretrain")
    put(full, "encoder", {"weights": "good"}, ["x", "x-s0"], [("images", "digits")], stage="train.pretrain")
    sources = [("images", "digits"), ("encoder", "x")]
    put(full, "embeddings", {"train.npy": "vectors", "deep/er.npy": "more"}, ["x"], sources, stage="eval.embed")
    put(full, "neighbors", {"index": "i"}, ["x"], [("embeddings", "x"), ("encoder", "none")], stage="eval.index")
    sources = [("embeddings", "x"), ("neighbors", "x"), ("images", "digits")]
    put(full, "anomaly", {"scores.json": "{}"}, ["x-vs-photos"], sources, stage="eval.anomaly")
    put(
        full,
        "report",
        {"page": "p"},
        ["digits"],
        [("anomaly", "x-vs-photos"), ("neighbors", "x")],
        stage="eval.report",
    )
    yield full
    full.close()


@pytest.mark.parametrize("command", [["ls"], ["lineage", "report"], ["show", "encoder:x"], ["verify"], ["gc"]])
def test_no_command_imports_torch_or_wandb(store: Store, command: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv[1:] = {command!r}\n"
        "runpy.run_module('train.tracking', run_name='__main__', alter_sys=True)\n"
        "slow = {'torch', 'wandb', 'numpy', 'plotly', 'pandas', 'tyro'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (process.returncode, process.stderr) == (0, "")


def test_looking_into_an_empty_home_makes_nothing(tmp_path: Path) -> None:
    for command in (["ls"], ["ls", "images"], ["verify"], ["gc"], ["gc", "--yes"]):
        assert (
            tell(*command) == f"nothing is stored in {home()} yet; run make run, or set PEEL_HOME to another folder\n"
        )
    assert ask("ls") == []
    for command in (["show", "images"], ["lineage", "images:v0"], ["pull", "images", "--to", str(tmp_path / "to")]):
        assert "run make run" in refuse(*command)
    assert list(tmp_path.iterdir()) == []


def test_ls_tells_versions_in_the_order_of_the_data_flow_and_what_made_them_from_what(store: Store) -> None:
    entries = ask("ls")
    assert [entry["reference"] for entry in entries] == [
        "images:v0", "encoder:v0", "encoder:v1", "embeddings:v0", "neighbors:v0", "anomaly:v0", "report:v0",
    ]  # fmt: skip
    embeddings = entries[3]
    assert embeddings["inputs"] == {"images:digits": "images:v0", "encoder:x": "encoder:v1"}
    assert (embeddings["stage"], embeddings["size"]) == ("eval.embed", len("vectors") + len("more"))
    assert embeddings["aliases"] == ["latest", "x"]
    assert [entry["reference"] for entry in ask("ls", "encoder")] == ["encoder:v0", "encoder:v1"]
    table = tell("ls").splitlines()
    assert len(table) == 1 + len(entries)
    for line, entry in zip(table[1:], entries, strict=True):
        assert line.startswith(entry["reference"])
        assert line.endswith(", ".join(entry["aliases"]) or "-")
        assert f"{entry['stage']} variant" in line
    assert "run: python -m eval.probe" in tell("ls", "probe")


def test_show_tells_files_config_code_inputs_and_readers(store: Store, tmp_path: Path) -> None:
    entry = ask("show", "embeddings:x")
    path = tmp_path / "file"
    artifact = wandb.Artifact("embeddings", "t")
    for name, text in (("train.npy", "vectors"), ("deep/er.npy", "more")):
        path.write_text(text)
        artifact.add_file(str(path), name=name)
    assert entry["digest"] == artifact.digest
    assert entry["files"] == [
        {"path": "deep/er.npy", "md5": hashlib.md5(b"more").hexdigest(), "size": 4},
        {"path": "train.npy", "md5": hashlib.md5(b"vectors").hexdigest(), "size": 7},
    ]
    assert (entry["config"], entry["revision"], entry["seconds"]) == ({"lr": 0.1}, "abc", 1.0)
    assert [(reader["stage"], reader["made"]) for reader in entry["readers"]] == [
        ("eval.index", ["neighbors:v0"]),
        ("eval.anomaly", ["anomaly:v0"]),
    ]
    text = tell("show", "embeddings:x")
    for fact in (artifact.digest, "deep/er.npy", entry["run"], "lr=0.1", "encoder:v1", "neighbors:v0", "latest, x"):
        assert fact in text
    assert ask("show", "neighbors")["inputs"] == {"embeddings:x": "embeddings:v0", "encoder:none": None}


def test_show_has_the_numbers_of_scores_those_with_an_interval_first(store: Store) -> None:
    values = {
        "a/other": 3,
        "probe/top1": 0.95,
        "probe/top1/interval": [0.928, 0.97],
        "probe/classes": ["cat"],
        "x/one-minus-two/difference": -0.5,
        "x/one-minus-two/interval": None,
        "x/one-minus-two/verdict": "not decided",
    }
    put(store, "probe", {"scores.json": json.dumps(values)}, ["x"], [("embeddings", "x")], stage="eval.probe")
    assert ask("show", "probe:x")["numbers"] == values
    lines = [line.split("  ") for line in tell("show", "probe:x").splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    start = rows.index(["Numbers"])
    assert rows[start + 1 : start + 5] == [
        ["MEASURE", "VALUE", "95 % INTERVAL", "VERDICT"],
        ["probe/top1", "0.95", "0.928 to 0.97"],
        ["x/one-minus-two", "-0.5", "not decided"],
        ["a/other", "3"],
    ]
    assert ask("show", "embeddings:x")["numbers"] == {}


def test_lineage_reaches_the_images_and_tells_each_version_in_full_once(store: Store) -> None:
    graph = ask("lineage", "report:latest")
    assert graph["root"] == "report:v0"
    sources = {
        "report:v0": {"anomaly:v0", "neighbors:v0"},
        "anomaly:v0": {"embeddings:v0", "neighbors:v0", "images:v0"},
        "neighbors:v0": {"embeddings:v0"},
        "embeddings:v0": {"encoder:v1", "images:v0"},
        "encoder:v1": {"images:v0"},
        "images:v0": set(),
    }
    assert {node["reference"] for node in graph["nodes"]} == set(sources)
    assert sorted((edge["to"], edge["from"]) for edge in graph["edges"]) == sorted(
        (version, source) for version, inputs in sources.items() for source in inputs
    )
    tree = tell("lineage", "report:latest").splitlines()
    for node in graph["nodes"]:
        lines = [line for line in tree if node["reference"] in line.split("  ")[0] or f" {node['reference']} " in line]
        assert all(node["digest"] in line for line in lines)
        full = [line for line in lines if "(above)" not in line]
        assert len(full) == 1
        assert node["stage"] in full[0]
        assert tree.index(full[0]) == min(tree.index(line) for line in lines)
    depth = {line.lstrip("│├└─ ").split()[0]: len(line) - len(line.lstrip("│├└─ ")) for line in reversed(tree[1:])}
    assert depth["report:v0"] < depth["anomaly:v0"] < depth["embeddings:v0"] < depth["encoder:v1"]


def test_pull_copies_the_files_and_leaves_equal_ones(store: Store, tmp_path: Path) -> None:
    to = tmp_path / "new" / "folder"
    assert ask("pull", "embeddings:x", "--to", to)["files"] == ["deep/er.npy", "train.npy"]
    files = {path.relative_to(to).as_posix(): path.read_text() for path in to.rglob("*") if path.is_file()}
    assert files == {"train.npy": "vectors", "deep/er.npy": "more"}
    assert not any(path.is_symlink() for path in to.rglob("*"))
    (to / "train.npy").unlink()
    (to / "mine").write_text("stays")
    assert "1 file, 1 already there" in tell("pull", "embeddings:x", "--to", to)
    (to / "train.npy").write_text("edited")  # a copy of one's own, not the store's file
    assert (to / "mine").read_text() == "stays"
    assert ask("verify")["problems"] == []


def test_pull_writes_nothing_where_another_file_stands_in_the_way(store: Store, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "train.npy").write_text("mine")
    assert "train.npy exists with other content" in refuse("pull", "embeddings:x", "--to", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["train.npy"]
    (tmp_path / "file").write_text("")
    assert "choose another --to" in refuse("pull", "embeddings:x", "--to", tmp_path / "file")


@pytest.mark.parametrize("path", ["../out", "/tmp/peel-out", "deep/../../out", "link/out"])
def test_pull_never_leaves_its_folder(store: Store, tmp_path: Path, path: str) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / "link").symlink_to(tmp_path)
    version = store.get("embeddings", "x")
    with store.transaction() as change:  # as a registry that somebody else made might say
        change.put("files", version.id, path, *store.files(version)["deep/er.npy"])
    assert "out of" in refuse("pull", "embeddings:x", "--to", to)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["peel", "to"]
    assert [entry.name for entry in to.iterdir()] == ["link"]


def test_a_flipped_byte_is_named_with_what_it_breaks(store: Store, tmp_path: Path) -> None:
    assert tell("verify") == "8 files, 7 versions: 0 problems\n"
    path = store.object(hashlib.md5(b"good").hexdigest())
    path.chmod(0o644)
    path.write_bytes(b"good"[::-1])
    text = tell("verify", code=1)
    assert text.splitlines()[-1] == "8 files, 7 versions: 1 problem"
    (problem,) = ask("verify", code=1)["problems"]
    assert str(path) in problem["what"]
    assert problem["breaks"] == ["encoder:v1 (weights)"]
    assert problem["beyond"] == ["embeddings:v0", "neighbors:v0", "anomaly:v0", "report:v0"]
    for part in (str(path), *problem["breaks"], *problem["beyond"]):
        assert part in text
    assert "encoder:v1 is damaged: weights has changed" in refuse("pull", "encoder:x", "--to", tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_gc_tells_first_and_frees_with_yes(store: Store) -> None:
    for version in store.versions():
        store.folder(version)
    (store.scratch / "killed").mkdir()
    (store.scratch / "killed" / "half.npy").write_bytes(b"x" * 1000)
    (store.objects / "ff").mkdir(exist_ok=True)
    (store.objects / "ff" / ("f" * 32)).write_bytes(b"x" * 100)
    (store.folders / "probe-v9").mkdir()
    before = sorted(home().rglob("*"))
    answer = ask("gc")
    assert sorted(path for path in home().rglob("*") if path.name != "lock") == [
        path for path in before if path.name != "lock"
    ]
    assert answer["versions"] == ["encoder:v0"]
    assert {kind["kind"]: kind["count"] for kind in answer["kinds"]} == {
        "superseded versions": 1,
        "files of no version": 1,
        "folders of no version": 1,
        "left by killed runs": 1,
        "left by W&B": 0,
    }
    assert answer["size"] == 1100 + len("bad") + (store.folders / "encoder-v0" / "weights").lstat().st_size
    assert "would free" in tell("gc").splitlines()[-1]
    assert tell("gc", "--yes").splitlines()[-1].startswith("freed 1.")
    assert tell("gc", "--yes") == "nothing to free\n"
    for path in answer["paths"]:
        assert not os.path.lexists(path)
    assert [version.reference for version in store.versions("encoder")] == ["encoder:v1"]
    assert tell("verify") == "7 files, 6 versions: 0 problems\n"


def test_gc_refuses_while_a_stage_runs(store: Store) -> None:
    with store.in_use():
        assert "run gc again when it has ended" in refuse("gc", "--yes")
    assert len(store.versions("encoder")) == 2


def send(store: Store) -> None:
    """Marks every run as published: its record is needed no more."""
    for row in store.rows("SELECT id FROM runs"):
        store.remember("somewhere", {}, row["id"])


def test_gc_keeps_what_wandb_staged_for_runs_that_are_still_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    send(store)
    for variable, folder in (("WANDB_DATA_DIR", "wandb/data"), ("WANDB_DIR", "")):
        monkeypatch.setenv(variable, str(home() / folder))
    (home() / "wandb").mkdir()
    staging = home() / "wandb/data/artifacts/staging"
    copies, folders = {}, {}
    for project in ("stays", "goes"):
        before = set(staging.glob("*"))
        with wandb.init(project=project, mode="offline", dir=home(), settings={"silent": True}) as run:
            for i in range(6):  # more than one block of the log
                run.log({f"noise/{i}/{k}": k for k in range(300)})
                run.log({f"table/{i}": wandb.Table(columns=["x"], data=[[i]])})
            folders[project] = Path(run.dir).parent
        copies[project] = set(staging.glob("*")) - before
    shutil.rmtree(folders["goes"])
    (log,) = folders["stays"].glob("*.wandb")
    assert log.stat().st_size > 2 * 32768
    paths = {Path(path) for path in ask("gc")["paths"]}
    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(log)]
    records = [json.loads(line) for line in subprocess.check_output(inspect, text=True).splitlines()]
    manifests = [record["artifact"]["manifest"] for record in records if record["type"] == "artifact"]
    uploads = {Path(entry["local_path"]) for manifest in manifests for entry in manifest["contents"]}
    assert len(manifests) == 6
    assert copies["stays"] - paths == uploads
    assert copies["goes"] <= paths


@pytest.mark.parametrize("before", [*range(32600, 32690, 10), 3 * 32768 - 80])
def test_gc_finds_a_staged_file_whose_name_is_split_between_two_blocks_of_a_log(store: Store, before: int) -> None:
    send(store)
    staging = home() / "wandb" / "data" / "artifacts" / "staging"
    staging.mkdir(parents=True)
    (staging / "tmpabc_1234").write_text("needed")
    (staging / "tmpabc_5678").write_text("not")
    folder = home() / "wandb" / "offline-run-20260101_000000-abcdefgh"
    folder.mkdir()
    log = frame([b"x" * before, f"...{staging}/tmpabc_1234z...".encode(), b"y" * 40_000])
    (folder / "run-abcdefgh.wandb").write_bytes(log)
    paths = ask("gc")["paths"]
    assert str(staging / "tmpabc_5678") in paths
    assert str(staging / "tmpabc_1234") not in paths


def frame(records: list[bytes]) -> bytes:
    """LevelDB's log format, after W&B's header of 7 bytes: full 1, first 2, middle 3, last 4."""
    log = b":W&B\xe1\xbe\x00"
    for record in records:
        first = True
        while first or record:
            room = 32768 - len(log) % 32768
            if room < 7:
                log += b"\0" * room
                continue
            piece, record = record[: room - 7], record[room - 7 :]
            kind = (2 if record else 1) if first else (3 if record else 4)
            log += zlib.crc32(piece).to_bytes(4, "little") + len(piece).to_bytes(2, "little") + bytes([kind]) + piece
            first = False
    return log


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["show", "encoder:nope"], "known aliases of encoder: latest, x, x-s0"),
        (["show", "nothing"], "no artifact is called 'nothing'; artifacts.yaml declares: images, encoder"),
        (["lineage", "probe"], "no version of probe yet; run: python -m eval.probe"),
        (["show", "../x"], "'../x' is no artifact name"),
        (["pull", "encoder:../x", "--to", "x"], "'../x' is no alias"),
        (["ls", "../x"], "'../x' is no artifact name"),
        (["pull", "encoder:x"], "--to"),
        (["frobnicate"], "'frobnicate'"),
        ([], "COMMAND"),
        (["show", "encoder:x", "--jsn"], "--jsn"),
    ],
)
def test_a_wrong_command_is_one_line(store: Store, command: list[str], line: str) -> None:
    assert line in refuse(*command)


def test_a_reader_that_stops_reading_is_no_error(store: Store) -> None:
    command = f"{sys.executable} -m train.tracking show embeddings:x --json | head -1"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (process.stdout, process.stderr) == ("{\n", "")
