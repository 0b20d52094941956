"""The sweep files: W&B takes them, and every trial that they can ask for is a command that the program takes."""

import importlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from eval import probe
from tests.parts.artifacts import images, publish_images, refusal
from tests.parts.embeddings import blobs, publish_embeddings
from train import pretrain
from train.methods.vicreg import Config
from train.tracking.declarations import stages
from train.tracking.store import home

FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
QUESTIONS = {
    "terms", "augmentations", "projector", "neighbors", "search", "evaluation", "simsiam", "league", "harder", "siamese",
    "recipe-simsiam", "recipe-byol", "recipe-barlow", "recipe-lejepa", "latents", "beta", "diffusion",
}  # fmt: skip
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


# -- W&B's schema ------------------------------------------------------------------------------------------------------
# W&B checks a sweep on its server; the client ships no schema, and the package that does (`sweeps`) bears the name of ours
# and needs numpy 1. So this states what its schema.json (0.3.0) allows for flat parameters, the beta distributions aside.


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Constant(Strict):
    value: Any
    distribution: Literal["constant"] = "constant"


class Choices(Strict):
    values: list[Any] = Field(min_length=1)
    distribution: Literal["categorical"] = "categorical"


class WeightedChoices(Strict):
    values: list[Any] = Field(min_length=1)
    probabilities: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    distribution: Literal["categorical_w_probabilities"] = "categorical_w_probabilities"


class Between(Strict):
    min: float
    max: float

    @model_validator(mode="after")
    def ordered(self) -> "Between":
        if self.min >= self.max:
            raise ValueError(f"min {self.min} is not less than max {self.max}")
        return self


class Integers(Between):
    min: int
    max: int
    distribution: Literal["int_uniform"] = "int_uniform"


class Uniform(Between):
    distribution: Literal["uniform"] = "uniform"


class Exponents(Between):
    distribution: Literal["log_uniform", "inv_log_uniform"]


class Logarithmic(Between):
    min: float = Field(gt=0)
    distribution: Literal["log_uniform_values", "inv_log_uniform_values"]


class Quantized(Between):
    q: float = Field(default=1.0, gt=0)
    distribution: Literal["q_uniform", "q_log_uniform"]


class QuantizedLogarithmic(Between):
    min: float = Field(gt=0)
    q: float = Field(default=1.0, gt=0)
    distribution: Literal["q_log_uniform_values"]


class Gaussian(Strict):
    mu: float = 0.0
    sigma: float = Field(default=1.0, ge=0)


class Normal(Gaussian):
    distribution: Literal["normal", "log_normal"]


class QuantizedNormal(Gaussian):
    q: float = Field(default=1.0, gt=0)
    distribution: Literal["q_normal", "q_log_normal"]


class Metric(Strict):
    name: str
    goal: Literal["minimize", "maximize"] = "minimize"
    target: float | None = None
    impute: Literal["latest", "best", "worst"] = "worst"
    impute_while_running: Literal["latest", "best", "worst", "false"] = "false"


class FirstBand(Strict):
    type: Literal["hyperband"]
    min_iter: int = Field(ge=1)
    eta: float = Field(default=3, gt=1)
    strict: bool = True


class LastBand(Strict):
    type: Literal["hyperband"]
    max_iter: int
    s: float
    eta: float = Field(default=3, gt=1)
    strict: bool = True


Parameter = (
    Constant | Choices | WeightedChoices | Integers | Uniform | Exponents | Logarithmic | Quantized
    | QuantizedLogarithmic | Normal | QuantizedNormal
)  # fmt: skip


class SweepFile(Strict):
    """What W&B's server takes, and what `wandb agent` needs beside it: a program and parameters."""

    program: str
    command: list[str]
    method: Literal["grid", "random", "bayes"]
    parameters: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")], Parameter] = Field(min_length=1)
    metric: Metric | None = None
    early_terminate: FirstBand | LastBand | None = None
    run_cap: int | None = Field(default=None, gt=0)
    name: str | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None

    @model_validator(mode="after")
    def searchable(self) -> "SweepFile":
        if self.method == "grid" and any(
            not isinstance(parameter, Constant | Choices | Integers) for parameter in self.parameters.values()
        ):
            raise ValueError("a grid takes listed values and ranges of integers only")
        if self.metric is None and (self.method == "bayes" or self.early_terminate):
            raise ValueError("what is searched or stopped early needs a metric")
        return self


