"""What comes from elsewhere is hostile until it is checked: references, zips, artifacts pulled, a store that was handed
over. Nothing is unpickled, and an API key is written nowhere."""

import base64
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.loopback import Server
from tests.loopback.state import Collection, Version, manifest_digest
from tests.parts.artifacts import refusal
from tests.parts.pictures import load_set, two_classes, write_zip
from tests.parts.versions import put
from tests.whole.test_online import Lab
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import Neighbors
from train.data.scores import Scores
from train.models.encoder import Encoder
from train.tracking import Origin, Problem
from train.tracking.declarations import NAME, check_path, reference
from train.tracking.store import Store, home

ROOT = Path(__file__).parents[2]
KEY = hashlib.sha1(b"an API key of nobody").hexdigest()  # 40 signs, as W&B's have
HOSTILE_PATHS = ["../evil", "/tmp/peel-evil", "a/../../evil", "a//b", "./evil", "C:\\evil", "..\\evil", "a\0b", "", "."]

# The same examples each time: a check that fails now and then is no check.
fuzzed = settings(derandomize=True, database=None, deadline=None, max_examples=300)
texts = st.text(max_size=40) | st.text(alphabet="../:\\a-_v1 \0\n", max_size=12)


# -- references and paths ----------------------------------------------------------------------------------------------


@fuzzed
@given(texts, st.none() | st.just("images"))
def test_any_text_is_a_reference_that_stays_in_its_folder_or_one_line(text: str, name: str | None) -> None:
    try:
        artifact, alias = reference(text, name)
    except Problem as problem:
        assert "\n" not in str(problem) and problem.__cause__ is None
        return
    assert NAME.fullmatch(artifact) and NAME.fullmatch(alias)
    for part in (artifact, alias):
        assert (Path("/store") / part).resolve().parent == Path("/store")


@fuzzed
@given(texts)
def test_any_path_inside_an_artifact_leads_downwards_or_is_refused(text: str) -> None:
    try:
        check_path(text, "images:v0")
    except Problem as problem:
        assert "\n" not in str(problem)
        return
    inside = Path(os.path.normpath(Path("/store") / text))
    assert inside.is_relative_to("/store") and inside != Path("/store")
    assert inside.relative_to("/store").as_posix() == text, "one file has one path"


# -- a store that was handed over --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_out_of_its_folder_is_neither_stored_nor_followed(store: Store, tmp_path: Path, path: str) -> None:
    version = put(store, "images", {"x": "1"}, ["digits"])
    store._connection.execute("UPDATE files SET path = ?", [path])
    before = sorted(tmp_path.rglob("*"))
    assert repr(path) in refusal(lambda: store.folder(version))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_out_of_the_store_is_not_followed(store: Store) -> None:
    version = put(store, "images", {"x": "1"}, ["digits"])
    store._connection.execute("PRAGMA foreign_keys = OFF")
    for table in ("artifacts", "versions", "aliases"):
        store._connection.execute(f"UPDATE {table} SET name = '../../images'")
    (stray,) = store.versions()
    assert stray.id == version.id and "'../../images'" in refusal(lambda: store.folder(stray))


def test_a_link_in_place_of_a_stored_file_serves_nothing_from_outside(store: Store, tmp_path: Path) -> None:
    version = put(store, "images", {"x": "inside"}, ["digits"])
    secret = tmp_path / "secret"
    secret.write_text("outside")
    (content,) = store.files(version).values()
    store.object(content.md5).unlink()
    store.object(content.md5).symlink_to(secret)
    assert "has changed since it was stored" in refusal(lambda: store.folder(version))


# -- artifacts made elsewhere ------------------------------------------------------------------------------------------

FETCH = """
import json, sys
from dataclasses import dataclass
from train.tracking import Problem, Stage

@dataclass(frozen=True)
class Config:
    pass

for alias in sys.argv[1:]:
    try:
        with Stage("eval.index", Config()) as stage:
            stage.fetch("embeddings", alias)
    except Problem as problem:
        print(json.dumps(str(problem)))
    else:
        print(json.dumps(None))
"""


