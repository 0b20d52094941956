"""The stage eval.generate: generators whose samples are known, by a judge of the digits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eval import generate
from eval.evidence.generation import Reference
from eval.evidence.judging import judged
from eval.generate import Config, draw, score
from tests.parts.artifacts import publish_images, refusal, without_labels
from tests.parts.judges import IMAGES, judge, publish_model
from train.data.images import Images
from train.data.scores import Scores
from train.engine.devices import autocast
from train.models.decoder import Decoder, Plan
from train.models.encoder import Architecture, Encoder
from train.tracking.declarations import declaration
from train.tracking.store import Store

ALL = len(IMAGES.test)


class Album(nn.Module):
    """Codes (n, d) -> whole images: the one whose key has the largest product with the code."""

    def __init__(self, pictures: NDArray[np.uint8], dimension: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.keys = nn.Parameter(torch.randn(len(pictures), dimension, generator=draws), False)
        self.pictures = nn.Parameter(torch.from_numpy(pictures / np.float32(255)).permute(0, 3, 1, 2), False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.pictures[(codes @ self.keys.T).argmax(dim=1)]


def decoder() -> Decoder:
    return Decoder(Plan(8, 4, 2, 1, 16, "none", "standard")).eval()


def memory(pictures: NDArray[np.uint8]) -> Decoder:
    """A decoder that was fitted to these pictures until nothing else was left."""
    result = decoder()
    result.network = Album(pictures, 8)  # type: ignore[assignment]
    return result


def config(count: int = ALL, **flags: Any) -> Config:
    return Config("x", **{"count": count, "resamples": 200, **flags})


def measure(samples: NDArray[np.uint8], images: Images = IMAGES) -> Scores:
    return score(decoder(), samples, images, judge(), config(len(samples)))


def test_a_generator_that_knows_50_training_images_alone_is_found_out() -> None:
    samples = draw(memory(IMAGES.train[:50, ..., :1]), config(), ALL)
    assert len(np.unique(samples, axis=0)) > 20
    scores = measure(samples)
    values: dict[str, Any] = scores.values
    assert values["generate/copies/shown"] == "yes" and values["generate/copies"] > 0.9
    assert values["generate/nearest"] == 0 < values["generate/nearest/real"]
    assert values["generate/coverage"] < values["generate/train/coverage"]  # sharp and accepted, and always the same
    for path, sample in scores.samples.items():
        assert len(sample) == ALL and values[path] == pytest.approx(sample.mean(), abs=1e-9)


def test_test_images_as_samples_are_no_copies_and_at_no_distance() -> None:
    values: dict[str, Any] = measure(IMAGES.test[..., :1]).values
    assert values["generate/copies/shown"] == "no"
    assert values["generate/kid"] < values["generate/train/kid"]  # each has itself on the other side
    assert values["generate/frechet"] == pytest.approx(0, abs=1e-3)
    assert values["generate/precision"] == values["generate/recall"] == values["generate/coverage"] == 1
    assert values["generate/sharpness"] == pytest.approx(1) and values["generate/blurry"] == pytest.approx(
        0.05, abs=0.01
    )
    assert values["generate/accepted"] == values["generate/accepted/real"] > 0.5


def test_uniform_noise_is_refused_by_the_judge_and_far_from_the_test_images() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 1), dtype=np.uint8)
    values: dict[str, Any] = measure(noise).values
    assert values["generate/accepted"] < 0.05 < 0.5 < values["generate/train/accepted"]
    assert values["generate/kid/interval"][0] > 3 * max(values["generate/train/kid"], values["generate/kid/real"], 0.01)
    # Spoiled images shape no feature that measures, so that some noise may lie among real images; far less than images do.
    assert values["generate/precision"] < values["generate/train/precision"] / 2


def test_blanks_are_refused_by_the_judge() -> None:
    """Also at the brightness of real images: a decoder that has learned nothing makes such."""
    brightness = np.linspace(0, 255, 200).astype(np.uint8)
    blanks = np.broadcast_to(brightness[:, None, None, None], (200, 16, 16, 1)).copy()
    values: dict[str, Any] = measure(blanks).values
    assert values["generate/accepted"] < 0.05


def by_class(images: Images) -> Images:
    order = np.argsort(images.test_labels, kind="stable")
    return replace(images, test=images.test[order], test_labels=images.test_labels[order])


def test_test_images_that_are_sorted_by_class_change_no_score() -> None:
    samples = IMAGES.train[:ALL, ..., :1]
    one, other = (measure(samples, images).values for images in (IMAGES, by_class(IMAGES)))
    assert one.keys() == other.keys()
    for path, value in one.items():
        if isinstance(value, float) and path != "generate/kid/real":  # of random halves
            assert other[path] == pytest.approx(value, rel=1e-3, abs=1e-3), path


def test_some_of_sorted_test_images_are_of_every_class() -> None:
    images = by_class(IMAGES)
    values: dict[str, Any] = measure(IMAGES.train[:100, ..., :1], images).values
    features = judged(judge(), IMAGES.train[100:200, ..., :1])[0]
    first = Reference.of(judged(judge(), images.test[:100, ..., :1])[0])  # three digits
    assert values["generate/train/kid"] < first.distance(features, 0, np.random.default_rng(0)).value / 4


def test_samples_follow_their_seed_and_those_of_one_seed_begin_alike() -> None:
    generator = memory(IMAGES.train[:50, ..., :1])
    one, again, other = (draw(generator, config(seed=seed), 30) for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).any()


@pytest.fixture
def lab() -> None:
    publish_images(IMAGES)
    publish_model("encoder", judge().save, "digits-supervised")
    publish_model("generator", decoder().save, "digits-ae")


def test_the_stage_names_its_judge(lab: None, store: Store) -> None:
    generate.main(replace(config(40), generator="digits-ae"))
    scores = Scores.load(store.folder(store.get("generate", "digits-ae")))
    assert scores.values["generate/judge"] == store.get("encoder", "digits-supervised").digest
    assert scores.values["generate/images"] == 40


def test_samples_of_unlabeled_images_are_measured_without_a_judge(store: Store) -> None:
    publish_images(without_labels(IMAGES))
    generator = decoder()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(4)  # a decoder with contrast
    publish_model("generator", generator.save, "digits-ae")
    generate.main(replace(config(40), generator="digits-ae"))
    scores = Scores.load(store.folder(store.get("generate", "digits-ae")))
    with autocast("auto", torch.device("cpu")), torch.no_grad():
        samples = draw(generator, config(40), 40)
    judged_too = score(generator, samples, IMAGES, judge(), config(40))
    needs_labels = declaration("generate").needs_labels
    for part in ("values", "samples", "figures", "pictures"):
        assert getattr(scores, part).keys() == {path for path in getattr(judged_too, part) if not needs_labels(path)}
    sharpness = scores.values["generate/sharpness"]
    assert isinstance(sharpness, float) and sharpness == judged_too.values["generate/sharpness"] and sharpness > 0
    assert set(scores.pictures) == {f"generate/{name}" for name in ("samples", "real", "large", "nearest")}


def test_what_is_no_judge_of_these_images_is_refused(lab: None, store: Store) -> None:
    publish_images(replace(IMAGES, name="others"))
    publish_model("encoder", judge().save, "others-supervised", "others")
    plain = Encoder(Architecture("judge", 4, 0, 10, 16, IMAGES.mean, IMAGES.std, {"channels": 1}))
    publish_model("encoder", plain.save, "digits-plain")

    def line(judge: str | None) -> str:
        return refusal(lambda: generate.main(Config("digits-ae", judge=judge)))

    assert "was not made from images:digits" in line("others-supervised")
    assert "digits-plain is no judge: it has 10 outputs" in line("digits-plain")
    assert "no artifact 'encoder:digits-superb'" in line("digits-superb")
    assert store.versions("generate") == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"count": 7}, "--count 7 is not at least 8"),
        ({"steps": 0}, "--steps 0 is not at least 1"),
        ({"seed": -1}, "--seed -1 is not at least 0"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: dict[str, int], words: str) -> None:
    assert refusal(lambda: Config("x", **flags)) == words  # type: ignore[arg-type]
