"""No dead end: what a driver refuses, it says how to have it done, and takes that; whatever data sets are called."""

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from eval.studies.all import get_study
from sweeps import make, run
from sweeps.make import Config, Driver
from tests.parts.artifacts import refusal
from tests.parts.pictures import CUT, two_classes, write_folder, write_zip
from train import prepare
from train.tracking import Problem, stage_command
from train.tracking.declarations import check_name
from train.tracking.store import Store

ROOT = Path(make.__file__).parents[1]
MAKEFILE = ROOT / "Makefile"
# What makes, or reads, image sets where `make run` does, and the flags that it never gives and so never hears of.
PARTS = (
    "sweeps/make.py",
    "train/prepare.py",
    "train/data/datasets.py",
    "train/data/folder.py",
    "train/data/layouts.py",
    "train/data/archive.py",
    "train/data/tars.py",
    "train/data/arrays.py",
    "train/data/tables.py",
    "train/data/decoding.py",
    "train/data/fingerprints.py",
)
UNHEARD = {"size", "test-share", "seed"}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """It runs stages in this process, without the seconds that another one takes."""

    def here(body: Callable[..., None], stage: str, flags: list[str], study: str) -> int:
        try:
            stage_command(stage).run(flags)
        except Problem as problem:
            print(f"{stage}: {problem}")
            return 2
        return 0

    monkeypatch.setattr(make, "run_to_its_end", here)
    return Driver(fresh=False)


def called(driver: Driver, dataset: Path | str, name: str = "") -> str:
    return driver.called(make.prepare(driver, make.Config(), str(dataset), name))


# -- names -------------------------------------------------------------------------------------------------------------


def test_sets_that_are_called_alike_get_names_of_their_own_where_their_images_differ(
    tmp_path: Path, driver: Driver
) -> None:
    one = write_zip(tmp_path / "one/archive.zip", two_classes())
    other = write_zip(tmp_path / "other/archive.zip", two_classes(each=4))
    copy = write_folder(tmp_path / "copy/archive", two_classes())
    assert called(driver, one) == "archive"
    assert re.fullmatch("archive-[0-9a-f]{6}", name := called(driver, other))
    assert called(driver, copy) == "archive"  # the same images
    assert called(driver, other) == name and called(driver, one) == "archive"
    assert [step.state for step in driver.steps] == ["made", "made", "reused", "reused", "reused"]
    assert called(driver, other, "birds") == "birds"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("猫狗.zip", "images-HASH"),
        ("...zip", "images-HASH"),
        ("cifar10.zip", "cifar10-HASH"),
        ("latest", "latest-HASH"),
        ("v3.zip", "v3-HASH"),
        ("a" * 120 + ".zip", "a" * 40 + "-HASH"),
        ('Bob\'s $HOME #1 50% "x" `y`; z.zip', "Bob-s-HOME-1-50-x-y-z"),
        ("-size=8", "size-8"),
    ],
)
def test_whatever_a_set_is_called_it_has_a_name(
    tmp_path: Path, store: Store, file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write = write_zip if file.endswith(".zip") else write_folder
    write(Path(file), two_classes())
    own = prepare.spare_name(store, file)
    expected = name.replace("HASH", str(prepare.Config(file, own or "x").fingerprint())[:6])
    flags = [f"--dataset={file}", *([f"--name={own}"] if own else [])]
    assert prepare.COMMAND.parse(flags).name == expected
    check_name(f"{expected}-vicreg-variance0-s10-vs-{expected}", "alias")


def test_a_long_name_that_has_results_keeps_it(tmp_path: Path, store: Store) -> None:
    source = write_folder(tmp_path / ("b" * 60), two_classes())
    assert prepare.spare_name(store, str(source)).startswith("b" * 40 + "-")
    prepare.main(prepare.Config(str(source), size=8))
    assert prepare.spare_name(store, str(source)) == ""


# -- cures -------------------------------------------------------------------------------------------------------------


def problems(file: str) -> list[str]:
    """The texts of every Problem in a file, as far as they stand there."""
    calls = [node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Call)]
    raised = [call for call in calls if ast.unparse(call.func).endswith(("Problem", "problem"))]
    return ["".join(str(part.value) for part in ast.walk(call) if isinstance(part, ast.Constant)) for call in raised]


@pytest.mark.parametrize("file", PARTS)
def test_every_flag_that_a_cure_names_is_one_that_make_run_takes(file: str) -> None:
    texts = problems(file)
    assert texts or file.endswith("fingerprints.py")
    variables = re.search(r"^VALUES := (.*)$", MAKEFILE.read_text(), re.M)
    assert variables
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(Config)}
    for text in texts:
        assert set(re.findall(r"--([a-z-]+)", text)) <= fields | UNHEARD, text
        assert set(re.findall(r"\b([A-Z_]{4,})=", text)) <= {*variables[1].split()}, text
    for field in fields:
        assert field.replace("-", "_").upper() in variables[1].split()


def test_every_flag_that_a_sweep_driver_names_is_its_own() -> None:
    for file in ("sweeps/run.py", "sweeps/definition.py", "sweeps/runner.py", "sweeps/queue.py"):
        for text in problems(file):
            flags = set(re.findall(r"--([a-z-]+)", text))
            assert flags <= {field.name for field in dataclasses.fields(run.Config)}, text


def cure(line: str, pattern: str) -> str:
    """What a line says to give."""
    match = re.search(pattern, line)
    assert match, line
    return match[1]


