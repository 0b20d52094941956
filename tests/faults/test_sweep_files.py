"""Sweep files that somebody else made, or that broke: each is taken and runs `python -m PROGRAM`, or is refused in a line."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.definition import read
from sweeps.queue import distribution
from tests.faults.conftest import Count
from tests.parts.sweeps import FLOORS
from train.tracking import Problem, stage_command

WORDS = [
    "1e-4",
    "010",
    "on",
    "~",
    ".inf",
    "nan",
    "2026-11-25",
    "1:30",
    "0x1F",
    "latest",
    "${env}",
    "${args}",
    "${envvar:A}",
]
NUMBERS = [0, 1, -1, 2, 3, 10**12, 2**63, 10**400, 0.1, 1e-300, 1e300, float("inf"), float("nan"), True, False, None]
KEYS = ["value", "values", "min", "max", "q", "distribution", "parameters", "probabilities", "mu", "name", "goal", "type",
        "min_iter", "max_iter", "s", "eta"]  # fmt: skip
KINDS = [
    "constant",
    "categorical",
    "int_uniform",
    "uniform",
    "q_uniform",
    "log_uniform_values",
    "q_log_uniform_values",
    "beta",
]
PARTS = [*FLOORS, "run_cap", "early_terminate", "name", "description", "on", None]
FIELDS = ["images", "patches", "patches", "seed", "seed", "kind", "help", "patches-", True]

scalars = st.sampled_from([*WORDS, *NUMBERS, *KINDS, "grid", "random", "bayes", "patches"]) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(KINDS) if key == "distribution" else values for key in KEYS[:6]}
)
likely = st.fixed_dictionaries(
    {"min": st.sampled_from(NUMBERS), "max": st.sampled_from(NUMBERS)},
    optional={"q": st.sampled_from(NUMBERS), "distribution": st.sampled_from(KINDS)},
)
choices = st.fixed_dictionaries({"values": st.lists(st.integers(1, 9) | scalars, min_size=1, max_size=4)})
parameters = st.dictionaries(st.sampled_from(FIELDS), choices | likely | entries, max_size=3)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A sweep of which some parts are others, as bytes of which a few may be others."""
    sweep: dict[Any, Any] = {**FLOORS, "method": draw(st.sampled_from(["grid", "random", "bayes"]))}
    for part in draw(st.lists(st.sampled_from(PARTS), max_size=2)) if draw(st.booleans()) else ():
        sweep[part] = draw(values)
    if draw(st.booleans()):
        sweep["parameters"] = {**FLOORS["parameters"], **draw(parameters)}  # type: ignore[dict-item]
    text = yaml.dump(sweep, sort_keys=False, allow_unicode=True, default_flow_style=draw(st.booleans()))
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for place in draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)) if not draw(st.integers(0, 3)) else ():
        raw[place] = draw(st.sampled_from(b"&*![]{}:,#'\"\t\n -0x\x00\xff"))
    return bytes(raw)


def test_a_hostile_sweep_file_runs_its_program_or_is_refused_in_a_line(
    tmp_path: Path, count: Count, scale: int
) -> None:
    path, program = tmp_path / "terms.yaml", stage_command("train.patches")
    tries: list[int] = []
    crashes: list[str] = []
    lies: list[str] = []

    def attempt(raw: bytes) -> None:
        tries.append(1)
        path.write_bytes(raw)
        try:
            definition = read(path)
            if definition.program != "train.patches":
                return
            definition = definition.in_types_of(program)
            json.dumps(dict(definition.content))  # as the study stores it
            for parameter in definition.swept:
                distribution(parameter)
            points = list(itertools.islice(definition.points(), 3)) if definition.method == "grid" else []
            for point in points:
                program.parse(definition.program_flags(point))
                command = definition.command_line(point)
                if command[command[0] == "/usr/bin/env" :][:3] != [sys.executable, "-m", "train.patches"]:
                    lies.append(str(command))
        except Problem as problem:
            if "\n" in str(problem) or not str(problem).startswith(str(path)) or len(str(problem)) > 1000:
                lies.append(str(problem))
        except Exception as error:
            crashes.append(f"{type(error).__name__}: {error}")

    run = settings(
        max_examples=100 * scale, deadline=None, database=None, derandomize=scale == 1,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run(given(files())(attempt))()
    count("hostile sweep files", len(tries), lost=len(lies), crashed=len(crashes))
    assert not crashes and not lies
