import base64
import dataclasses
import hashlib
import itertools
import json
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import PIL.Image
import plotly.graph_objects as go
import pytest
import wandb

from train.tracking import MACHINE, Origin, Problem, Stage
from train.tracking.declarations import Declaration, check_name, declaration, declarations
from train.tracking.origin import digest_of, identity, settings
from train.tracking.store import Store, home, housekeeping


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    views: tuple[str, ...] = ("crop", "flip")
    device: Annotated[str, MACHINE] = "cpu"
    workers: Annotated[int, MACHINE] = 2


def write(files: dict[str, str]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        for path, text in files.items():
            (folder / path).write_text(text)

    return save


def prepare(dataset: str = "digits", text: str = "pixels", config: Config | None = None) -> None:
    with Stage("train.prepare", config or Config()) as stage:
        stage.dataset = dataset
        stage.publish("images", write({"train": text}), {"dataset": dataset})


def pretrain(variant: str, seed: int = 0, text: str = "weights", config: Config | None = None) -> None:
    with Stage("train.pretrain", config or Config()) as stage:
        stage.about(stage.fetch("images", "digits"))
        stage.variant, stage.seed = variant, seed
        stage.publish("encoder", write({"weights": f"{text} {seed}"}))
        stage.publish("training", write({"scores.json": "{}"}))


def aliases() -> dict[str, str]:
    """Every alias and the version that it names."""
    store = Store()
    names = {f"{version.name}:{alias}": version.reference for version in store.versions() for alias in version.aliases}
    store.close()
    return names


def records() -> list[dict[str, Any]]:
    """What W&B itself reads in the last run's log."""
    (log,) = list((home() / "wandb" / "latest-run").glob("*.wandb"))
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(log)]
    return [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]


# -- publishing --------------------------------------------------------------------------------------------------------


def test_nothing_is_visible_before_the_block_ends_nor_where_it_raises() -> None:
    with pytest.raises(ZeroDivisionError), Stage("train.prepare", Config()) as stage:
        stage.dataset = "digits"
        stage.publish("images", write({"x": "1"}), {"dataset": "digits"})
        assert aliases() == {}
        raise ZeroDivisionError
    assert aliases() == {}
    store = Store()
    assert list(store.scratch.iterdir()) == []
    assert [path for path in housekeeping.orphans(store) if path.is_file()]  # what gc frees
    store.close()
    with pytest.raises(KeyboardInterrupt), Stage("train.prepare", Config()) as stage:
        stage.dataset = "digits"
        stage.log({"loss": 1.0})
        stage.publish("images", write({"x": "1"}), {"dataset": "digits"})
        raise KeyboardInterrupt
    assert aliases() == {}
    (end,) = [record["exit"] for record in records() if record["type"] == "exit"]
    assert end["exit_code"] == 1


def test_what_a_stage_does_not_declare_is_refused() -> None:
    prepare()
    with Stage("eval.probe", Config()) as stage:
        with pytest.raises(ValueError, match=r"eval\.probe as a consumer of images"):
            stage.fetch("images", "digits")
        with pytest.raises(ValueError, match=r"eval\.probe as a producer of images"):
            stage.publish("images", write({"x": "1"}), {"dataset": "digits"})
        with pytest.raises(Problem, match="no artifact is called 'imagse'"):
            stage.fetch("imagse", "digits")
        with pytest.raises(ValueError, match="no alias template of probe"):
            stage.publish("probe", write({"x": "1"}))  # neither variant nor seed is known
    assert aliases() == {"images:digits": "images:v0", "images:latest": "images:v0"}


def test_an_unknown_alias_names_the_known_ones_and_the_producer() -> None:
    prepare()
    with Stage("train.pretrain", Config()) as stage:
        with pytest.raises(Problem, match=r"images:other.*digits, latest.*python -m train\.prepare"):
            stage.fetch("images", "other")
        with pytest.raises(Problem, match="give an alias of images"):
            stage.fetch("images", "encoder:digits")
        with pytest.raises(Problem, match="is no alias"):
            stage.fetch("images", "../../x")