def plant(server: Server, alias: str, files: dict[str, bytes], references: dict[str, str] | None = None) -> None:
    """An artifact that a program other than ours has put there."""
    state = server.state
    collection = state.collections.setdefault(("peel", "embeddings"), Collection("embeddings", "peel", "embeddings"))
    contents = {}
    for path, content in files.items():
        md5 = hashlib.md5(content)
        state.blobs[md5.hexdigest()] = content
        contents[path] = {"digest": base64.b64encode(md5.digest()).decode(), "size": len(content)}
    for path, there in (references or {}).items():
        contents[path] = {"digest": "etag", "ref": there, "size": 1}
    manifest = {
        "version": 1,
        "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": {"storageLayout": "V2"},
        "contents": contents,
    }
    version = Version(state.new_id("Artifact"), collection, manifest_digest(contents), [], None, None)
    version.manifest, version.number = json.dumps(manifest).encode(), len(collection.versions)
    state.versions[version.id] = version
    collection.versions.append(version)
    collection.aliases[alias] = version


def test_a_pulled_manifest_that_leads_out_of_its_folder_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "peel"
    home.mkdir(parents=True)
    paths = [path for path in HOSTILE_PATHS if path and "\0" not in path]
    with Server() as server:
        for i, path in enumerate(paths):
            plant(server, f"path{i}", {"origin.json": b"{}", path: b"evil"})
        plant(server, "file", {}, {"passwd": "file:///etc/passwd"})
        plant(server, "empty", {})
        plant(server, "stranger", {"origin.json": b'{"stage": "eval.embed"}'})
        lab = Lab(home, server, {})
        aliases = [*(f"path{i}" for i in range(len(paths))), "file", "empty", "stranger"]
        process = lab.python("-c", FETCH, *aliases)
        assert process.returncode == 0, process.stderr
        *refusals, file, empty, stranger = map(json.loads, process.stdout.splitlines())
        assert server.unhandled == []
    for path, line in zip(paths, refusals, strict=True):
        assert f"the path {path!r}" in line and "nothing was written" in line
    assert "refers to 'file:///etc/passwd'" in file
    assert "origin.json" in empty and "origin.json" in stranger
    contents = [path for path in tmp_path.rglob("*") if path.is_file() and b"evil" in path.read_bytes()]
    assert [path for path in contents if path.suffix != ".wandb"] == []
    assert not Path("/tmp/peel-evil").exists()


