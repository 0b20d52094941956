"""The stage eval.transfer: images whose class is their color, encoders of them, and learners by other libraries."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from eval import transfer
from eval.evidence.transfer import Recipe, balanced_draws
from eval.transfer import CHOICE, Config, Task, choice, learners, score
from tests.parts.artifacts import publish_images, refusal
from tests.parts.judges import publish_model
from train.data.images import Images
from train.data.scores import Scores
from train.models.encoder import Architecture, Encoder
from train.tracking.store import Store

CHEAP = ("frozen", "probe", "nearest", "pixels", "pca")


def colors(strength: int = 60, train: int = 90, test: int = 45) -> Images:
    """Noise of 8 pixels a side; each of three classes has more of one color."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", train), ("test", test)):
        labels = random.permutation(np.arange(count) % 3)
        raised = strength * np.eye(3, dtype=int)[labels][:, None, None]
        arrays[split] = (random.integers(0, 180, (count, 8, 8, 3)) + raised).clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    return Images.from_arrays("colors", ("red", "green", "blue"), arrays)


IMAGES = colors()


def encoder(kind: str = "strided", images: Images = IMAGES) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = Architecture(kind, 0, 0, 0, images.size, images.mean, images.std)
        if kind == "strided":
            plain = replace(plain, width=4, dimension=5, details={"layers": 1, "channels": 3})
        return Encoder(plain).eval()


def measure(images: Images = IMAGES, kind: str = "strided", **flags: Any) -> Scores:
    config = Config("x", **{"labels": (6, 12), "draws": 3, "test": 100, "ways": CHEAP, **flags})
    return score(encoder(kind), images, config)


def test_every_way_beats_guessing_and_pairs_its_draws(store: Store) -> None:
    publish_images(IMAGES)
    publish_model("encoder", encoder().save, "colors-ae", "colors")
    transfer.main(Config("colors-ae", labels=(12,), draws=3))
    scores = Scores.load(store.folder(store.get("transfer", "colors-ae")))
    values: dict[str, Any] = scores.values
    assert values["transfer/chance"] == pytest.approx(1 / 3) and values["transfer/test"] == 45
    for way in transfer.WAYS:
        sample = scores.samples[f"transfer/{way}/12"]
        assert len(sample) == 3 and values[f"transfer/{way}/12"] == pytest.approx(sample.mean())
        assert sample.mean() > 0.6, way
        expected = stats.t.interval(0.95, 2, sample.mean(), stats.sem(sample)) if np.ptp(sample) else (sample[0],) * 2
        assert values[f"transfer/{way}/12/interval"] == pytest.approx(expected)
    one, other = (scores.samples[f"transfer/{way}/12"] for way in ("frozen", "full"))
    np.testing.assert_allclose(scores.samples["transfer/advantage/12"], one - other)
    assert values["transfer/advantage/12"] == pytest.approx((one - other).mean())
    assert set(scores.figures["transfer/accuracy"].data[0].x) == {12}


def test_probe_neighbors_and_pixels_are_scikit_learns_on_the_same_draws() -> None:
    images = colors(18)
    scores = measure(images, labels=(9,), ways=("probe", "nearest", "pixels"))
    draws = balanced_draws(images.train_labels, 9, 3 + CHOICE, np.random.default_rng([0, 9]))[:3]
    model = encoder()
    train, test = (model.encode(part, 0, len(part))[1].numpy() for part in (images.train, images.test))
    scaler = StandardScaler().fit(train.astype(np.float64))
    codes = scaler.transform(train), scaler.transform(test)
    flat = images.train.reshape(90, -1) / 255, images.test.reshape(45, -1) / 255
    learned: list[tuple[str, Any, Any]] = [
        ("probe", LogisticRegression(max_iter=1000), codes),
        ("nearest", KNeighborsClassifier(1), codes),
        ("pixels", LogisticRegression(C=0.1, max_iter=1000), flat),
    ]
    for way, model_, (x, y) in learned:
        expected = [model_.fit(x[draw], images.train_labels[draw]).score(y, images.test_labels) for draw in draws]
        np.testing.assert_allclose(scores.samples[f"transfer/{way}/9"], expected, atol=1.1 / 45)
        assert np.mean(expected) < 1


def test_other_ways_numbers_and_a_sorted_test_set_change_no_accuracy() -> None:
    images = colors(18)
    order = np.argsort(images.test_labels, kind="stable")
    whole = measure(images)
    part = measure(replace(images, test=images.test[order], test_labels=images.test_labels[order]),
                   labels=(12,), ways=("pca", "frozen"))  # fmt: skip
    for way in ("frozen", "pca"):
        path = f"transfer/{way}/12"
        np.testing.assert_allclose(part.samples[path], whole.samples[path], atol=1.1 / 45)
        assert part.values[f"{path}/recipe"] == whole.values[f"{path}/recipe"]
    other = measure(images, labels=(12,), ways=("frozen",), seed=1)
    assert (other.samples["transfer/frozen/12"] != whole.samples["transfer/frozen/12"]).any()


