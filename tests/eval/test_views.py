"""The stage eval.views: what it measures of encoders whose answer is known."""

import numpy as np
import torch

from eval.views import Config, harder_views, score
from tests.train.engine.test_loop import dots
from train.data.images import Images
from train.data.views import Augmentation
from train.engine.instances import standard_views
from train.models.encoder import Architecture, Encoder


def encoder(images: Images, kind: str = "pixels") -> Encoder:
    return Encoder(Architecture(kind, 0, 0, 0, images.size, images.mean, images.std)).eval()


def test_the_same_seed_gives_the_same_scores_and_another_one_others() -> None:
    images = dots(test=40)
    first, again, other = (
        score(encoder(images), images, Config("x", count=30, core=3, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.values == again.values != other.values
    assert first.values["views/images"] == 30 and first.values["views/chance"] == 1 / 30
    for path, sample in first.samples.items():
        assert len(sample) == (8 if path == "views/harder/farther" else 30) and first.values[path] == float(
            sample.mean()
        )
        ends = first.values[f"{path}/interval"]
        assert isinstance(ends, list) and ends[0] <= sample.mean() <= ends[1]


def test_an_encoder_that_sees_nothing_matches_by_chance_and_has_no_distances() -> None:
    images = dots(test=40)
    blind = encoder(images)
    blind.encode = lambda pixels, start, stop, mirror=False: (torch.ones(stop - start, 2),) * 2  # type: ignore[method-assign,assignment]
    scores = score(blind, images, Config("x", core=2))
    assert scores.values["views/matching"] == 1 / 40 and "views/harder/distance" not in scores.values
    assert scores.values["views/harder/farther"] == 0


def test_a_view_is_the_image_where_nothing_is_drawn_and_a_harder_one_is_farther_from_it() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3)).astype(np.uint8))
    nothing = Augmentation(size=16, scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grayscale=0, blur=0)
    draws = torch.Generator().manual_seed(0)
    views = standard_views(images, nothing, draws)
    assert torch.equal(views, images.permute(0, 3, 1, 2))
    changed = (harder_views(views, draws) != views).flatten(1).any(1)
    assert 0.8 < changed.float().mean() <= 1
