"""The stage eval.decode: decoders and denoisers in closed form, by a judge of the digits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from eval import decode
from eval.decode import LEVELS, SAMPLERS, Config, between, restored, traversals
from eval.evidence.judging import judged
from eval.evidence.pictures import FRAME, GAP, TILE
from tests.parts.artifacts import publish_images, refusal
from tests.parts.judges import IMAGES, judge, publish_model
from train.data.images import Images
from train.data.scores import Scores
from train.models.decoder import Decoder, Plan
from train.models.diffuser import Diffuser
from train.models.diffuser import Plan as Diffusion
from train.models.encoder import Architecture, Encoder
from train.tracking.declarations import declaration
from train.tracking.store import Store

FLAT = IMAGES.train[..., 0].reshape(len(IMAGES.train), -1) / 255
TEST = IMAGES.test[..., 0].reshape(len(IMAGES.test), -1) / 255
RANK = 64  # of images that were doubled from 8x8


class Linear(nn.Module):
    """Codes (n, d) -> images (n, 1, 16, 16)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dimension, 256)

    def forward(self, codes: Tensor) -> Tensor:
        return self.layer(codes).unflatten(1, (1, 16, 16))  # type: ignore[no-any-return]


def linear(dimension: int) -> tuple[Encoder, Decoder]:
    """An encoder and a decoder by the principal components of the training images."""
    pca = PCA(dimension, svd_solver="full").fit(FLAT)
    encoder = Encoder(Architecture("pixels", 0, 0, dimension, 16, (0.0,) * 3, (1.0,) * 3)).eval()
    decoder = Decoder(Plan(dimension, 4, 2, 1, 16, "none", "standard")).eval()
    image, head = Linear(dimension), encoder.head[0]
    assert isinstance(head, nn.Linear)
    decoder.network = image  # type: ignore[assignment]
    axes, mean = (torch.from_numpy(part).float() for part in (pca.components_, pca.mean_))
    with torch.no_grad():
        head.weight.copy_(axes.repeat(1, 3) / 3)
        head.bias.copy_(-axes @ mean)
        image.layer.weight.copy_(axes.T)
        image.layer.bias.copy_(mean)
    return encoder, decoder


def measure(dimension: int, images: Images = IMAGES) -> dict[str, Any]:
    encoder, decoder = linear(dimension)
    return between(decoder, encoder, images, judge(), Config("x", pairs=120)).values


def accuracy() -> float:
    return float((judged(judge(), IMAGES.test)[1].argmax(axis=1) == IMAGES.test_labels).mean())


def test_the_error_of_a_linear_decoder_is_that_of_scikit_learns_principal_components() -> None:
    values = measure(5)
    pca = PCA(5, svd_solver="full").fit(FLAT)
    expected = np.mean((pca.inverse_transform(pca.transform(TEST)).clip(0, 1) - TEST) ** 2)
    assert values["decode/error"] == pytest.approx(expected, rel=1e-4)
    assert values["decode/pca"] == pytest.approx(expected, rel=1e-5)
    assert values["decode/mean"] == pytest.approx(np.mean((FLAT.mean(axis=0) - TEST) ** 2), rel=1e-5)
    assert values["decode/pca"] < values["decode/mean"] and values["decode/kept"] < accuracy()
    low, high = values["decode/error/interval"]
    assert low < values["decode/error"] < high


def test_what_lies_between_two_codes_of_a_lossless_linear_decoder_is_the_cross_fade() -> None:
    values = measure(RANK)
    assert values["decode/error"] == pytest.approx(0, abs=1e-6) and values["decode/kept"] == pytest.approx(accuracy())
    assert values["decode/middle/fade"] == pytest.approx(0, abs=1e-6)
    assert values["decode/unevenness"] == pytest.approx(1, abs=1e-3)
    for name in ("accepted", "third", "nearest"):
        assert values[f"decode/middle/{name}"] == pytest.approx(values[f"decode/fade/{name}"], abs=0.02)
    assert values["decode/fade/accepted"] < 0.5  # the judge has learned to refuse them


def test_test_images_that_are_sorted_by_class_reconstruct_as_shuffled_ones() -> None:
    order = np.argsort(IMAGES.test_labels, kind="stable")
    one, other = (
        measure(5, images)
        for images in (IMAGES, replace(IMAGES, test=IMAGES.test[order], test_labels=IMAGES.test_labels[order]))
    )
    for path in ("error", "pca", "mean", "kept"):
        assert other[f"decode/{path}"] == pytest.approx(one[f"decode/{path}"], rel=1e-4), path


def test_traversals_move_one_unit_around_the_mean_code_the_widest_first() -> None:
    _, decoder = linear(12)
    random = np.random.default_rng(0)
    deviations = random.permutation(np.arange(1, 13)) / 10
    codes = (random.normal(size=(500, 12)) * deviations).astype(np.float32)
    board, step = np.asarray(traversals(decoder, codes)), TILE + 2 * FRAME + GAP

    def picture(row: int, column: int) -> NDArray[np.int64]:
        top, left = (GAP + FRAME + place * step for place in (row, column))
        return np.asarray(board[top : top + TILE : 4, left : left + TILE : 4, 0].astype(int))

    pca = PCA(12, svd_solver="full").fit(FLAT)
    widest = np.argsort(-codes.std(axis=0))[:8]
    assert board.shape[:2] == (8 * step + GAP, 7 * step + GAP)
    for row, unit in enumerate(widest):
        for column, times in ((0, -3), (3, 0), (6, 3)):
            code = codes.mean(axis=0) + times * codes[:, unit].std() * np.eye(12)[unit]
            expected = pca.inverse_transform(code[None]).clip(0, 1).reshape(16, 16) * 255
            assert np.abs(picture(row, column) - expected).max() <= 1


