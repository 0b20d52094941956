"""Names that can be no alias are refused when a stage takes them, before it computes."""

from collections.abc import Callable

import pytest

from eval import sweep
from tests.parts.artifacts import images, publish_encoder, publish_images, refusal
from tests.parts.embeddings import NoConfig, blobs
from train import patches, prepare, pretrain
from train.data import datasets
from train.data.images import Images
from train.engine.loop import Training
from train.tracking import Problem, Stage
from train.tracking.declarations import LONGEST, check_alias, check_room


@pytest.mark.parametrize("alias", ["latest", "v0", "v12345678901234567890", "a" * 129, "a b", "", "-a", "a\n", "ä"])
def test_an_alias_that_wandb_gives_or_refuses_is_none(alias: str) -> None:
    with pytest.raises(Problem):
        check_alias(alias)


def never(*arguments: object) -> None:
    raise AssertionError("it computed")


def test_a_name_that_leaves_no_room_is_refused_before_images_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "read", never)
    for length in (77, 100, 124, 128):
        line = refusal(lambda length=length: prepare.main(prepare.Config("digits", name="a" * length)))  # type: ignore[misc]
        assert f"{length} characters" in line
        beyond = int(line.rsplit(" ", 2)[1])
        with pytest.raises(AssertionError, match="it computed"):  # the cure
            prepare.main(prepare.Config("digits", name="a" * (length - beyond)))


def publish(name: str) -> None:
    pixels = images(name, blobs(2, 10, 4, seed=0))
    with Stage("train.prepare", NoConfig()) as stage:  # as it was made when names were not measured
        stage.dataset = name
        stage.publish("images", pixels.save, {"dataset": name})


@pytest.mark.parametrize(
    "main",
    [
        lambda name: pretrain.COMMAND.run(["--images", name, "--preset=small", "--batch_size=4"]),
        lambda name: patches.main(patches.Config(name, patches=4)),
    ],
)
def test_a_variant_that_leaves_no_room_is_refused_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch, main: Callable[[str], None]
) -> None:
    monkeypatch.setattr(Training, "run", never)
    monkeypatch.setattr(Images, "standardized", never, raising=False)
    publish("b" * 118)
    assert "leaves no room" in refusal(lambda: main("b" * 118))


def test_a_seed_of_many_digits_is_refused_before_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "run", never)
    publish("tiny")
    line = refusal(
        lambda: pretrain.COMMAND.run(["--images=tiny", "--preset=small", "--batch_size=4", f"--seed={10**120}"])
    )
    assert "is not below 4294967296" in line


@pytest.mark.parametrize("name", ["latest", "v3"])
def test_a_sweep_that_can_be_no_alias_is_refused(name: str) -> None:
    with Stage("eval.sweep", NoConfig()) as stage, pytest.raises(Problem, match="cannot be an alias"):
        stage.expect(sweep=name)
    assert "no study" in refusal(lambda: sweep.main(sweep.Config(name)))


def test_what_an_evaluation_takes_over_is_measured_by_its_own_aliases_alone() -> None:
    """A name from before names were measured can be evaluated, but for what would be too long."""
    long = "c" * 100
    publish_images(images("tiny", blobs(2, 10, 4, seed=0)))
    publish_encoder(long, "tiny")
    with Stage("eval.embed", NoConfig()) as stage:
        stage.about(stage.fetch("encoder", long))
        with pytest.raises(Problem, match="no alias"):
            stage.expect(images="d" * 30)


def test_a_name_with_room_has_it_in_every_alias_of_the_stages_after_it() -> None:
    for dataset, anomalies in (("a" * 76, "fashion-mnist"), ("a" * 45, "b" * 44)):
        check_room("train.prepare", {"dataset": dataset, "anomalies": anomalies})
        longest = f"{dataset}-vicreg-exercise-neighbors-s999-vs-{anomalies}"
        assert len(longest) <= LONGEST
    with pytest.raises(Problem, match="shorter"):
        check_room("train.prepare", {"dataset": "a" * 60, "anomalies": "b" * 60})