class Harm:
    """What a pickle may do when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.path,))


def _npy(content: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, content, allow_pickle=True)
    return buffer.getvalue()


READERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "images": (Images.load, ("images.json", "train.npy", "train_labels.npy", "test.npy", "test_labels.npy")),
    "embeddings": (Embeddings.load, ("embeddings.json", "train.npy", "test_features.npy", "train_labels.npy")),
    "neighbors": (Neighbors.load, ("train_ids.npy", "test_distances.npy", "index.faiss")),
    "encoder": (Encoder.load, ("encoder.json", "weights.safetensors")),
    "scores": (Scores.load, ("scores.json", "figures/probe/confusion.json", "pictures/x.png", "samples/x.npy")),
    "origin": (Origin.load, ("origin.json",)),
}


@pytest.mark.parametrize("kind", READERS)
def test_whatever_stands_in_an_artifact_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    read, names = READERS[kind]
    harm = tmp_path / "harmed"
    pickled = pickle.dumps(Harm(harm))
    objects = _npy(np.array([Harm(harm)], dtype=object))
    contents = (b"", b"\0" * 64, b"null", b"[]", b'{"classes": 3}', b"\x93NUMPY\x01\x00v\x00{", pickled, objects)
    folder = tmp_path / f"{kind}-v0"
    for content in contents:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        assert f"{kind}-v0" in refusal(lambda: read(folder))
        shutil.rmtree(folder)
    assert "missing" in refusal(lambda: read(tmp_path / "missing"))
    assert not harm.exists()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("train_labels", np.array([0, 1, 9])),
        ("train_labels", np.array([0, -2, 1])),
        ("test_labels", np.array([0, 1])),
        ("train", np.zeros((3, 4), np.float64)),
        ("train_features", np.zeros((2, 4), np.float32)),
        ("test", np.zeros(3, np.float32)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name: str, wrong: np.ndarray, tmp_path: Path) -> None:
    vectors, labels = np.ones((3, 4), np.float32), np.array([0, 1, 1])
    Embeddings(("a", "b"), vectors, vectors, vectors, vectors, labels, labels).save(tmp_path)
    Embeddings.load(tmp_path)
    np.save(tmp_path / f"{name}.npy", wrong)
    assert f"{name}" in refusal(lambda: Embeddings.load(tmp_path))


# -- zips --------------------------------------------------------------------------------------------------------------


def files_in(folder: Path) -> list[Path]:
    """All that is in it, but for the home itself."""
    return sorted(path for path in folder.rglob("*") if path != home())


@settings(fuzzed, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_a_zip_is_read_past_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    source = write_zip(tmp_path / "in" / "set.zip", two_classes(each=1))
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    source.write_bytes(content[:cut])
    try:
        load_set(source, skip_corrupt=data.draw(st.booleans()))
    except Problem as problem:
        assert "\n" not in str(problem)
    assert files_in(tmp_path) == [source.parent, source]


@settings(fuzzed, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=texts, inside=st.sampled_from(["train/cat/", "test/", ""]))
def test_any_entry_of_a_zip_is_read_past_or_one_line(tmp_path: Path, name: str, inside: str) -> None:
    source = write_zip(tmp_path / "in" / "set.zip", two_classes(each=1))
    with zipfile.ZipFile(source, "a") as archive:
        try:
            archive.writestr(f"{inside}{name}.png", b"no picture")
        except (UnicodeEncodeError, ValueError, IndexError):  # what zipfile cannot write
            return
    try:
        load_set(source, skip_corrupt=True)
    except Problem as problem:
        assert "\n" not in str(problem)
    assert files_in(tmp_path) == [source.parent, source]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_twice_or_is_encrypted_is_one_line(tmp_path: Path) -> None:
    twice = write_zip(tmp_path / "twice.zip", two_classes())
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("train/cat/0.png", b"another one")
    assert "'train/cat/0.png' occurs twice" in refusal(lambda: load_set(twice))
    locked = write_zip(tmp_path / "locked.zip", two_classes())
    content = bytearray(locked.read_bytes())
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        for match in re.finditer(re.escape(signature), bytes(content)):
            content[match.start() + flags] |= 1
    locked.write_bytes(content)
    assert "encrypted" in refusal(lambda: load_set(locked))


# -- what the code may not do ------------------------------------------------------------------------------------------

BANNED = {
    "S301": "import pickle\n\npickle.loads(b'')\n",
    "TID251": "import torch\n\ntorch.load('x')\n",
    "S302": "import marshal\n\nmarshal.loads(b'')\n",
    "S506": "import yaml\n\nyaml.load('x', Loader=yaml.Loader)\n",
    "S307": "eval('1')\n",
    "S102": "exec('1')\n",
    "S202": "import tarfile\n\ntarfile.open('x').extractall()\n",
    "S602": "import subprocess\n\nsubprocess.run('ls', shell=True)\n",
}


@pytest.mark.parametrize("rule", BANNED)
@pytest.mark.parametrize("path", ["train/tracking/any.py", "tests/any.py"])
def test_the_lint_rules_bite(rule: str, path: str) -> None:
    assert f" {rule} " in lint(BANNED[rule], path)


@pytest.mark.parametrize("module", ["pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"])
def test_no_module_that_unpickles_is_imported(module: str) -> None:
    assert " TID251 " in lint(f"import {module}\n\n{module}\n", "eval/any.py")


def lint(code: str, path: str) -> str:
    """What the project's lint says of `code`, were it in the file `path`."""
    ruff = str(Path(sys.executable).parent / "ruff")
    command = [ruff, "check", "--output-format", "concise", "--stdin-filename", path, "-"]
    return subprocess.run(command, input=code, text=True, capture_output=True, cwd=ROOT).stdout


# -- the API key -------------------------------------------------------------------------------------------------------

COMMANDS = (
    "train.prepare --dataset digits",
    "train.patches --images digits --patches 4",
    "eval.embed --encoder digits-patches-0000",  # no such alias
    "train.prepare --dataset nowhere.zip",
    "train.patches --help",
    "train.tracking ls",
    "train.tracking publish --dry-run",
)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_api_key_is_written_nowhere(mode: str, tmp_path: Path) -> None:
    with Server() as server:
        lab = Lab(tmp_path / "peel", server, {})
        lab.home.mkdir()
        environment = {"WANDB_API_KEY": KEY, "WANDB_MODE": mode, "HOME": str(tmp_path)}
        processes = [lab.python("-m", *command.split(), **environment) for command in COMMANDS]
        assert [process.returncode for process in processes] == [0, 0, 2, 2, 0, 0, 0], [
            process.stderr for process in processes
        ]
        there = repr(server.state)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert [process.args for process in processes if KEY in process.stdout + process.stderr] == []
    assert KEY not in there
    assert ("origin.json" in there) is (mode == "online")
