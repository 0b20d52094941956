"""Configurations of methods: what is added later changes no identity, and each method takes its own flags alone."""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from tests.parts.artifacts import refusal
from tests.train.methods.test_identities import COMMANDS
from train import pretrain
from train.methods import vicreg
from train.methods.config import Config
from train.methods.variants import baseline, variant_name
from train.pretrain import METHODS
from train.tracking import LATER, Command
from train.tracking.origin import identity, settings


@dataclass(frozen=True)
class Later(vicreg.Config):
    temperature: Annotated[float, LATER] = 0.5
    """Added when results existed."""


LATER_COMMAND: Command[Any] = Command(pretrain.main, Later.defaults)


@pytest.mark.parametrize("row", COMMANDS, ids=[row[0] or "none" for row in COMMANDS])
def test_a_later_field_leaves_every_settings_hash_at_its_default_and_changes_it_at_another_value(row: Any) -> None:
    flags, name, *_, expected = row
    command = ["--images", "cifar10", *shlex.split(flags)]
    config = LATER_COMMAND.parse(command)
    assert config.temperature == 0.5 and settings("train.pretrain", config) == expected
    assert variant_name(config, "cifar10", 50_000) == name
    warmer = LATER_COMMAND.parse([*command, "--temperature", "0.7"])
    assert settings("train.pretrain", warmer) != expected
    if warmer.epochs:  # without training only the network matters
        assert variant_name(warmer, "cifar10", 50_000) != name


@pytest.mark.parametrize("name", METHODS)
def test_the_table_agrees_with_the_configuration_and_only_the_first_method_is_left_out_of_an_identity(
    name: str,
) -> None:
    config = pretrain.configured({"method": name})
    assert config.method == name and get_args(get_type_hints(type(config))["method"]) == (name,)
    assert ("method" in identity(config)) == (name != next(iter(METHODS)))
    assert variant_name(config, "x", 50_000) == f"x-{name}"
    assert set(config.PEELED) <= {field.name for field in dataclasses.fields(config)}
    assert METHODS[name].terms and "total" not in METHODS[name].terms


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_can_be_chosen_and_is_its_own_baseline(name: str) -> None:
    kind = METHODS[name].configuration
    presets = get_args(get_type_hints(kind)["preset"])
    assert presets == tuple(kind.PRESETS) == tuple(Config.PRESETS)
    for preset in presets:
        for views in ("augmented", "neighbors"):
            config = kind.defaults({"preset": preset, "views": views})
            assert baseline(config) == config


def test_the_method_chooses_the_flags_and_an_unknown_one_is_one_line_with_the_choices() -> None:
    assert pretrain.COMMAND.parse(["--images=x", "--method=vicreg"]) == pretrain.COMMAND.parse(["--images=x"])
    assert refusal(lambda: pretrain.COMMAND.parse(["--images=x", "--method", "vicrag"])) == (
        f"no method 'vicrag'; choose one of: {', '.join(METHODS)}"
    )
    assert "no flag --momentum-of-nothing" in refusal(
        lambda: pretrain.COMMAND.parse(["--images=x", "--momentum-of-nothing=1"])
    )


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--flip=1.5", "--flip 1.5 is not between 0 and 1"),
        ("--warmup=-0.1", "--warmup -0.1 is not between 0 and 1"),
        ("--blur=nan", "--blur nan is not between 0 and 1"),
        ("--nearest=0", "--nearest 0 is not at least 1"),
        ("--batch-size=0", "--batch-size 0 is not at least 1"),
        ("--seed=-1", "--seed -1 is not at least 0"),
        ("--seed=4294967296", "--seed 4.29497e+09 is not below 4294967296"),
        ("--learning-rate=inf", "--learning-rate inf is not a finite number"),
        ("--brightness=nan", "--brightness nan is not a finite number"),
        ("--variance=-2.5", "--variance -2.5 is not at least 0"),
        ("--crop-ratio=0.5", "--crop-ratio 0.5 is not at least 1"),
        ("--muon-rate=-1", "--muon-rate -1 is not at least 0"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_range(flag: str, line: str) -> None:
    assert refusal(lambda: pretrain.COMMAND.parse(["--images=x", flag])) == line


def test_every_number_that_had_a_range_has_it() -> None:
    shares = {"flip", "jitter", "grayscale", "blur", "solarize", "warmup"}
    least = {
        "batch_size": 1, "nearest": 1, "width": 1, "dimension": 1, "projector_width": 1, "projector_layers": 1,
        "epochs": 0, "view_size": 0, "seed": 0, "invariance": 0, "variance": 0, "covariance": 0, "weight_decay": 0,
        "learning_rate": 0, "muon_rate": 0, "hidden": 0, "crop_ratio": 1,
    }  # fmt: skip
    for name in shares:
        for value in (-0.01, 1.01):
            changes: dict[str, Any] = {name: value}
            assert f"{value:g} is not between 0 and 1" in refusal(lambda: vicreg.Config("x", **changes))  # noqa: B023
    for name, low in least.items():
        changes = {name: low - 1}
        assert f"{low - 1} is not at least {low}" in refusal(lambda: vicreg.Config("x", **changes))  # noqa: B023
