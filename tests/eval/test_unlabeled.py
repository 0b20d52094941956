"""Images without labels, or with some: everything is made that needs none, and what needs them reads the rows that have them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from eval import cluster, probe, project
from eval.evidence.clustering import k_means
from eval.evidence.maps import pca, purities, tsne
from eval.evidence.measures import INSTANCES, PROBE
from eval.evidence.retrieval import labeled_precision, query_rows
from eval.labbook.study import Representation, Study
from eval.studies.all import STUDIES
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_images, refusal, without_labels
from tests.parts.chain import run
from tests.parts.embeddings import blobs, publish_embeddings
from train.data.embeddings import Embeddings
from train.data.images import UNLABELED
from train.data.neighbors import find_neighbors
from train.data.scores import Scores
from train.tracking.declarations import declaration
from train.tracking.store import Store, home

LABELED = blobs(3, 20, 6, seed=0, distance=4)
CHAIN = (
    "vicreg = train.pretrain --images {images} --preset small --epochs 1 --batch-size 20 --width 4 --view-count 2",
    "train.patches --images {images} --kind pixels",
    "eval.embed --encoder {images}-pixels",
    "eval.index --embeddings {images}-pixels --k 6",
    "eval.project --embeddings {images}-pixels",
    "eval.retrieve --embeddings {images}-pixels",
    "eval.cluster --embeddings {images}-pixels --clusters 3",
    "eval.latents --embeddings {images}-pixels --rotations 2",
    "eval.views --encoder {images}-pixels --count 12 --core 2",
    "eval.embed --encoder {images}-pixels --images strange --train False",
    "eval.anomaly --embeddings {images}-pixels --anomalies {images}-pixels-on-strange",
    "eval.compare --variants {images}-pixels --anomalies strange --resamples 20",
    "eval.claims --compare {images}",
    "eval.report --variants {images}-pixels {vicreg} --anomalies strange",
)
SCORES = ("project", "retrieve", "cluster", "latents", "views", "anomaly")


def scores(artifact: str, alias: str) -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get(artifact, alias)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The chain on a set and on the same set without labels: the home, both pages, and what both trainings are called."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEEL_HOME", str(folder))
        labeled = pictures("labeled", LABELED, size=8)
        publish_images(labeled)
        publish_images(without_labels(labeled, "plain"))
        publish_images(pictures("strange", LABELED, size=8, seed=1))
        pages, variants = {}, {}
        for name in ("labeled", "plain"):
            variants[name] = run(CHAIN, images=name)["vicreg"]
            pages[name] = (home() / "lab-book.html").read_text()
    return folder, pages, variants


@pytest.fixture
def chain(made: tuple[Path, dict[str, str], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Both pages; the home is that of the chain."""
    monkeypatch.setenv("PEEL_HOME", str(made[0]))
    return made[1]


@pytest.mark.parametrize("artifact", SCORES)
def test_what_needs_no_label_is_the_same_without_labels(artifact: str, chain: dict[str, str]) -> None:
    ends = "-vs-strange" if artifact == "anomaly" else ""
    with_labels, without = (scores(artifact, f"{name}-pixels{ends}") for name in ("labeled", "plain"))
    declared = declaration(artifact)
    drawn = ("retrieve/queries", "retrieve/shown/")  # one a class, where there are classes
    for part in ("values", "samples"):
        kept = {path for path in getattr(with_labels, part) if not declared.needs_labels(path)}
        assert getattr(without, part).keys() == kept
        for path in kept:
            if not path.startswith(drawn) and path != "anomaly/most":
                np.testing.assert_array_equal(getattr(without, part)[path], getattr(with_labels, part)[path], path)
    kept = {path for path in with_labels.figures if not declared.needs_labels(path)}
    assert without.figures.keys() == kept
    assert without.pictures.keys() == with_labels.pictures.keys()


def test_a_training_without_labels_is_the_same_and_tells_instances_apart(
    made: tuple[Path, dict[str, str], dict[str, str]], chain: dict[str, str]
) -> None:
    with_labels, without = (scores("training", made[2][name]) for name in ("labeled", "plain"))
    kept = {path for path in with_labels.values if not declaration("training").needs_labels(path)}
    assert without.values.keys() - {INSTANCES.path} == kept and INSTANCES.path in without.values
    # Held-out images are encoded beside fewer others, which changes the last bits.
    one, other = ({path: part.values[path] for path in kept} for part in (without, with_labels))
    assert one == pytest.approx(other, rel=1e-4)
    assert without.figures.keys() - {"training/instances"} == with_labels.figures.keys() - {"training/knn"}


def test_the_page_of_unlabeled_images_says_so_where_a_label_is_needed(chain: dict[str, str]) -> None:
    assert "60 test images of 8 × 8 pixels; unlabeled" in chain["plain"]
    assert "<strong>Unlabeled. </strong>" in chain["plain"] and "Unlabeled" not in chain["labeled"]
    assert 'class="absent">– (unlabeled)' in chain["plain"] and "(unlabeled)" not in chain["labeled"]
    assert "python -m eval.probe" in chain["labeled"] and "python -m eval.probe" not in chain["plain"]


def test_measures_and_claims_that_need_labels_leave_the_page_of_unlabeled_images(chain: dict[str, str]) -> None:
    heads = {name: {text for text in (PROBE.label, INSTANCES.label) if text in page} for name, page in chain.items()}
    assert heads == {"labeled": {PROBE.label}, "plain": {INSTANCES.label}}
    counted, _, apart = chain["plain"].partition('<div class="footnote">')
    assert (
        "Not asked of plain" in apart and "the images are unlabeled" in apart and "Not asked of" not in chain["labeled"]
    )
    claim = "VICReg&#x27;s representation is read better than that of the same network untrained"
    assert claim in apart and claim not in counted