VALID: dict[str, Any] = {
    "program": "train.pretrain",
    "command": ["${env}", "${interpreter}", "-m", "${program}", "${args}"],
    "method": "bayes",
    "metric": {"name": "knn/top1"},
    "parameters": {"seed": {"value": 0}},
}
UNSOUND: dict[str, dict[str, Any]] = {
    "a key that W&B does not know": {"parametres": {}},
    "a method that W&B does not know": {"method": "genetic"},
    "no parameter": {"parameters": {}},
    "a bound that YAML read as a word": {
        "parameters": {"rate": {"min": "1e-4", "max": 1.0, "distribution": "log_uniform_values"}}
    },
    "a logarithm of zero": {"parameters": {"rate": {"min": 0.0, "max": 1.0, "distribution": "log_uniform_values"}}},
    "one bound": {"parameters": {"rate": {"min": 0.0}}},
    "bounds the wrong way round": {"parameters": {"rate": {"min": 1.0, "max": 0.0}}},
    "no values": {"parameters": {"seed": {"values": []}}},
    "a value and values": {"parameters": {"seed": {"value": 0, "values": [0]}}},
    "a bare value": {"parameters": {"seed": 0}},
    "a metric without a name": {"metric": {"goal": "maximize"}},
    "a goal that W&B does not know": {"metric": {"name": "knn/top1", "goal": "max"}},
    "no metric to search by": {"metric": None},
    "early termination at no iteration": {"early_terminate": {"type": "hyperband"}},
    "a first band of zero": {"early_terminate": {"type": "hyperband", "min_iter": 0}},
    "a cap of zero": {"run_cap": 0},
    "a grid over a range of real numbers": {"method": "grid", "parameters": {"rate": {"min": 0.0, "max": 1.0}}},
}


@pytest.mark.parametrize("change", UNSOUND.values(), ids=UNSOUND)
def test_the_check_refuses(change: Mapping[str, Any]) -> None:
    SweepFile.model_validate(VALID)
    with pytest.raises(ValidationError):
        SweepFile.model_validate({**VALID, **change})


@every_file
def test_wandb_takes_the_file(file: Path) -> None:
    definition = load_sweep_config(str(file))  # as `wandb sweep` reads it
    SweepFile.model_validate(definition)


# -- what a file says --------------------------------------------------------------------------------------------------


def read(file: Path) -> dict[str, Any]:
    definition = yaml.safe_load(file.read_text())
    assert isinstance(definition, dict)
    return definition


def program(definition: Mapping[str, Any]) -> ModuleType:
    return importlib.import_module(definition["program"])


def test_every_question_has_its_file() -> None:
    assert {file.stem for file in FILES} == QUESTIONS


@every_file
def test_it_says_its_name_and_its_question(file: Path) -> None:
    definition = read(file)
    names = [read(other)["name"] for other in FILES]
    assert names.count(definition["name"]) == 1 and len(definition["name"]) < 40
    assert definition["description"].splitlines()[0].endswith("?")
    assert not any(line.startswith("#") for line in file.read_text().splitlines())


@every_file
def test_the_program_is_a_stage_and_its_inputs_are_those_of_the_digits(file: Path) -> None:
    definition = read(file)
    assert definition["program"] in stages()
    names = [
        value
        for name, spec in definition["parameters"].items()
        if name in ("images", "embeddings", "neighbors")
        for value in ([spec["value"]] if "value" in spec else spec["values"])
    ]
    assert names
    assert all(name == "digits" or name.startswith("digits-") for name in names)


def ends(spec: Mapping[str, Any]) -> list[Any]:
    """Every listed value of a parameter, or the bounds of its range."""
    return [spec["value"]] if "value" in spec else spec["values"] if "values" in spec else [spec["min"], spec["max"]]


@every_file
def test_every_parameter_is_a_field_of_the_config_with_its_exact_type(file: Path) -> None:
    definition = read(file)
    for point in points(definition):
        hints = get_type_hints(type(parse(definition, point)))  # the methods have flags of their own
        for name, value in point.items():
            assert name in hints, name
            TypeAdapter(hints[name], config=ConfigDict(strict=True)).validate_python(value)
            assert type(value) in kinds(hints[name]), f"{name}: {value!r} for {hints[name]}"
            if "min" in (
                spec := definition["parameters"][name]
            ):  # a range gives fractions unless it is one of integers
                draw = int if spec.get("distribution") == "int_uniform" else float
                assert kinds(hints[name]) == {draw}, name


def kinds(hint: Any) -> set[type]:
    """The types that a field's values can have: `str | None` gives both, a Literal those of its members."""
    if get_origin(hint) is Literal:
        return {type(member) for member in get_args(hint)}
    return {kind for part in get_args(hint) for kind in kinds(part)} if get_args(hint) else {hint}


@every_file
def test_no_two_points_of_a_grid_are_the_same_training(file: Path) -> None:
    definition = read(file)
    configs = [parse(definition, point) for point in points(definition)]
    configs = [getattr(config, "resolved", config) for config in configs]  # without what `without` leaves out
    assert all(a != b for a, b in itertools.combinations(configs, 2))


