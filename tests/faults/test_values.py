"""What an artifact holds, changed at random as a stranger or a fault would: it is read, or refused in one line.

Each reader works in a process of its own, so that one that dies there is counted and not the end of the others.
"""

import json
import os
import shutil
import struct
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count as rounds
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from eval.claims import Config as ClaimsConfig
from eval.claims import entries
from eval.evidence.comparison import Comparison
from eval.evidence.kinds import check_kinds
from eval.evidence.rules import Measurements, decide
from eval.labbook.drawings import drawing
from eval.labbook.thumbnails import address
from tests.faults.conftest import Count
from tests.parts.artifacts import images as pictures
from tests.parts.comparisons import comparison_values
from tests.parts.embeddings import blobs
from tests.parts.shapes import evidence
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

EXAMPLES = 40
MINUTE = 60  # seconds, of each reader with --full
NUMBERS = [float("nan"), float("inf"), -1, 0, -0.5, 2**31, 2**63, -(2**63), 10**400, 1e-300, 1e149, 1e308]
VALUES = [*NUMBERS, None, True, "", "\ud800", "x", "..", "--help", [], [[]], {}, {"x": [1]}, [1, "x"], "x" * 300]
KINDS = ["float32", "float64", "int64", "int8", "uint8", "bool", "complex64", ">f4", "U3", "datetime64[s]"]
DATA = blobs(3, 8, 5, seed=1)
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
    lists = {
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


def use_neighbors(folder: Path) -> None:
    neighbors = Neighbors.load(folder)
    nearest(neighbors.index, DATA.train, DATA.test, 3)
    neighbor_graph(neighbors.train_ids)
    partners = Partners.load(folder, IMAGES, 2, "blobs")
    partners.draw("test", np.arange(4), torch.Generator())


def use_encoder(folder: Path) -> None:
    encoder = Encoder.load(folder)
    encoder.encode(IMAGES.test, 0, 2)


def use_scores(folder: Path) -> None:
    scores = Scores.load(folder)
    with reading(folder):
        check_kinds(scores.values, "probe")
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


def indexed(inverted: Inverted | None) -> Callable[[Path], None]:
    return lambda folder: find_neighbors(DATA, 3, inverted).save(folder)


READERS = {
    "images": Reader(IMAGES.save, use_images),
    "embeddings": Reader(DATA.save, use_embeddings),
    "neighbors": Reader(indexed(None), use_neighbors),
    "inverted neighbors": Reader(indexed(Inverted(4, 2)), use_neighbors),
    "encoder": Reader(save_encoder, use_encoder),
    "scores": Reader(save_scores, use_scores),
    "compare": Reader(save_comparison, use_comparison),
    "checkpoint": Reader(save_checkpoint, use_checkpoint),
    "origin": Reader(Origin("eval.embed", "a", "a-b", 1, {"k": [1, None]}, ("images@0a",)).save, use_origin),
}


# -- what is changed ---------------------------------------------------------------------------------------------------


def change(path: Path, data: st.DataObject) -> str:
    """Changes a file; says how."""
    kinds = {".json": change_json, ".npy": change_array, ".safetensors": change_weights, ".faiss": change_fields}
    own = kinds.get(path.suffix, change_bytes)
    how = data.draw(st.sampled_from([own, own, own, change_bytes, replace]))
    return f"{path.name}: {how(path, data)}"


def change_json(path: Path, data: st.DataObject) -> str:
    content = json.loads(path.read_text())
    if data.draw(st.integers(0, 9)) == 0:
        text = data.draw(
            st.sampled_from(
                ["[" * 5000, '{"a": 1, "a": 2}', "1", '"\\ud800"', json.dumps(content)[:-1] + ', "classes": []}']
            )
        )
        path.write_text(text)
        return repr(text[:80])
    place, value = content, data.draw(st.sampled_from(VALUES))
    names = []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        names.append(key)
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            if data.draw(st.integers(0, 4)) == 0:
                del place[key]
                value = "deleted"
            else:
                place[key] = value
            break
        place = place[key]
    path.write_text(json.dumps(content))
    return f"{names} = {str(value)[:60]!r}"


def change_array(path: Path, data: st.DataObject) -> str:
    array = np.load(path)
    how = data.draw(st.sampled_from(["value", "row", "kind", "shape", "cut", "empty", "order", "header"]))
    detail: Any = ""
    with np.errstate(all="ignore"):
        if how in ("value", "row") and array.size:
            detail = data.draw(
                st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e37, 1e18, -1, 0, 255, 2**62, -(2**62)])
            )
            place: Any = data.draw(st.integers(0, len(array) - 1))
            array[place if how == "row" else np.unravel_index(place, array.shape)] = np.float64(detail).astype(
                array.dtype
            )
        elif how == "kind":
            detail = data.draw(st.sampled_from(KINDS))
            array = array.astype(detail)
        elif how == "shape":
            detail = data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1), array.shape[::-1], (*array.shape, 1)]))
            array = array.reshape(detail)
        elif how == "cut":
            detail = data.draw(st.integers(0, len(array)))
            array = array[:detail]
        elif how == "empty":
            array = array.reshape(len(array), -1)[:, :0]
        elif how == "order":
            array = np.asfortranarray(array)
    np.save(path, array)
    if how == "header":
        detail = data.draw(st.sampled_from([f"({2**60}, 5)", "(-1, 5)", "(3", "()", "(24L,)", "(1.5, 2)", "-" * 40]))
        content = path.read_bytes()
        start = content.index(b"'shape': ") + 9
        path.write_bytes(content[:start] + detail.encode() + content[start + len(detail) :])
    return f"{how} {detail}"