def test_seed_zero_alone_moves_the_plain_alias() -> None:
    prepare()
    pretrain("digits-vicreg", 0)
    pretrain("digits-vicreg", 1)
    assert aliases() == {
        "images:digits": "images:v0",
        "images:latest": "images:v0",
        "encoder:digits-vicreg": "encoder:v0",
        "encoder:digits-vicreg-s0": "encoder:v0",
        "encoder:digits-vicreg-s1": "encoder:v1",
        "encoder:latest": "encoder:v1",
        "training:digits-vicreg": "training:v0",
        "training:digits-vicreg-s0": "training:v0",
        "training:digits-vicreg-s1": "training:v1",  # its origin tells the seed
        "training:latest": "training:v1",
    }


def test_variant_seed_and_dataset_come_from_inside_the_input_that_the_stage_is_about() -> None:
    prepare()
    pretrain("digits-vicreg", 3)
    with Stage("eval.embed", Config()) as stage:
        encoder = stage.fetch("encoder", "digits-vicreg-s3")
        assert (encoder.dataset, encoder.alias) == ("digits", "digits-vicreg-s3")
        assert (stage.variant, stage.seed, stage.dataset) == (None, None, None)
        stage.about(encoder)
        stage.fetch("images", "digits")
        assert (stage.variant, stage.seed, stage.dataset) == ("digits-vicreg", 3, "digits")
        assert stage.alias == "digits-vicreg-s3"
        fields = {"variant": stage.variant, "seed": stage.seed, "images": "photos"}
        stage.publish("embeddings", write({"x": "1"}), fields)
    assert [alias for alias in aliases() if alias.startswith("embeddings")] == [
        "embeddings:digits-vicreg-s3-on-photos",
        "embeddings:latest",
    ]


def test_same_content_is_the_same_version_whatever_the_machine() -> None:
    prepare(config=Config(device="cpu", workers=2))
    first = aliases()
    prepare(config=Config(device="cuda", workers=8))
    assert aliases() == first
    prepare(config=Config(lr=0.2))  # another configuration makes another artifact, though the pixels be equal
    assert aliases() == {alias: "images:v1" for alias in first}


def test_a_stage_ends_with_its_finding_and_says_whether_the_version_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("pixels", "pixels", "others"):
        with Stage("train.prepare", Config()) as stage:
            stage.dataset = "digits"
            stage.publish("images", write({"train": text}), {"dataset": "digits"})
            stage.finding = f"images: {text}"
    out = capsys.readouterr().out.splitlines()
    assert out[::2] == ["images: pixels", "images: pixels", "images: others"]
    assert [(line.split()[0], line.split()[-1]) for line in out[1::2]] == [
        ("images:v0", "new"),
        ("images:v0", "unchanged"),
        ("images:v1", "new"),
    ]


def test_digest_is_the_one_that_wandb_computes_of_the_fetched_folder() -> None:
    prepare()
    with Stage("train.pretrain", Config()) as stage:
        folder = stage.fetch("images", "digits").folder
        artifact = wandb.Artifact("images", "dataset")
        artifact.add_dir(str(folder))
        assert [version.digest for version in stage.store.versions("images")] == [artifact.digest]


def test_origin_tells_what_made_it_and_no_field_of_the_machine() -> None:
    prepare()
    pretrain("digits-vicreg", 1)
    store = Store()
    encoder, images = store.get("encoder", "latest"), store.get("images", "latest")
    origin = Origin.load(store.folder(encoder))
    assert (origin.stage, origin.dataset, origin.variant, origin.seed) == (
        "train.pretrain",
        "digits",
        "digits-vicreg",
        1,
    )
    assert origin.config == {"lr": 0.1, "views": ["crop", "flip"]}
    assert origin.inputs == (f"images@{images.digest}",)
    run = store.maker(encoder)
    assert run is not None
    assert {request: version and version.id for request, version in run.inputs.items()} == {
        ("images", "digits"): images.id
    }
    assert run.config["device"] == "cpu"  # the registry and W&B know it
    assert store.reuse("train.pretrain", settings("train.pretrain", Config(device="cuda"))) is not None
    assert store.reuse("train.pretrain", settings("train.pretrain", Config(lr=0.2))) is None
    store.close()