# -- what W&B's agent makes of it --------------------------------------------------------------------------------------


def points(definition: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of listed values and of the bounds of ranges."""
    specs = definition["parameters"]
    for values in itertools.product(*map(ends, specs.values())):
        yield dict(zip(specs, values, strict=True))


def command_of(definition: Mapping[str, Any], point: Mapping[str, Any]) -> list[str]:
    """The command line of a trial, with the agent's own filling of `${args}`."""
    filled = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    macros = {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [definition["program"]], **filled}
    command = create_sweep_command(list(definition["command"]))
    return [
        word
        for part in command
        for word in (macros[part[2:-1]] if part.startswith("${") and part.endswith("}") else [part])
    ]


def parse(definition: Mapping[str, Any], point: Mapping[str, Any]) -> Any:
    """The configuration that the program makes of the agent's literal arguments."""
    command = command_of(definition, point)
    assert command[:4] == ["/usr/bin/env", "python", "-m", definition["program"]]
    return program(definition).COMMAND.parse(command[4:])


@every_file
def test_the_program_takes_the_arguments_of_every_trial_as_the_agent_writes_them(file: Path) -> None:
    definition = read(file)
    for point in points(definition):
        config = parse(definition, point)
        for name, value in point.items():
            assert getattr(config, name) == value, name
            assert type(getattr(config, name)) is type(value), name


def test_the_agent_writes_flags_with_underscores_and_equals_signs() -> None:
    point = {"images": "digits", "batch_size": 256, "compile": False, "learning_rate": 0.01, "invariance": 25}
    command = command_of(VALID, point)
    assert command[4:] == [
        "--images=digits", "--batch_size=256", "--compile=False", "--learning_rate=0.01", "--invariance=25",
    ]  # fmt: skip
    config = parse(VALID, point)
    assert (config.batch_size, config.compile, config.learning_rate) == (256, False, 0.01)
    assert type(config.invariance) is float  # JSON, by which a value comes from W&B, may drop the fraction of 25.0


@pytest.mark.parametrize("flag", ["--batch_size=big", "--without=jittering", "--sead=1"])
def test_an_argument_that_does_not_fit_is_refused_in_one_line(flag: str) -> None:
    assert "--help" in refusal(lambda: pretrain.COMMAND.parse(["--images=digits", flag]))


def test_every_augmentation_that_is_left_out_is_there_otherwise() -> None:
    definition = read(next(file for file in FILES if file.stem == "augmentations"))
    constants = {name: spec["value"] for name, spec in definition["parameters"].items() if "value" in spec}
    choices = definition["parameters"]["without"]["values"]
    assert choices == list(get_args(get_type_hints(Config)["without"]))
    full = parse(definition, {**constants, "without": "nothing", "seed": 0})
    for name in choices[1:]:
        assert full.crop_largest < 1 if name == "crop" else getattr(full, name) > 0, name


def test_terms_are_on_with_the_weights_of_the_preset() -> None:
    definition = read(next(file for file in FILES if file.stem == "terms"))
    preset = Config.defaults({"preset": definition["parameters"]["preset"]["value"]})
    for name in ("invariance", "variance", "covariance"):
        assert definition["parameters"][name]["values"] == [getattr(preset, name), 0.0]


# -- the metrics -------------------------------------------------------------------------------------------------------


def metrics_of(stage: str) -> set[str]:
    return {definition["metric"]["name"] for definition in map(read, FILES) if definition["program"] == stage}


def records(kind: str) -> list[dict[str, Any]]:
    """The records of a kind that W&B itself finds in the log of the last run."""
    (log,) = home().glob("wandb/latest-run/*.wandb")
    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(log)]
    entries = map(json.loads, subprocess.check_output(inspect, text=True).splitlines())
    return [record[kind] for record in entries if record["type"] == kind]


def test_a_training_logs_the_metric_of_its_sweeps_before_the_first_epoch_and_after_each() -> None:
    publish_images(images("tiny", blobs(3, 10, 4, seed=0), size=16))
    arguments = ["--preset=small", "--epochs=2", "--batch_size=8", "--view_count=2", "--width=4", "--projector_width=8"]
    pretrain.COMMAND.run(["--images=tiny", *arguments])
    (metric,) = metrics_of("train.pretrain")
    rows = [record["item"] for record in records("history")]
    assert [row["epoch"] for row in rows if metric in row] == [0, 1, 2]


def test_a_probe_leaves_the_metric_of_its_sweeps_in_the_summary_of_its_run() -> None:
    alias = publish_embeddings(blobs(2, 12, 4, seed=0))
    probe.main(probe.Config(alias, resamples=10))
    (metric,) = metrics_of("eval.probe")
    assert metric in {key for record in records("summary") for key in record["update"]}
