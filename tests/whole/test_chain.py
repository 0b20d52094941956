"""Every stage once, on small images, through the real store and W&B's real client: what the declarations promise is there."""

import contextlib
import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from eval import embed, report
from eval.labbook.book import Book, again, gather
from eval.studies.peel.study import STUDY
from tests.eval.test_sweep import TERMS, grid, make_study, noisy
from tests.parts.artifacts import refusal
from tests.parts.chain import CHAIN, PANELS, run
from train.data.embeddings import Embeddings
from train.tracking import Stage, lineage
from train.tracking.declarations import declarations, stages
from train.tracking.store import Store
from train.tracking.store.records import Run, Version


def draw_shapes(folder: Path) -> None:
    """Three classes of noisy pictures: stripes across, stripes down, and plain."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    patterns = {"across": rows // 4 % 2, "down": columns // 4 % 2, "plain": np.zeros((32, 32))}
    for split, count in (("train", 24), ("test", 12)):
        for name, pattern in patterns.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = pattern[..., None] * 120 + random.integers(0, 90, (32, 32, 3)) + random.integers(0, 40, 3)
                PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{index:02}.png")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which every stage has run once."""
    root = tmp_path_factory.mktemp("chain")
    draw_shapes(root / "shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(root / "peel"))
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        make_study(TERMS, grid(noisy))  # a sweep, for eval.sweep
        commands = (*CHAIN, "eval.sweep --sweep terms")
        run(commands, source=str(root / "shapes"), images="shapes", epochs="5", batch="16")
    yield root / "peel"


@pytest.fixture
def store(chain: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PEEL_HOME", str(chain))
    return Store()


def maker(store: Store, version: Version) -> Run:
    run = store.maker(version)
    assert run is not None
    return run


def runs(store: Store) -> dict[str, list[Run]]:
    """The runs that made something, by stage."""
    by_stage: dict[str, list[Run]] = {}
    for version in store.versions():
        run = maker(store, version)
        if run.id not in [other.id for other in by_stage.get(run.stage, [])]:
            by_stage.setdefault(run.stage, []).append(run)
    return by_stage


def test_every_stage_fetches_and_publishes_exactly_what_is_declared(store: Store) -> None:
    by_stage = runs(store)
    assert set(by_stage) == set(stages())
    for stage, own in by_stage.items():
        fetched = {name for run in own for (name, _), version in run.inputs.items() if version}
        assert fetched == {name for name, entry in declarations().items() if stage in entry.consumers}, stage
        ids = {run.id for run in own}
        published = {version.name for version in store.versions() if maker(store, version).id in ids}
        assert published == {name for name, entry in declarations().items() if stage in entry.producers}, stage


def test_versions_never_depend_on_themselves_though_the_names_may_form_a_cycle(store: Store) -> None:
    made_before: set[int] = set()
    for version in store.versions():
        run = maker(store, version)
        assert {source.id for source in run.inputs.values() if source} <= made_before
        made_before.add(version.id)


def test_the_reports_lead_back_to_the_images(store: Store) -> None:
    frontier, seen = store.versions("report"), {}
    while frontier:
        version = frontier.pop()
        seen[version.reference] = version
        run = maker(store, version)
        frontier += [source for source in run.inputs.values() if source and source.reference not in seen]
    names = {version.name for version in seen.values()}
    assert names == set(declarations()) - {"sweep"}, "every kind of artifact but sweeps has a part in the lab book"
    assert "images:v0" in seen and "images:v1" in seen


def test_no_artifact_holds_a_path_of_this_machine(store: Store, chain: Path) -> None:
    needles = [str(chain).encode(), str(chain.parent).encode(), str(Path.home()).encode()]
    for version in store.versions():
        for path, content in store.files(version).items():
            stored = store.object(content.md5).read_bytes()
            assert not [needle for needle in needles if needle in stored], f"{version.reference} {path}"


def test_every_run_holds_the_panels_that_were_promised(store: Store, chain: Path) -> None:
    for stage, panels in PANELS.items():
        run = runs(store)[stage][0]
        (log,) = (chain / "wandb").glob(f"offline-run-*-{run.id}/run-{run.id}.wandb")
        wandb = Path(sys.executable).parent / "wandb"
        inspected = subprocess.run(
            [wandb, "leet", "inspect", "--json", log], capture_output=True, text=True, check=True
        )
        media = logged_media([json.loads(line) for line in inspected.stdout.splitlines()])
        for panel, kind in panels.items():
            assert panel in media, f"{stage} logged {sorted(media)}"
            assert media[panel] == kind, panel


def logged_media(records: list[dict[str, Any]]) -> dict[str, str]:
    """Every file in a run's history: panel -> kind."""
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    return {key.removesuffix("._type"): kind for item in items for key, kind in item.items() if key.endswith("._type")}


def test_running_a_stage_again_makes_no_new_version(store: Store, chain: Path) -> None:
    before = [(version.reference, version.digest) for version in store.versions()]
    variant = maker(store, store.get("retrieve", "latest")).variant
    for stage, flags in (
        ("eval.probe", ["--embeddings", str(variant), "--resamples", "200"]),
        ("eval.retrieve", ["--embeddings", str(variant)]),
        ("eval.cluster", ["--embeddings", str(variant)]),
        ("eval.project", ["--embeddings", str(variant)]),
        ("train.patches", ["--images", "shapes", "--patches", "8"]),
    ):
        module = importlib.import_module(stage)
        module.COMMAND.run(flags)
    assert [(version.reference, version.digest) for version in store.versions()] == before


def test_the_page_tells_the_command_that_made_each_variant_and_it_makes_the_same_version(store: Store) -> None:
    """Of a variant with a hash, of one of its neighbors, of eigenmaps by other settings, and of another seed."""
    importlib.import_module("train.pretrain").COMMAND.run(
        ["--images", "shapes", "--preset", "small", "--epochs", "0", "--seed", "1"]
    )
    by_stage = runs(store)
    hashed, neighbors = (str(run.variant) for run in by_stage["train.pretrain"][:2])
    eigenmaps = str(by_stage["train.eigenmaps"][0].variant)
    assert (hashed[:14], neighbors[:24]) == ("shapes-vicreg-", "shapes-vicreg-neighbors-") and "-k6-" in eigenmaps
    untrained = "shapes-untrained-s1"
    book = opened((hashed, neighbors, eigenmaps, untrained))
    cures = {variant: book.cure("training", variant) for variant in (hashed, neighbors, untrained)}
    assert book.cure("training", eigenmaps) == "" and book.impossible("training", eigenmaps) == "not trained"
    assert cures[untrained] == "python -m train.pretrain --images shapes --preset small --seed 1 --epochs 0"
    cures[eigenmaps] = again(book.makers[eigenmaps])
    # Where only the evaluations of a variant are here, the chain of their origins leads to what made it.
    assert again(lineage.maker(store, book.evidence["probe", hashed].source.origin)) == cures[hashed]
    kept = [(version.reference, version.digest) for version in store.versions()]
    for variant, name in (
        (hashed, "encoder"),
        (neighbors, "encoder"),
        (eigenmaps, "embeddings"),
        (untrained, "encoder"),
    ):
        before = store.get(name, variant)
        stage, *flags = cures[variant].removeprefix("python -m ").split()
        count = len(store.rows("SELECT * FROM outputs WHERE version = ?", [before.id]))
        importlib.import_module(stage).COMMAND.run(flags)
        assert store.get(name, variant).reference == before.reference, cures[variant]
        assert len(store.rows("SELECT * FROM outputs WHERE version = ?", [before.id])) == count + 1
    assert [(version.reference, version.digest) for version in store.versions()] == kept


def test_what_a_variant_that_nobody_made_here_needs_is_not_told_as_another_variants(store: Store) -> None:
    book = opened((str(runs(store)["train.pretrain"][0].variant),))
    assert book.cure("probe", "shapes-vicreg-0a1b2c") == ""
    assert book.cure("probe", "shapes-vicreg") == "python -m train.pretrain --images shapes --preset small"


class Ended(Exception):
    pass


def opened(variants: tuple[str, ...]) -> Book:
    """The book that eval.report would show; it ends early, and publishes nothing."""
    with contextlib.suppress(Ended), Stage("eval.report", report.Config(variants)) as stage:
        book = gather(stage, STUDY, variants, None)
        raise Ended
    return book


def test_only_another_set_is_embedded_without_its_training_images(store: Store) -> None:
    variant = maker(store, store.get("retrieve", "latest")).variant
    own, other = (Embeddings.load(store.folder(store.get("embeddings", f"{variant}{on}"))) for on in ("", "-on-photos"))
    assert len(own.train) == len(own.train_labels) == 72 and len(other.train) == len(other.train_labels) == 0
    assert len(other.test) == len(other.test_labels) > 0
    line = refusal(lambda: embed.main(embed.Config(str(variant), train=False)))
    assert "--train False" in line and "shapes" in line


@pytest.mark.parametrize("stage", stages())
def test_every_flag_of_a_stage_is_explained(stage: str) -> None:
    module = importlib.import_module(stage)
    assert (module.__doc__ or "").strip()
    configured = module.COMMAND.configured
    kind = configured if isinstance(configured, type) else type(configured({}))
    for field in dataclasses.fields(kind):
        owner = next(parent for parent in kind.__mro__ if field.name in vars(parent).get("__annotations__", {}))
        source = inspect.getsource(owner)
        declared = source.index(f"\n    {field.name}:")
        assert source[declared:].splitlines()[2].strip().startswith('"""'), f"{stage} --{field.name}"
