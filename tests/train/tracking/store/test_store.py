"""The store: its digests, versions and aliases, what it reuses, and what gc keeps."""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
import wandb

from tests.parts.versions import free, put, put_all
from train.tracking.problem import Problem
from train.tracking.store import Store, housekeeping
from train.tracking.store.records import Version, manifest_digest


def names(versions: list[Version] | None) -> list[str] | None:
    return None if versions is None else [version.reference for version in versions]


# -- digests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_digest_of_any_files_is_the_one_that_wandb_computes(store: Store, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["a", "a.b", "a-b", "a/b", "a/B", "Z", "z/y/x/w", "0", "10", "9", "ä/é.txt", "名前", "with blank", "a+b,c"]
    paths = rng.permutation(names)[: rng.integers(1, len(names))].tolist()
    if "a" in paths:  # a file cannot be a folder too
        paths = [name for name in paths if not name.startswith("a/")]
    contents = {name: rng.bytes(int(rng.integers(0, 5000))) for name in paths}
    artifact = wandb.Artifact("name", "type")
    for name in rng.permutation(paths).tolist():
        path = tmp_path / hashlib.md5(name.encode()).hexdigest()
        path.write_bytes(contents[name])
        artifact.add_file(str(path), name=name)
    version = put(store, "name", contents)
    assert version.digest == artifact.digest
    theirs = {path: base64.b64decode(entry.digest).hex() for path, entry in artifact.manifest.entries.items()}
    assert {path: content.md5 for path, content in store.files(version).items()} == theirs
    assert version.size == artifact.size


def test_digest_of_no_files_is_the_one_that_wandb_computes(store: Store) -> None:
    assert manifest_digest({}) == wandb.Artifact("name", "type").digest
    assert list(store.folder(put(store, "name", {})).iterdir()) == []


# -- versions and aliases ----------------------------------------------------------------------------------------------


def test_same_content_is_the_same_version(store: Store) -> None:
    first = put(store, "probe", {"x": "1"}, ["a"])
    second = put(store, "probe", {"x": "2"}, ["a"])
    again = put(store, "probe", {"x": "1"}, ["b"])
    assert (first.number, second.number, again.number) == (0, 1, 0)
    assert again.id == first.id
    assert len(store.versions("probe")) == 2
    assert put(store, "cluster", {"x": "1"}).number == 0  # numbers are a name's own


def test_aliases_move_and_latest_moves_with_every_publication(store: Store) -> None:
    first = put(store, "probe", {"x": "1"}, ["a", "b"])
    second = put(store, "probe", {"x": "2"}, ["b"])
    aliases = {alias: store.get("probe", alias).id for alias in ("a", "b", "latest", "v0", "v1")}
    assert aliases == {"a": first.id, "b": second.id, "latest": second.id, "v0": first.id, "v1": second.id}
    put(store, "probe", {"x": "1"})
    assert store.get("probe", "latest").id == first.id
    assert store.get("probe", "b").id == second.id


def test_a_name_has_one_type(store: Store) -> None:
    put(store, "probe", {"x": "1"}, kind="scores")
    with pytest.raises(Problem, match=r"probe has the type 'scores', not 'model'"):
        put(store, "probe", {"x": "2"}, ["a"], kind="model")
    assert [version.reference for version in store.versions()] == ["probe:v0"]
    assert store.find("probe", "a") is None


@pytest.mark.parametrize("alias", ["v0", "v12", "latest", "a:b", "a/b", "", "..", "-x", "a b", "x" * 129])
def test_an_alias_that_wandb_keeps_or_refuses_publishes_nothing(store: Store, alias: str) -> None:
    with pytest.raises(Problem):
        put(store, "probe", {"x": "1"}, ["fine", alias])
    assert store.versions() == []


def test_a_number_is_never_given_again(store: Store) -> None:
    for text in "123":
        put(store, "probe", {"x": text}, ["a"])
    assert [version.number for version in housekeeping.superseded(store)] == [1, 0]
    free(store)
    assert [version.number for version in store.versions()] == [2]
    housekeeping.drop(store, store.versions(), [])
    assert store.versions() == []
    assert put(store, "probe", {"x": "1"}).number == 3


def test_an_unknown_alias_lists_the_known_ones(store: Store) -> None:
    put(store, "probe", {"x": "1"}, ["digits-vicreg"])
    for alias in ("other", "v1", "v99999999999999999999999", "v²"):
        with pytest.raises(Problem, match=r"known aliases of probe: digits-vicreg, latest\. Run: this"):
            store.get("probe", alias, "Run: this")


def test_versions_come_back_in_the_order_published(store: Store) -> None:
    put(store, "training", {"x": "old"})
    outputs = {"encoder": ({"x": "new"}, ["a"]), "training": ({"x": "old"}, ["a"])}
    assert [version.reference for version in put_all(store, outputs)] == ["encoder:v0", "training:v0"]


