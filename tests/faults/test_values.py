"""What an artifact holds, changed at random as a stranger or a fault would: it is read, or refused in one line.

Each reader works in a process of its own, so that one that dies there is counted and not the end of the others.
"""

import json
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count as rounds
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from eval.claims import Config as ClaimsConfig
from eval.claims import entries
from eval.evidence.comparison import Comparison
from eval.evidence.readings import load
from eval.evidence.rules import Measurements, decide
from eval.labbook.book import Book
from eval.labbook.drawings import drawing
from eval.labbook.page import render
from eval.labbook.tables import summary_frame
from eval.labbook.thumbnails import address
from eval.report import overlays
from tests.faults.conftest import Count
from tests.parts.artifacts import images as pictures
from tests.parts.changes import change
from tests.parts.comparisons import comparison_values
from tests.parts.embeddings import blobs
from tests.parts.shapes import FULL, NEIGHBORS, collect, evidence, filled
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import Inverted, Neighbors, find_neighbors, nearest
from train.data.scores import Scores
from train.engine import checkpoint
from train.methods.eigenmaps import eigenmaps, neighbor_graph
from train.methods.partners import Partners
from train.models.encoder import Architecture, Encoder
from train.tracking import Origin, Problem
from train.tracking.problem import reading

MINUTE = 60  # seconds, of each reader with --full
DATA = blobs(3, 8, 5, seed=1)
MANY = blobs(3, 100, 4, seed=1)  # enough for an index by codes
IMAGES = pictures("blobs", DATA)


# -- the artifacts, and what reads them --------------------------------------------------------------------------------


def save_encoder(folder: Path) -> None:
    architecture = Architecture("compact", 4, 6, 5, 8, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    Encoder(architecture).eval().save(folder)


def save_checkpoint(folder: Path) -> None:
    module, optimizer = network()
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    progress = checkpoint.Progress(1, ({"batch": 1, "loss": 0.5},), ({"epoch": 0, "knn/top1": 0.5},))
    checkpoint.save(folder / "checkpoint.safetensors", module, optimizer, progress)


def network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    return module, torch.optim.AdamW(module.parameters())


def save_comparison(folder: Path) -> None:
    ends, accuracies = [0.5, 0.7], [[0.5, 0.6], [0.4, 0.7]]
    measures = {"probe/top1": {"vicreg": ([0.6, 0.61], ends), "untrained": ([0.4, 0.41], None)}}
    lists: dict[str, list[Any]] = {
        "probe/classes": [["cat", "dog"]] * 2,
        "probe/per_class": accuracies,
        "probe/pairs": [[["cat", "dog", 0.1]]] * 2,
    }
    values = comparison_values(
        measures,
        {("probe/top1", "vicreg", "untrained"): (0.2, [0.1, 0.3])},
        {path: {"vicreg": by_seed} for path, by_seed in lists.items()},
    )
    Scores(values).save(folder)


def save_scores(folder: Path) -> None:
    scores = evidence("shapes-vicreg", 0.5)["retrieve"]
    figures = evidence("shapes-vicreg", 0.5)["project"].figures | evidence("shapes-vicreg", 0.5)["probe"].figures
    values = scores.values | evidence("shapes-vicreg", 0.5)["probe"].values
    Scores(values, figures, scores.pictures, {"probe/top1": np.ones(5, bool), "a/b": np.ones(5, np.float32)}).save(
        folder
    )


def use_images(folder: Path) -> None:
    images = Images.load(folder)
    encoder = Encoder(Architecture("pixels", 0, 0, 0, images.size, images.mean, images.std))
    for split in (images.train, images.test):
        assert encoder.encode(split, 0, 2)[1].isfinite().all()


def use_embeddings(folder: Path) -> None:
    embeddings = Embeddings.load(folder)
    neighbors = find_neighbors(embeddings, 3)
    eigenmaps(neighbor_graph(neighbors.train_ids), 4, seed=0)


def use_neighbors(folder: Path, embeddings: Embeddings = DATA) -> None:
    neighbors = Neighbors.load(folder)
    nearest(neighbors.index, embeddings.train, embeddings.test, 3)
    neighbor_graph(neighbors.train_ids)
    partners = Partners.load(folder, pictures("blobs", embeddings), 2, "blobs")
    partners.draw("test", np.arange(4), torch.Generator())


def use_encoder(folder: Path) -> None:
    encoder = Encoder.load(folder)
    encoder.encode(IMAGES.test, 0, 2)


def use_scores(folder: Path) -> None:
    scores = load("probe", folder)
    with reading(folder):
        for figure in scores.figures.values():
            json.dumps(drawing(figure).data, allow_nan=False).encode()
    for picture in scores.pictures.values():
        address(picture)
    json.dumps(scores.values, allow_nan=False, ensure_ascii=False).encode()


def use_comparison(folder: Path) -> None:
    comparison = Comparison.load(folder)
    claims = ClaimsConfig("blobs").claims
    decisions = [decide(claim.rule, Measurements(comparison, claims.seedless)) for claim in claims.claims]
    json.dumps(entries(claims.claims, decisions, comparison), allow_nan=False)


def save_page(folder: Path) -> None:
    for name, scores in evidence(FULL, 0.5).items():
        (folder / name).mkdir()
        scores.save(folder / name)


def use_page(folder: Path) -> None:
    """The page of a book whose evidence of one variant comes from `folder`."""
    book = page_book()
    changed = dict(book.evidence)
    for name in evidence(FULL, 0.5):
        entry = changed[name, FULL]
        changed[name, FULL] = replace(entry, scores=load(name, folder / name))
    book = replace(book, evidence=changed)
    book.check()
    render(book).encode()
    overlays(book)
    summary_frame(book)


@cache
def page_book() -> Book:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(filled()))
        return collect((FULL, NEIGHBORS))