def test_an_encoder_without_weights_leaves_out_what_trains_them(capsys: pytest.CaptureFixture[str]) -> None:
    scores = measure(kind="pixels", ways=("probe", "full", "scratch"), labels=(6,))
    assert "full and scratch left out: pixels has no weights that are trained" in capsys.readouterr().out
    assert set(scores.samples) == {"transfer/probe/6"}
    line = refusal(lambda: measure(kind="pixels", ways=("full",)))
    assert line == "--ways full train the encoder, and pixels has nothing to train; add frozen or probe"


def test_more_labels_than_images_are_left_out_and_all_of_them_used(capsys: pytest.CaptureFixture[str]) -> None:
    scores = measure(labels=(91, 90, 6), ways=("frozen", "probe"))
    assert "--labels 91 is left out: there are 90 training images" in capsys.readouterr().out
    assert scores.values["transfer/labels"] == [90, 6]
    assert len(set(scores.samples["transfer/probe/90"])) == 1  # every draw is all of them
    assert "--labels 91 is more than the 90 training images" in refusal(lambda: measure(labels=(91, 100)))


def test_a_recipe_is_chosen_by_what_it_predicts_and_the_first_where_no_image_is_left() -> None:
    labels, draws = np.arange(40) % 2, np.arange(8).reshape(2, 4)
    recipes = (Recipe(1), Recipe(2), Recipe(3))

    def learn(recipe: Recipe, labeled: Any, others: Any) -> Any:
        return np.tile(labels[others] if recipe.steps == 2 else 1 - labels[others], (len(labeled), 1))

    assert choice(learn, recipes, labels, draws, 0) is recipes[1]
    assert choice(learn, recipes, labels, np.arange(40)[None], 0) is recipes[0]


def task(kind: str = "strided", images: Images = IMAGES) -> Task:
    return Task.of(encoder(kind, images), images, np.arange(len(images.train)), np.arange(len(images.test)))


def test_components_end_at_the_rank_of_the_pixels_and_have_deviation_1() -> None:
    images = colors()
    few = images.train[:4][np.arange(90) % 4]  # four different images: three directions
    components = task("pixels", replace(images, train=few)).components()
    assert components.shape == (135, 3)
    np.testing.assert_allclose(components[:90].std(dim=0, unbiased=False), 1, atol=1e-4)
    assert task().components().shape == (135, 5)


def test_a_network_from_scratch_knows_nothing_of_the_encoder_and_full_begins_with_it() -> None:
    ours, nothing = task(), Recipe(0)
    other = replace(ours, encoder=Encoder(ours.encoder.architecture).eval())
    rows, test = np.arange(12)[None], np.arange(90, 135)
    fits, others = learners(ours, ("full", "scratch")), learners(other, ("full", "scratch"))
    np.testing.assert_array_equal(
        fits["scratch"]([3], nothing, rows, test), others["scratch"]([3], nothing, rows, test)
    )
    assert (fits["full"]([3], nothing, rows, test) != others["full"]([3], nothing, rows, test)).any()
    before = {name: value.clone() for name, value in ours.encoder.state_dict().items()}
    fits["full"]([3], Recipe(5, 1e-2, 1e-2), rows, test)
    assert all(torch.equal(value, before[name]) for name, value in ours.encoder.state_dict().items())


def test_patches_of_a_whitened_network_are_those_of_the_images_that_were_drawn_from() -> None:
    images = colors()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = Encoder(Architecture("whitened", 2, 0, 3, 8, images.mean, images.std)).eval()
    both = Task.of(whole, images, np.arange(90), np.arange(45))
    predicted = learners(both, ("scratch",))["scratch"](
        [0], Recipe(60, 1e-2, 1e-2), np.arange(90)[None], np.arange(90, 135)
    )
    assert (
        predicted == images.test_labels
    ).mean() > 0.6  # of the blank bank that `whole` has, nothing could be learned


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"labels": ()}, "--labels is empty; give one or more"),
        ({"labels": (10, 20, 10)}, "--labels names 10 twice; give each once"),
        ({"labels": (10, 0)}, "--labels 0 is no number of labels; give 1 or more"),
        ({"ways": ("probe", "probe")}, "--ways names probe twice; give each once"),
        ({"draws": 1}, "--draws 1 is not at least 2"),
        ({"test": 0}, "--test 0 is not at least 1"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: dict[str, Any], words: str) -> None:
    assert refusal(lambda: Config("x", **flags)) == words


def test_flags_are_read_as_they_are_typed_and_images_of_one_class_are_refused() -> None:
    config = transfer.COMMAND.parse(["--encoder", "x", "--labels", "5", "50", "--ways", "probe", "pca"])
    assert config == Config("x", labels=(5, 50), ways=("probe", "pca"))
    assert "invalid choice" in refusal(lambda: transfer.COMMAND.parse(["--encoder", "x", "--ways", "prob"]))
    one = replace(IMAGES, train_labels=np.zeros(90, np.int64))
    assert "the training images of colors have one class" in refusal(lambda: measure(one))