@pytest.mark.parametrize(
    "command",
    [
        "eval.probe --embeddings plain-pixels",
        "eval.transfer --encoder plain-pixels",
        "train.supervise --images plain --preset small",
    ],
)
def test_a_stage_that_learns_from_labels_refuses_unlabeled_images_in_a_line(
    command: str, chain: dict[str, str]
) -> None:
    stage = command.split()[0]
    assert f"plain is unlabeled, and {stage} learns from labels" in refusal(lambda: run([command]))


# -- some rows without labels ------------------------------------------------------------------------------------------


def partly(embeddings: Embeddings, seed: int = 0) -> tuple[Embeddings, dict[str, NDArray[np.int64]]]:
    """A third of the labels of each split is taken away. Returns the rows that keep theirs, too."""
    random = np.random.default_rng(seed)
    rows: dict[str, NDArray[np.int64]] = {}
    changes: dict[str, Any] = {}
    for split in ("train", "test"):
        labels = np.array(getattr(embeddings, f"{split}_labels"))
        labels[random.permutation(len(labels))[: len(labels) // 3]] = UNLABELED
        rows[split], changes[f"{split}_labels"] = np.flatnonzero(labels != UNLABELED), labels
    return replace(embeddings, **changes), rows


PART, ROWS = partly(LABELED)


def test_a_probe_of_some_labels_is_that_of_the_rows_that_have_them() -> None:
    names = ("", "_features", "_labels")
    arrays: dict[str, Any] = {
        f"{split}{end}": getattr(PART, f"{split}{end}")[rows] for split, rows in ROWS.items() for end in names
    }
    publish_embeddings(PART, "some")
    publish_embeddings(replace(PART, **arrays), "alone")
    for alias in ("some", "alone"):
        probe.main(probe.Config(alias, resamples=50))
    some, alone = (scores("probe", alias) for alias in ("some", "alone"))
    assert some.values == alone.values
    np.testing.assert_array_equal(some.samples["probe/top1"], alone.samples["probe/top1"])


def test_a_class_without_a_labeled_image_is_named() -> None:
    labels = np.where(PART.test_labels == 1, UNLABELED, PART.test_labels)
    publish_embeddings(replace(PART, test_labels=labels), "some")
    assert "class 'class 1' has no labeled test image" in refusal(lambda: probe.main(probe.Config("some")))


def test_purity_of_a_map_is_that_of_the_points_with_labels() -> None:
    measured = project.project(PART, 1_000, seed=0)
    rows = ROWS["test"]
    for name, points in (("pca", pca(PART.test, 0)[0]), ("tsne", tsne(PART.test, 0))):
        expected = purities(points[rows], LABELED.test_labels[rows], 0)
        np.testing.assert_array_equal(measured.samples[f"project/{name}/purity"], expected)
        figure = measured.figures[f"project/{name}"]
        assert [trace.name for trace in figure.data] == ["unlabeled", *LABELED.classes]
        assert sorted(figure.data[0].customdata) == sorted(np.flatnonzero(PART.test_labels == UNLABELED))


def test_precision_is_of_the_images_with_labels_among_themselves() -> None:
    rows = ROWS["train"]
    vectors, labels = PART.train[rows].astype(np.float64), PART.train_labels[rows]
    between = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(between, np.inf)
    nearest = np.argsort(between, axis=1)[:, :5]
    ids = find_neighbors(PART, 5).train_ids
    among = labeled_precision(PART, ids)
    assert among is not None
    np.testing.assert_allclose(among, (labels[nearest] == labels[:, None]).mean(axis=1))


def test_clusters_agree_with_the_classes_of_the_images_that_have_one() -> None:
    measured, rows = cluster.cluster(PART, 3, 1_000, seed=0).values, ROWS["train"]
    clusters = k_means(PART.train, 3, 0)[0]
    classes = PART.train_labels[rows]
    assert measured["cluster/nmi"] == pytest.approx(normalized_mutual_info_score(classes, clusters[rows]))
    assert measured["cluster/ari"] == pytest.approx(adjusted_rand_score(classes, clusters[rows]))
    assert measured["cluster/silhouette/classes"] == pytest.approx(
        silhouette_score(PART.train[rows], classes), abs=1e-6
    )
    assert measured["cluster/silhouette/clusters"] == pytest.approx(silhouette_score(PART.train, clusters), abs=1e-6)


def test_queries_without_labels_are_ten_different_images_and_another_seed_draws_others() -> None:
    none = np.full(60, UNLABELED)
    queries = query_rows(none, seed=0)
    assert len(set(queries.tolist())) == 10 and (queries >= 0).all() and (queries < 60).all()
    assert queries.tolist() != query_rows(none, seed=1).tolist()
    assert query_rows(none[:4], seed=0).tolist() == [0, 1, 2, 3]


# -- what a study makes ------------------------------------------------------------------------------------------------


def test_steps_of_unlabeled_images_are_those_that_need_no_label() -> None:
    study = STUDIES["reconstruction"]
    assert study.needing_labels == ["supervised", "eval.probe", "eval.transfer"]
    floor = Representation("patches", "train.patches --images {images} --kind patches", "whitened patches")
    peel: Study = STUDIES["peel"]
    stages = [command.split()[0] for command in peel.steps(floor)]
    without = [command.split()[0] for command in peel.steps(floor, labeled=False)]
    assert "eval.probe" in stages and without == [stage for stage in stages if stage != "eval.probe"]