def test_identity_and_key_change_with_what_decides_the_result_alone() -> None:
    prepare()
    assert identity(Config(device="x", workers=9)) == {"lr": 0.1, "views": ("crop", "flip")}
    keys = []
    for text, config in (
        ("pixels", Config()),
        ("pixels", Config(workers=9)),
        ("pixels", Config(lr=1)),
        ("other", Config()),
    ):
        prepare(text=text)
        with Stage("train.pretrain", config) as stage:
            before = stage.key
            stage.fetch("images", "digits")
            assert stage.key != before
            keys.append(stage.key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_an_optional_input_is_remembered_as_asked_for_whether_it_was_there_or_not() -> None:
    for present in (False, True):
        if present:
            prepare(text="pixels")
        with Stage("train.pretrain", Config()) as stage:
            artifact = stage.fetch_if_made("images", "digits")
            assert (artifact and (artifact.folder / "train").read_text()) == ("pixels" if present else None)
            assert list(stage.inputs) == [("images", "digits")]


def test_an_input_made_from_something_else_is_refused() -> None:
    prepare()
    prepare("photos", "other pixels")
    pretrain("digits-vicreg")
    with Stage("eval.embed", Config()) as stage:
        stage.fetch("encoder", "digits-vicreg").check_made_from(stage.fetch("images", "digits"))
    with Stage("eval.embed", Config()) as stage:
        encoder, photos = stage.fetch("encoder", "digits-vicreg"), stage.fetch("images", "photos")
        with pytest.raises(Problem, match=r"encoder:v0 was not made from images:photos"):
            encoder.check_made_from(photos)


def test_a_damaged_input_is_refused() -> None:
    prepare()
    store = Store()
    path = store.object(hashlib.md5(b"pixels").hexdigest())
    path.chmod(0o644)
    path.write_bytes(b"pixelt")
    with (
        Stage("train.pretrain", Config()) as stage,
        pytest.raises(Problem, match=r"images:v0 is damaged: train .*FRESH=1"),
    ):
        stage.fetch("images", "digits")
    prepare(config=Config(lr=0.3))  # the same pixels once more
    assert housekeeping.verify(store) == []
    store.close()


# -- the run's own records ---------------------------------------------------------------------------------------------


def test_the_offline_run_holds_config_group_scalars_and_media() -> None:
    prepare()
    rng = np.random.default_rng(0)
    pictures = [PIL.Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(3)]
    with Stage("train.pretrain", Config(device="cuda")) as stage:
        stage.about(stage.fetch("images", "digits"))
        stage.variant, stage.seed = "digits-vicreg", 0
        stage.axis("epoch", "knn/*")
        for epoch in range(3):
            stage.log({"epoch": epoch, "knn/top1": epoch / 4})
        stage.panel("probe/confusion", go.Figure(go.Heatmap(z=[[1, 2], [3, 4]])))
        stage.panel("retrieve/nearest", pictures[0])
        table = pd.DataFrame({"row": [3, 5], "name": ["a", "b"], "score": [0.5, 1.5], "image": pictures[1:]})
        stage.panel("retrieve/table", table)
        with pytest.raises(TypeError, match="no panel for a list"):
            stage.panel("x", [1])
    log = records()
    (run,) = [record["run"] for record in log if record["type"] == "run"]
    assert (run["job_type"], run["run_group"], run["run_id"]) == ("train.pretrain", "digits-vicreg", stage.id)
    config = run["config"]["update"]
    assert (config["lr"], config["device"], config["workers"]) == (0.1, "cuda", 2)
    assert config["views"] == ["crop", "flip"]
    assert config["revision"]
    history = [record["history"]["item"] for record in log if record["type"] == "history"]
    assert [(item["epoch"], item["knn/top1"]) for item in history if "epoch" in item] == [(0, 0), (1, 0.25), (2, 0.5)]
    metrics = [record["metric"] for record in log if record["type"] == "metric"]
    assert any("knn/*" in json.dumps(metric) and "epoch" in json.dumps(metric) for metric in metrics)
    media = dict(itertools.chain.from_iterable(item.items() for item in history))
    files = home() / "wandb" / "latest-run" / "files"
    assert media["probe/confusion._type"] == "plotly-file"
    figure = json.loads((files / media["probe/confusion.path"]).read_text())
    assert figure["data"][0]["type"] == "heatmap"
    assert media["retrieve/nearest._type"] == "image-file"
    with PIL.Image.open(files / media["retrieve/nearest.path"]) as logged:
        assert np.array_equal(np.asarray(logged), np.asarray(pictures[0]))
    assert media["retrieve/table._type"] == "table-file"
    assert (files / media["retrieve/table.path"]).is_file()
    manifest = next(record["artifact"]["manifest"] for record in log if record["type"] == "artifact")
    paths = {entry["path"]: Path(entry["local_path"]) for entry in manifest["contents"]}
    logged_table = json.loads(paths["retrieve/table.table.json"].read_text())
    assert logged_table["columns"] == ["row", "name", "score", "image"]
    assert [row[:3] for row in logged_table["data"]] == [[3, "a", 0.5], [5, "b", 1.5]]
    for row, picture in zip(logged_table["data"], pictures[1:], strict=True):
        with PIL.Image.open(paths[row[3]["path"]]) as logged:
            assert np.array_equal(np.asarray(logged), np.asarray(picture))
    assert all(path.is_relative_to(home()) for path in paths.values())
    assert all(
        base64.b64decode(entry["digest"]) == hashlib.md5(Path(entry["local_path"]).read_bytes()).digest()
        for entry in manifest["contents"]
    )


# -- artifacts.yaml ----------------------------------------------------------------------------------------------------


def fields_of(template: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


@pytest.mark.parametrize("name", declarations())
def test_every_alias_template_fills(name: str) -> None:
    entry = declaration(name)
    for template in entry.aliases:
        fields = {field: 1 if field == "seed" else f"some-{field}" for field in fields_of(template)}
        expected = template
        for field, value in fields.items():
            expected = expected.replace(f"{{{field}}}", str(value))
        assert expected in entry.aliases_for(fields)
        assert check_name(expected, "alias") == expected


@pytest.mark.parametrize("name", declarations())
def test_no_two_templates_of_an_artifact_take_the_same_fields(name: str) -> None:
    field_sets = [frozenset(fields_of(template)) for template in declaration(name).aliases]
    assert len(set(field_sets)) == len(field_sets)


def test_declared_consumers_and_producers_are_stages_and_every_name_is_one_of_wandb() -> None:
    for entry in declarations().values():
        assert entry.producers
        for stage in {*entry.producers, *entry.consumers}:
            assert stage.split(".")[0] in ("train", "eval")
        wandb.Artifact(entry.name, entry.type)  # raises on a name or type that W&B refuses


def test_templates_apply_when_all_their_fields_are_given_and_no_other() -> None:
    templates = ("{variant}", "{variant}-s{seed}", "{variant}-on-{images}", "{variant}-s{seed}-on-{images}")
    entry = Declaration("x", "t", "", (), (), templates)
    assert entry.aliases_for({"variant": "a", "seed": 0}) == ["a", "a-s0"]
    assert entry.aliases_for({"variant": "a", "seed": 2}) == ["a-s2"]
    assert entry.aliases_for({"variant": "a"}) == ["a"]
    assert entry.aliases_for({"variant": "a", "seed": None}) == ["a"]
    assert entry.aliases_for({"variant": "a", "seed": 0, "images": "b"}) == ["a-on-b", "a-s0-on-b"]
    bad: list[dict[str, object]] = [{}, {"variant": None, "seed": 0}, {"seed": 0}, {"variant": "a", "other": "b"}]
    for fields in bad:
        with pytest.raises(ValueError, match="no alias template of x"):
            entry.aliases_for(fields)
    for variant in ("v3", "latest", "a b", "../a", "a:b"):
        with pytest.raises(Problem):
            entry.aliases_for({"variant": variant})


def test_every_variant_and_seed_has_aliases_of_its_own() -> None:
    entry = declaration("encoder")
    pairs = itertools.product(("digits-vicreg", "digits-vicreg-variance0", "cifar10-vicreg"), (0, 1, 11))
    names = [entry.aliases_for({"variant": variant, "seed": seed})[-1] for variant, seed in pairs]
    assert len(set(names)) == 9