def test_a_link_is_refused_before_anything_else_is_touched(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    before = mine.stat().st_mode
    folder = store.scratch / "x"
    folder.mkdir()
    (folder / "link").symlink_to(mine)
    with pytest.raises(ValueError, match="is a link"):
        store.take(folder)
    assert (mine.read_text(), mine.stat().st_mode) == ("precious", before)


# -- reuse -------------------------------------------------------------------------------------------------------------


def test_what_was_made_is_found_again_by_stage_settings_and_inputs(store: Store) -> None:
    put(store, "images", {"x": "1"}, ["digits"])
    put_all(
        store,
        {"encoder": ({"e": "1"}, ["a", "a-s0"]), "training": ({"t": "1"}, ["a"])},
        [("images", "digits")],
        stage="train.pretrain",
        settings="S",
    )
    assert names(store.reuse("train.pretrain", "S")) == ["encoder:v0", "training:v0"]
    assert store.reuse("train.pretrain", "other") is None
    assert store.reuse("train.patches", "S") is None
    put(store, "images", {"x": "2"}, ["digits"])
    assert store.reuse("train.pretrain", "S") is None  # the input is another now
    put(store, "images", {"x": "1"}, ["digits"])
    assert names(store.reuse("train.pretrain", "S")) == ["encoder:v0", "training:v0"]


def test_an_optional_input_that_appears_later_is_asked_for_again(store: Store) -> None:
    put(store, "probe", {"p": "1"}, ["a"], [("neighbors", "a")], settings="S")
    assert names(store.reuse("test.stage", "S")) == ["probe:v0"]
    put(store, "neighbors", {"n": "1"}, ["a"])
    assert store.reuse("test.stage", "S") is None


def test_reuse_points_the_aliases_at_it_again_as_logging_it_once_more_would(store: Store) -> None:
    put(store, "encoder", {"e": "1"}, ["a", "a-s0"], settings="S")
    put(store, "encoder", {"e": "2"}, ["a"], settings="T")
    put(store, "encoder", {"e": "3"}, ["b"], settings="U")
    (version,) = store.reuse("test.stage", "S") or []
    assert store.get("encoder", version.reference.partition(":")[2]).aliases == ("a", "a-s0", "latest")
    assert store.get("encoder", "b").number == 2


def test_what_gc_has_freed_a_part_of_is_made_again(store: Store) -> None:
    outputs = {"encoder": ({"e": "1"}, ["a"]), "training": ({"t": "1"}, ["a"])}
    put_all(store, outputs, settings="S")
    put(store, "training", {"t": "2"}, ["a"])
    assert names(housekeeping.superseded(store)) == ["training:v0"]
    free(store)
    assert store.reuse("test.stage", "S") is None


# -- keeping house -----------------------------------------------------------------------------------------------------


def test_gc_keeps_what_an_alias_names_and_what_that_was_made_from(store: Store) -> None:
    put(store, "images", {"i": "1"}, ["digits"])
    put(store, "encoder", {"e": "1"}, ["a"], [("images", "digits")])
    put(store, "embeddings", {"m": "1"}, ["kept"], [("encoder", "a")])
    put(store, "images", {"i": "2", "common": "c"}, ["digits"])
    put(store, "encoder", {"e": "2"}, ["a"], [("images", "digits")])
    put(store, "encoder", {"e": "3", "common": "c"}, ["a"], [("images", "digits")])
    put(store, "images", {"i": "3", "common": "c"}, ["digits"])
    for version in store.versions():
        store.folder(version)
    assert names(housekeeping.superseded(store)) == ["encoder:v1"]
    free(store)
    assert names(store.versions()) == [
        "images:v0",
        "encoder:v0",
        "embeddings:v0",
        "images:v1",
        "encoder:v2",
        "images:v2",
    ]
    assert sorted(path.name for path in store.folders.iterdir()) == sorted(
        version.reference.replace(":", "-") for version in store.versions()
    )
    assert store.object(hashlib.md5(b"2").hexdigest()).exists()  # images:v1 holds the same bytes
    assert housekeeping.verify(store) == []
    assert housekeeping.orphans(store) == []


def test_the_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    version = put(store, "probe", {"x": "1", "deep/er/y": "2"})
    store.folder(version)
    store.close()
    moved = Store(store.root.rename(tmp_path / "moved"))
    folder = moved.folder(moved.get("probe", "latest"))
    assert folder.is_relative_to(tmp_path / "moved")
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {"x": "1", "y": "2"}
    assert (folder / "deep/er/y").resolve().is_relative_to(tmp_path / "moved")
    moved.close()


def test_what_a_stage_reads_cannot_be_written_to(store: Store) -> None:
    folder = store.folder(put(store, "probe", {"x": "1"}))
    assert (folder / "x").stat().st_mode & 0o222 == 0