def use_checkpoint(folder: Path) -> None:
    module, optimizer = network()
    try:
        checkpoint.load(folder / "checkpoint.safetensors", module, optimizer, lambda progress: None)
    except checkpoint.Misfit as misfit:
        raise Problem(str(misfit)) from misfit
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()


def use_origin(folder: Path) -> None:
    origin = Origin.load(folder)
    assert (origin.alias + origin.stage).encode()


@dataclass(frozen=True)
class Reader:
    save: Callable[[Path], None]
    use: Callable[[Path], None]
    examples: int = 40


def indexed(inverted: Inverted | None, embeddings: Embeddings = DATA) -> Callable[[Path], None]:
    return lambda folder: find_neighbors(embeddings, 3, inverted).save(folder)


READERS = {
    "images": Reader(IMAGES.save, use_images),
    "embeddings": Reader(DATA.save, use_embeddings),
    "neighbors": Reader(indexed(None), use_neighbors),
    "inverted neighbors": Reader(indexed(Inverted(4, 2)), use_neighbors),
    "coded neighbors": Reader(indexed(Inverted(4, 2, 2), MANY), partial(use_neighbors, embeddings=MANY)),
    "encoder": Reader(save_encoder, use_encoder),
    "scores": Reader(save_scores, use_scores),
    "compare": Reader(save_comparison, use_comparison),
    "page": Reader(save_page, use_page, examples=2),
    "checkpoint": Reader(save_checkpoint, use_checkpoint),
    "origin": Reader(Origin("eval.embed", "a", "a-b", 1, {"k": [1, None]}, ("images@0a",)).save, use_origin),
}


# -- the trial ---------------------------------------------------------------------------------------------------------


def trials(reader: Reader, place: Path, scale: int, report: Path) -> None:
    """Tries changes until the time is up. report: what is tried at the moment, and before it every crash."""
    sound = place / "sound"
    sound.mkdir()
    reader.save(sound)
    reader.use(sound)
    files = [path.relative_to(sound) for path in sorted(sound.rglob("*")) if path.is_file()]
    end = time.monotonic() + MINUTE
    crashes: list[str] = []
    tried = 0

    @settings(database=None, deadline=None, max_examples=reader.examples, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def trial(data: st.DataObject) -> None:
        nonlocal tried
        folder = place / "probe-v0"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        what = [change(folder / data.draw(st.sampled_from(files)), data)]
        tried += 1
        report.write_text(json.dumps({"tried": tried, "crashes": crashes, "now": what}))
        try:
            reader.use(folder)
        except Problem as problem:
            if "\n" in str(problem):
                crashes.append(f"{what}: {problem}")
        except Exception:
            crashes.append(f"{what}: {traceback.format_exc()[-1500:]}")

    for number in rounds():
        seed(number)(trial)()
        if scale == 1 or time.monotonic() > end:
            break
    report.write_text(json.dumps({"tried": tried, "crashes": crashes, "now": None}))


@pytest.mark.parametrize("name", READERS)
def test_whatever_an_artifact_holds_is_read_or_refused_in_one_line(name: str, scale: int, count: Count) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place, report = Path(scratch), Path(scratch) / "report"
        child = os.fork()
        if not child:
            code = 1
            try:
                trials(READERS[name], place, scale, report)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert report.exists(), f"nothing was tried: {code}"
        result = json.loads(report.read_text())
    died = [f"{result['now']}: signal {-code}"] if code < 0 else []
    count(f"values of {name}", result["tried"], crashed=len(result["crashes"]) + len(died))
    assert (code, died, result["crashes"]) == (0, [], []), "\n\n".join([*result["crashes"][:5], *died])