# -- diffusion ---------------------------------------------------------------------------------------------------------


class Ideal(nn.Module):
    """The best denoiser of a few images: their mean, weighted by how likely each is (Karras et al. 2022, appendix B.3)."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.from_numpy(images / np.float32(127.5) - 1).permute(0, 3, 1, 2), False)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        share = log_snr.sigmoid()[:, None]
        gaps = (x[:, None] - share.sqrt()[..., None, None, None] * self.images).square().sum(dim=(2, 3, 4))
        weights = (-gaps / (2 * (1 - share))).softmax(dim=1)
        return (weights[..., None, None, None] * self.images).sum(dim=1)


class Blind(Ideal):
    """Says that every image is gray."""

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return torch.zeros_like(x)


FEW = replace(IMAGES, test=IMAGES.test[:60], test_labels=IMAGES.test_labels[:60])


def restore(kind: type[Ideal], judging: bool = True) -> Scores:
    diffuser = Diffuser(Diffusion(4, 1, 1, 2, False, 1, 16, "cosine", "x0", 10)).eval()
    diffuser.network = kind(FEW.test[..., :1])  # type: ignore[assignment]
    return restored(diffuser, FEW, judge() if judging else None, Config("x", pairs=60, steps=10))


def test_an_ideal_denoiser_restores_every_image_it_knows() -> None:
    scores = restore(Ideal)
    right = (judged(judge(), FEW.test)[1].argmax(axis=1) == FEW.test_labels).mean()
    assert scores.values["decode/images"] == 60
    for name in SAMPLERS:
        assert scores.values[f"decode/{name}/kept/94"] == pytest.approx(right)
        assert scores.values[f"decode/{name}/error/94"] == pytest.approx(0, abs=1e-5)
    for level in LEVELS:  # cosine: alpha_bar is cos² of the share of the way
        time = scores.values[f"decode/time/{100 * level:g}"]
        assert time == pytest.approx(2 / np.pi * np.arccos(np.sqrt(level)), abs=0.02)


def test_a_denoiser_that_sees_nothing_gives_gray() -> None:
    scores = restore(Blind)
    gray = np.full((1, 16, 16, 1), 128, np.uint8)
    share = (FEW.test_labels == judged(judge(), gray)[1].argmax()).mean()
    error = np.mean((FEW.test[..., 0] / 255 - 128 / 255) ** 2)
    for level in LEVELS:
        assert scores.values[f"decode/ddim/kept/{100 * level:g}"] == share
        assert scores.values[f"decode/ddim/error/{100 * level:g}"] == pytest.approx(error, rel=1e-5)


def test_without_a_judge_nothing_is_said_of_classes_and_all_else_stays() -> None:
    needs_labels = declaration("decode").needs_labels
    for with_judge, without in ((restore(Ideal), restore(Ideal, judging=False)), (path(judge()), path(None))):
        for part in ("values", "samples", "figures", "pictures"):
            kept = {name for name in getattr(with_judge, part) if not needs_labels(name)}
            assert getattr(without, part).keys() == kept
    one, other = (restore(Ideal, judging=judging).values for judging in (True, False))
    errors = [name for name in one if "/error/" in name and "interval" not in name]
    assert len(errors) == len(LEVELS) * len(SAMPLERS)
    assert [one[name] for name in errors] == [other[name] for name in errors]


def path(critic: Encoder | None) -> Scores:
    encoder, decoder = linear(4)
    return between(decoder, encoder, IMAGES, critic, Config("x", pairs=10))


# -- the stage ---------------------------------------------------------------------------------------------------------


def test_the_stage_takes_the_encoder_of_its_decoder_and_no_other(store: Store) -> None:
    publish_images(IMAGES)
    publish_model("encoder", judge().save, "digits-supervised")
    plan, architecture = (
        Plan(6, 4, 2, 1, 16, "none", "standard"),
        Architecture("pixels", 0, 0, 6, 16, (0.5,) * 3, (0.5,) * 3),
    )
    publish_model("generator", Decoder(plan).save, "digits-ae")
    publish_model("encoder", Encoder(architecture).save, "digits-ae")
    publish_model("encoder", Encoder(replace(architecture, dimension=5)).save, "digits-other")
    line = refusal(lambda: decode.main(Config("digits-ae", encoder="digits-other")))
    assert "encoder:digits-other gives codes of 5 dimensions, and generator:digits-ae takes 6" in line
    assert "is no judge" in refusal(lambda: decode.main(Config("digits-ae", judge="digits-ae")))
    decode.main(Config("digits-ae", pairs=20))
    scores = Scores.load(store.folder(store.get("decode", "digits-ae")))
    assert scores.values["decode/judge"] == store.get("encoder", "digits-supervised").digest
    assert "decode/traversals" in scores.pictures
    assert refusal(lambda: Config("x", pairs=1)) == "--pairs 1 is not at least 2"


def test_test_images_of_one_class_have_nothing_between_them() -> None:
    one = replace(IMAGES, test_labels=np.zeros_like(IMAGES.test_labels))
    publish_images(one)
    publish_model("encoder", judge().save, "digits-supervised")
    publish_model("generator", Decoder(Plan(6, 4, 2, 1, 16, "none", "standard")).save, "digits-ae")
    assert "have one class, and nothing lies between" in refusal(lambda: decode.main(Config("digits-ae")))