def change_weights(path: Path, data: st.DataObject) -> str:
    tensors = load_file(path)
    metadata = {"progress": json.dumps({"step": 1, "batches": [], "epochs": []})}
    name = data.draw(st.sampled_from(sorted(tensors)))
    how = data.draw(
        st.sampled_from(["nan", "inf", "double", "half", "long", "flat", "gone", "named", "more", "progress"])
    )
    value = tensors.pop(name)
    tensors |= {
        "nan": {name: torch.full_like(value.double(), torch.nan).to(value.dtype)},
        "inf": {name: torch.full_like(value.double(), torch.inf).to(value.dtype)},
        "double": {name: value.double()},
        "half": {name: value.half()},
        "long": {name: value.long()},
        "flat": {name: value.flatten()},
        "gone": {},
        "named": {f"optimizer/-1/{name}": value},
        "more": {name: value, "optimizer/x/y/z": value},
        "progress": {name: value},
    }[how]
    if how == "progress":
        metadata = {
            "progress": data.draw(
                st.sampled_from(["", "[]", "{}", "NaN", '{"step": -1}', '{"step": 1e999}', "[" * 9999])
            )
        }
    save_file({key: value.clone() for key, value in tensors.items()}, path, metadata=metadata)
    return f"{how} {name}"


def change_fields(path: Path, data: st.DataObject) -> str:
    """Writes a number over some bytes: a count, a width, a type."""
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, min(len(content) - 8, 400)))
    value = data.draw(st.sampled_from([0, 1, -1, 2, 3, 7, 1000, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63)]))
    field = struct.pack("<q", value)[: data.draw(st.sampled_from([1, 4, 8]))]
    content[place : place + len(field)] = field
    path.write_bytes(content)
    return f"{value} at {place}"


def change_bytes(path: Path, data: st.DataObject) -> str:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    return f"bytes, and {cut} of {len(content)} left"


def replace(path: Path, data: st.DataObject) -> str:
    path.unlink()
    how = data.draw(st.sampled_from(["nothing", "folder", "empty", "postscript", "gif", "loop"]))
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    elif how != "nothing":
        path.write_bytes(
            {"empty": b"", "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n", "gif": b"GIF89a" + b"\xff" * 40}[how]
        )
    return how


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

    @settings(database=None, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
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
