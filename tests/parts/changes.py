"""Changes to the files of an artifact, drawn by hypothesis: other values in JSON, arrays, weights and indexes, other bytes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

NUMBERS = [float("nan"), float("inf"), -1, 0, -0.5, 2**31, 2**63, -(2**63), 10**400, 1e-300, 1e149, 1e308]
VALUES: list[Any] = [
    *NUMBERS,
    None,
    True,
    "",
    "\ud800",
    "x",
    "..",
    "--help",
    [],
    [[]],
    {},
    {"x": [1]},
    [1, "x"],
    "x" * 300,
]
KINDS = ["float32", "float64", "int64", "int8", "uint8", "bool", "complex64", ">f4", "U3", "datetime64[s]"]


def change(path: Path, data: st.DataObject) -> str:
    """Changes a file; says how."""
    kinds = {".json": change_json, ".npy": change_array, ".safetensors": change_weights, ".faiss": change_fields}
    own = kinds.get(path.suffix, change_bytes)
    how = data.draw(st.sampled_from([own, own, own, change_bytes, change_kind]))
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


def change_kind(path: Path, data: st.DataObject) -> str:
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
