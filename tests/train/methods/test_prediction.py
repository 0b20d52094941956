"""SimSiam, BYOL and DSSL: their losses against lightly and numpy, in float64, and what carries gradient."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from numpy.typing import NDArray
from torch import Tensor

from tests.parts.artifacts import refusal
from tests.parts.derivatives import gradient
from tests.train.engine.test_loop import TINY, dots
from train import pretrain
from train.data.randaugment import Choices
from train.data.views import adjust_contrast
from train.methods import dssl, prediction
from train.methods.prediction import momentum, negative_cosine
from train.methods.siamese import Siamese
from train.pretrain import METHODS

TINY_FLAGS = {
    name: getattr(TINY, name)
    for name in ("images", "preset", "epochs", "batch_size", "width", "hidden", "dimension", "projector_width",
                 "projector_layers", "view_size", "precision", "backbone", "optimizer")
}  # fmt: skip


def pair(views: int, n: int = 7, d: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(views, n, d))), torch.from_numpy(random.normal(size=(views, n, d)))


def cosine(p: NDArray[Any], z: NDArray[Any]) -> Any:
    """Mean over images of cos(p, z): (n, d) each, of complex numbers analytic."""
    return ((p * z).sum(1) / np.sqrt((p * p).sum(1)) / np.sqrt((z * z).sum(1))).mean()


def method(name: str, **changes: Any) -> Siamese:
    config = METHODS[name].configuration(**{**TINY_FLAGS, "view_count": 4, **changes})
    return METHODS[name](config, dots())


def outputs(of: Siamese, rows: int = 8) -> dict[str, Tensor]:
    batch = of.batch("train", np.arange(rows), torch.Generator().manual_seed(0), slice(None))
    return dict(of(batch))


# -- values and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3, 6])
def test_negative_cosine_and_its_gradient_agree_with_lightlys_over_ordered_pairs(views: int) -> None:
    p, z = (each.requires_grad_() for each in pair(views))
    q, y = (each.clone().detach().requires_grad_() for each in (p, z))
    ours = negative_cosine(p, z)
    losses = [NegativeCosineSimilarity()(q[i], y[j]) for i, j in itertools.permutations(range(views), 2)]
    theirs = torch.stack(losses).mean()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    ours.backward()
    theirs.backward()
    for one, other in ((p, q), (z, y)):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).abs().max() < 1e-12


@pytest.mark.parametrize("views", [2, 3, 6])
@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_the_loss_of_a_method_and_its_gradient_agree_with_numpy(name: str, views: int) -> None:
    p, z = pair(views, n=4, d=3)

    def loss(p: NDArray[Any]) -> Any:
        pairs = [cosine(p[i], z[j].numpy()) for i, j in itertools.permutations(range(views), 2)]
        mean = sum(pairs) / len(pairs)
        return (
            2 * (2 - 2 * mean) if name == "byol" else -mean
        )  # both directions of a pair, as DeepMind's code sums them

    p.requires_grad_()
    total, _ = method(name).loss({"prediction": p, "target": z})
    total.backward()
    assert total.item() == pytest.approx(loss(p.detach().numpy()), abs=1e-12)
    assert p.grad is not None
    np.testing.assert_allclose(p.grad.numpy(), gradient(loss, p.detach().numpy()), atol=1e-12)


@pytest.mark.parametrize(("views", "harder"), [(3, 1), (4, 2), (6, 3)])
@pytest.mark.parametrize(("soft", "pairs"), [(0.0, "directed"), (0.1, "directed"), (0.0, "all")])
def test_dssls_loss_and_its_gradient_agree_with_its_formula_in_numpy(
    views: int, harder: int, soft: float, pairs: str
) -> None:
    p, z = pair(views, n=4, d=3)
    standard = views - harder

    def loss(p: NDArray[Any]) -> Any:
        y = z.numpy()
        every = [cosine(p[i], y[j]) for i, j in itertools.permutations(range(views), 2)]
        among = [cosine(p[i], y[j]) for i, j in itertools.permutations(range(standard), 2)]
        directed = [cosine(p[standard + i], y[i]) for i in range(harder)]
        reverse = [cosine(p[i], y[standard + i]) for i in range(harder)]
        if pairs == "all":
            return -np.mean(every)
        return -np.mean(among) - (1 - soft) * np.mean(directed) - soft * np.mean(reverse)

    p.requires_grad_()
    of = method("dssl", view_count=max(views, 4), soft=soft, pairs=pairs)
    of.config = dataclasses.replace(of.config, view_count=views, harder=harder)  # type: ignore[call-arg]
    total, _ = of.loss({"prediction": p, "target": z})
    total.backward()
    assert total.item() == pytest.approx(loss(p.detach().numpy()), abs=1e-12)
    assert p.grad is not None
    np.testing.assert_allclose(p.grad.numpy(), gradient(loss, p.detach().numpy()), atol=1e-12)


# -- what is invariant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3, 6])
def test_the_order_of_the_views_and_the_lengths_of_the_vectors_change_nothing(views: int) -> None:
    p, z = pair(views)
    order = torch.from_numpy(np.random.default_rng(1).permutation(views))
    lengths = torch.from_numpy(np.random.default_rng(2).uniform(0.5, 2, (views, 7, 1)))
    before = negative_cosine(p, z).item()
    assert negative_cosine(p[order], z[order]).item() == pytest.approx(before, abs=1e-12)
    assert negative_cosine(p * lengths, z / lengths).item() == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("views", [2, 3, 6])
def test_without_a_predictor_stopping_the_gradient_halves_it(views: int) -> None:
    z, _ = pair(views)
    gradients = []
    for stopped in (False, True):
        own = z.clone().requires_grad_()
        negative_cosine(own, own.detach() if stopped else own).backward()
        assert own.grad is not None
        gradients.append(own.grad)
    assert (gradients[0] / 2 - gradients[1]).abs().max() < 1e-12


# -- what carries gradient ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "carries"),
    [
        ("simsiam", {}, False),
        ("simsiam", {"target": "free"}, True),
        ("simsiam", {"target": "moving"}, False),
        ("byol", {}, False),
        ("byol", {"target": "stopped"}, False),
        ("dssl", {}, False),
        ("dssl", {"target": "free"}, True),
    ],
    ids=str,
)
def test_a_target_carries_gradient_only_where_it_is_free(name: str, changes: dict[str, Any], carries: bool) -> None:
    values = outputs(method(name, **changes))
    assert values["prediction"].requires_grad and values["target"].requires_grad == carries


def test_a_moving_target_has_no_gradient_and_no_place_in_the_optimizer() -> None:
    of = method("byol")
    total, _ = of.loss(outputs(of))
    total.backward()
    target = list(of.get_submodule("target").parameters())
    assert target and all(parameter.grad is None for parameter in target)
    trained = {id(parameter) for group in of.groups() for parameter in group["params"]}
    assert not trained & set(map(id, target))
    assert trained == {id(parameter) for parameter in of.parameters() if parameter.requires_grad}


def test_images_other_than_a_predictions_own_have_no_part_in_its_loss() -> None:
    """BYOL is not contrastive: without batch normalization an image's loss has no gradient on another's projections."""
    p, z = pair(3)
    p.requires_grad_()
    cosines = prediction.similarity(p[:, :1], z[:, :1])
    cosines.sum().backward()
    assert p.grad is not None and bool((p.grad[:, 1:] == 0).all()) and bool((p.grad[:, 0] != 0).any())


# -- the moving target -------------------------------------------------------------------------------------------------


def test_momentum_rises_along_half_a_cosine_from_its_start_to_one() -> None:
    assert momentum(0.9, 0) == pytest.approx(0.9, abs=1e-15)
    assert momentum(0.9, 0.5) == pytest.approx(0.95, abs=1e-15)
    assert momentum(0.9, 1) == pytest.approx(1, abs=1e-15)
    steps = 390  # DeepMind's: 1 - (1 - tau) (cos(pi k / K) + 1) / 2
    for k in (0, 195, 389):
        expected = 1 - (1 - 0.98) * (math.cos(math.pi * k / steps) + 1) / 2
        assert momentum(0.98, k / steps) == pytest.approx(expected, abs=1e-15)


def test_the_target_moves_by_the_share_that_momentum_leaves_and_keeps_its_own_buffers() -> None:
    of = method("byol", momentum=0.75)
    online = [*of.encoder.parameters(), *of.projector.parameters()]
    target = of.get_submodule("target")
    with torch.no_grad():
        for parameter in online:
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in target.parameters()]
    buffers = {name: value.clone() for name, value in target.named_buffers()}
    of.after_step(0.5)  # momentum 0.875
    for own, old, new in zip(online, before, target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.125 * (own - old))
    assert all(torch.equal(value, buffers[name]) for name, value in target.named_buffers())
    of.after_step(1.0)
    unmoved = [parameter.clone() for parameter in target.parameters()]
    of.after_step(1.0)
    assert all(torch.equal(old, new) for old, new in zip(unmoved, target.parameters(), strict=True))


def test_the_target_has_statistics_of_its_own_while_it_is_trained() -> None:
    of = method("byol")
    of.train()
    outputs(of)
    encoder, _ = of.get_submodule("target").children()
    counts = [value for name, value in encoder.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts and all(int(value) == 1 for value in counts)


# -- DSSL's views ------------------------------------------------------------------------------------------------------


def test_a_harder_view_is_made_of_its_standard_views_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    of = method("dssl", view_count=6, harder=2)
    batch = of.batch("train", np.arange(8), torch.Generator().manual_seed(3), slice(None))
    assert batch["views"].shape[:2] == (4, 8) and batch["harder"].shape[:2] == (2, 8)
    assert not torch.equal(batch["harder"], batch["views"][:2])
    # Where nothing but the identity is drawn it is its standard view, but for the rounding to bytes.
    nothing = torch.zeros(16, 1, dtype=torch.int64)
    monkeypatch.setattr(dssl, "choose", lambda count, draws: Choices(nothing, nothing.bool()))
    batch = of.batch("train", np.arange(8), torch.Generator().manual_seed(3), slice(None))
    for place in range(4):
        gap = float(((batch["harder"] - batch["views"][place]) * of.std.view(3, 1, 1)).abs()[place % 2].max())
        assert (gap <= 0.5 / 255 + 1e-6) == (place < 2)


def test_a_share_of_the_rows_has_the_harder_views_that_it_has_among_all() -> None:
    """To the last bit, but for the contrast of standard views, which is bounded below."""
    of = method("dssl", view_count=6, contrast=0.0)
    for seed, share in ((3, slice(4, 8)), (4, slice(0, 3)), (5, slice(6, 7))):
        whole, part = (
            of.batch("train", np.arange(8), torch.Generator().manual_seed(seed), rows) for rows in (slice(None), share)
        )
        for name in ("views", "harder"):
            assert torch.equal(whole[name][:, share], part[name]), name


def test_contrast_depends_on_the_rest_of_the_batch_by_the_rounding_of_its_mean_gray_alone() -> None:
    draws = torch.Generator().manual_seed(0)
    planes, factor = torch.rand(64, 3, 16, 16, generator=draws), 0.6 + 0.8 * torch.rand(64, generator=draws)
    together = adjust_contrast(planes.clone(), factor)
    # Three products and two sums of numbers below 1, in whatever order, are 3 roundings from exact. Both sides have them, times
    # |1 - factor| <= 0.4; then both round that product, and their sum with the image.
    roundings = 2 * (3 * 0.4 + 0.4 + 1)
    for size in (1, 3, 4, 7):
        parts = zip(planes.split(size), factor.split(size), strict=True)
        apart = torch.cat([adjust_contrast(part.clone(), own) for part, own in parts])
        assert (apart - together).abs().max() <= roundings * torch.finfo(torch.float32).eps / 2


def test_harder_views_are_no_part_of_the_standard_ones_batch_statistics() -> None:
    of = method("dssl", view_count=4)
    of.train()
    batch = dict(of.batch("train", np.arange(8), torch.Generator().manual_seed(3), slice(None)))
    one = of(batch)["target"][:2]
    batch["harder"] = batch["harder"] + 5
    assert torch.equal(of(batch)["target"][:2], one)


# -- flags that do not go together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--method simsiam --variance 0", "--variance is a flag of --method vicreg, not of simsiam"),
        ("--method simsiam --momentum 0.5", "--target moving"),
        ("--method simsiam --predictor none --predictor-rate 3", "--predictor mlp"),
        ("--method byol --harder 2", "--harder is a flag of --method dssl, not of byol"),
        ("--method dssl --harder 2 --views neighbors", "leave it out"),
        ("--method dssl --view-count 2", "--view-count of at least 3"),
        ("--method dssl --harder 4", "give 1 to 3"),
        ("--method dssl --harder 0", "give 1 to 3"),
        ("--method dssl --pairs all --soft 0.1", "--pairs directed"),
        ("--method simsiam --target still", "still"),
        (
            "--method barlow --predictor none",
            "--predictor is a flag of --method simsiam or byol or dssl, not of barlow",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(flags: str, words: str) -> None:
    assert words in refusal(lambda: pretrain.COMMAND.parse(["--images", "digits", *flags.split()]))


def test_half_of_the_views_are_harder_unless_flags_say_otherwise() -> None:
    for flags, hard in (
        ("", 3),
        ("--preset small", 2),
        ("--preset exercise", 2),
        ("--harder 1", 1),
        ("--views neighbors", 0),
    ):
        config = pretrain.COMMAND.parse(["--images", "x", "--method", "dssl", *flags.split()])
        assert isinstance(config, dssl.Config) and config.hard == hard, flags