def test_what_a_command_line_is_refused_for_is_cured_by_what_the_line_says() -> None:
    assert Config(study=cure(refusal(lambda: Config(study="eggs")), "one of: ([a-z]+)"))
    assert Config(seeds=int(cure(refusal(lambda: Config(seeds=0)), r"give (\d+)")))
    assert "ANOMALIES=" in refusal(lambda: Config(dataset="photos", anomalies="photos"))
    assert Config(dataset="photos", anomalies="digits")
    assert run.Config(Path("x"), trials=int(cure(refusal(lambda: run.Config(Path("x"), trials=0)), r"give (\d+)")))


def test_an_unknown_set_is_cured_by_one_of_those_that_are_named(driver: Driver) -> None:
    line = refusal(lambda: called(driver, "eggs"))
    assert "photos" in cure(line, "one of: (.*)").split(", ")
    assert called(driver, "photos") == "photos"


def test_a_damaged_image_is_cured_by_leaving_it_out(
    tmp_path: Path, driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "pets", {**two_classes(), "train/cat/cut.png": CUT})
    line = refusal(lambda: called(driver, source))
    assert "--skip-corrupt True" in capsys.readouterr().out and "SKIP_CORRUPT=1" in line
    assert driver.called(make.prepare(driver, make.Config(skip_corrupt=True), str(source))) == "pets"


def test_a_name_that_is_taken_is_cured_by_another(
    tmp_path: Path, driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    called(driver, write_folder(tmp_path / "pets", two_classes()))
    other = write_folder(tmp_path / "animals", two_classes(each=4))
    line = refusal(lambda: called(driver, other, "pets"))
    assert "give another --name" in capsys.readouterr().out and "NAME=" in line
    assert called(driver, other, "more-pets") == "more-pets"


def test_a_set_under_two_names_is_not_its_own_anomalies(tmp_path: Path, driver: Driver) -> None:
    one = write_folder(tmp_path / "one/pets", two_classes(each=6))
    other = Path(shutil.copytree(one, tmp_path / "other/pets"))
    config = Config(dataset=str(one), anomalies=str(other))
    assert "ANOMALIES=" in refusal(lambda: make.run(driver, get_study("peel"), config))


def test_sets_too_small_for_what_is_measured_are_refused_before_anything_is_trained(
    tmp_path: Path, driver: Driver
) -> None:
    for name, each, part in (
        ("a", 2, "4 training images, and eval.retrieve needs 6"),
        ("b", 1, "eval.retrieve needs 6"),
    ):
        source = write_folder(tmp_path / name, two_classes(each=each))
        line = refusal(partial(make.run, driver, get_study("peel"), Config(dataset=str(source))))
        assert part in line and "add training images" in line
    assert {step.command[0] for step in driver.steps} == {"train.prepare"}
    with closing(Store()) as store:
        assert not store.versions("encoder")


# -- make --------------------------------------------------------------------------------------------------------------

SIGNS = (
    "it's",
    "a $HOME $(x ${y $$ z",
    "#1",
    "50%",
    '"q" `id`; ls & (',
    "a\\b",
    "x, y) z",
    "~/pets",
    "-x",
    "猫 狗",
    "a=b:=c",
)
SHOWN = ("PEEL_HOME", "PEEL_DATA", "WANDB_MODE")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A folder in which `make run` shows what it would run, and with what environment."""
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/usr/bin/env python3\nimport json, os, sys\n"
        f"print(json.dumps([sys.argv[3:], {{name: os.environ.get(name) for name in {SHOWN}}}]))\n"
    )
    python.chmod(0o755)
    for name in ("pyproject.toml", ".venv/run"):
        (tmp_path / name).touch()
    shutil.copy(MAKEFILE, tmp_path)
    return tmp_path


def outside_make() -> dict[str, str]:
    """The environment without what `make test` says to a make below it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def made(folder: Path, *words: str, **environment: str) -> tuple[Config, dict[str, str | None]]:
    process = subprocess.run(
        ["make", "--no-print-directory", "run", *words], cwd=folder, env={**outside_make(), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments, shown = json.loads(process.stdout)
    return make.COMMAND.parse(arguments), shown


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("way", ["words", "environment"])
def test_make_passes_every_path_on_as_it_is(recipe: Path, sign: str, way: str) -> None:
    values = {name: f"{sign} {name}" for name in ("DATASET", "ANOMALIES", "DATA", "PEEL_HOME")}
    if way == "words":
        config, shown = made(recipe, *(f"{name}={value}" for name, value in values.items()), f"NAME={sign}")
        assert config.name == sign
    else:
        config, shown = made(recipe, **values)
    assert (config.dataset, config.anomalies) == (values["DATASET"], values["ANOMALIES"])
    assert (shown["PEEL_DATA"], shown["PEEL_HOME"]) == (values["DATA"], values["PEEL_HOME"])


def test_make_run_without_words_is_the_driver_without_flags(recipe: Path) -> None:
    clean = {name: "" for name in (*SHOWN, "DATASET", "ANOMALIES", "STUDY", "SEEDS")}
    environment = {name: value for name, value in outside_make().items() if name not in clean}
    process = subprocess.run(
        ["make", "run"], cwd=recipe, env={**environment, "NAME": "host"}, capture_output=True, text=True, check=True
    )
    assert make.COMMAND.parse(json.loads(process.stdout)[0]) == Config()


def test_make_passes_switches_and_data_on(recipe: Path) -> None:
    config, shown = made(
        recipe,
        "SKIP_CORRUPT=1",
        "UNLABELED=1",
        "DATASET=birds",
        "FRESH=1",
        "SEEDS=3",
        "MODE=offline",
        PEEL_DATA="from $here",
    )
    assert config == Config(dataset="birds", seeds=3, fresh=True, skip_corrupt=True, unlabeled=True)
    assert (shown["PEEL_DATA"], shown["WANDB_MODE"]) == ("from $here", "offline")
