"""eval.anomaly and its parts: kNN density, against scikit-learn and numpy."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from eval import anomaly, embed, index
from eval.evidence.density import (
    Detection,
    Outlier,
    curve,
    detect,
    figures,
    knn_distance,
    most_anomalous,
    mutual_distance,
    pixels,
    with_labels,
)
from tests.parts import processes
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_embedded, publish_encoder, publish_images, refusal
from tests.parts.embeddings import blobs
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import find_neighbors
from train.data.scores import Scores
from train.tracking import Stage
from train.tracking.store import Store


def shifted(embeddings: Embeddings, by: float) -> Embeddings:
    return dataclasses.replace(embeddings, test=embeddings.test + np.float32(by))


@pytest.mark.parametrize("k", [1, 2, 7])
def test_score_is_the_mean_distance_to_the_nearest_by_scikit_learn(k: int) -> None:
    embeddings = blobs(3, 100, 16, seed=0)
    distances = knn_distance(find_neighbors(embeddings, 2), embeddings.train, embeddings.test, k)
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(embeddings.train.astype(np.float64))
    expected, _ = model.kneighbors(embeddings.test.astype(np.float64))
    np.testing.assert_allclose(distances, expected.mean(axis=1), rtol=1e-6)


def test_score_is_a_mean_of_roots() -> None:
    train = np.array([[0, 0], [3, 4], [90, 90]], np.float32)
    embeddings = dataclasses.replace(blobs(2, 1, 2, seed=0), train=train, test=train[:1])
    assert knn_distance(find_neighbors(embeddings, 1), train, train[:1], 2).tolist() == [2.5]


def test_auc_agrees_with_scikit_learn_and_lies_in_its_interval() -> None:
    embeddings = blobs(3, 100, 16, seed=0)
    anomalies = shifted(embeddings, 0.8)
    detection = detect(embeddings, find_neighbors(embeddings, 2), anomalies, k=2, seed=0)
    model = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(embeddings.train.astype(np.float64))
    both = np.concatenate([embeddings.test, anomalies.test]).astype(np.float64)
    expected = roc_auc_score(np.repeat([0, 1], 300), model.kneighbors(both)[0].mean(axis=1))
    assert detection.auc == pytest.approx(expected, abs=1e-12)
    assert detection.interval and 0.5 < detection.interval[0] < expected < detection.interval[1] < 1
    roc = figures(detection, "blobs-vicreg", ("blobs", "others"))["anomaly/roc"]
    assert auc(roc.data[0].x, roc.data[0].y) == pytest.approx(expected)
    assert f"AUC {expected:.3f}" in roc.data[0].name


def test_the_curve_for_several_runs_lies_on_the_roc_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    normal, anomalies = rng.normal(0, 1, 3_000), rng.normal(1, 2, 2_000)
    points = curve(Detection(normal, anomalies, 0.5, None))
    false, true, _ = roc_curve(np.repeat([0, 1], [3_000, 2_000]), np.concatenate([normal, anomalies]))
    assert len(points) < 250 < len(false)
    assert set(map(tuple, points.to_numpy())) <= set(zip(false, true, strict=True))
    assert points.iloc[0].tolist() == [0, 0] and points.iloc[-1].tolist() == [1, 1]
    assert np.diff(points.to_numpy(), axis=0).min() >= 0
    assert auc(*points.to_numpy().T) == pytest.approx(auc(false, true), abs=1e-3)


def test_far_anomalies_are_all_found_and_normal_images_none() -> None:
    embeddings = blobs(3, 100, 16, seed=0)
    neighbors = find_neighbors(embeddings, 2)
    assert detect(embeddings, neighbors, shifted(embeddings, 50), k=2, seed=0).auc == 1
    like = dataclasses.replace(embeddings, test=blobs(3, 100, 16, seed=1).test)
    alike = detect(embeddings, neighbors, like, k=2, seed=0)
    assert alike.interval and alike.interval[0] < 0.5 < alike.interval[1]
    assert detect(embeddings, neighbors, embeddings, k=2, seed=0).auc == pytest.approx(0.5)


def test_most_anomalous_are_the_highest_scores_of_both_sets() -> None:
    embeddings = blobs(3, 20, 8, seed=0, distance=2)
    detection = detect(embeddings, find_neighbors(embeddings, 2), shifted(embeddings, 0.5), k=2, seed=0)
    most = most_anomalous(detection, 25)
    _, scores = with_labels(detection.normal, detection.anomalies)
    assert [entry.score for entry in most] == sorted(scores.tolist(), reverse=True)[:25]
    assert {entry.anomaly for entry in most} == {False, True}
    for entry in most:
        assert (detection.anomalies if entry.anomaly else detection.normal)[entry.row] == entry.score


def test_mutual_distance_is_one_for_any_images_and_near_zero_for_duplicates() -> None:
    rng = np.random.default_rng(0)
    normal, anomalies = rng.normal(size=(400, 12)), rng.normal(3, 2, size=(300, 12))
    outliers = [
        Outlier(anomaly, int(row), 0.0) for anomaly in (False, True) for row in rng.choice(300, 40, replace=False)
    ]
    assert mutual_distance(outliers, normal, anomalies, seed=0) == pytest.approx(1, abs=0.05)
    anomalies[:7] = anomalies[0] + rng.normal(size=(7, 12)) * 1e-3
    duplicates = [Outlier(True, row, 0.0) for row in range(7)]
    assert mutual_distance(duplicates, normal, anomalies, seed=0) == pytest.approx(0, abs=1e-3)


def test_mutual_distance_agrees_with_all_pairs() -> None:
    rng = np.random.default_rng(1)
    normal, anomalies = rng.normal(size=(100, 5)), rng.normal(4, 1, size=(80, 5))
    outliers = [Outlier(False, 3, 0.0), Outlier(False, 9, 0.0), Outlier(True, 2, 0.0)]

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2))

    within = between(normal, normal)
    across = between(normal, anomalies)
    near = within[3, 9] + across[3, 2] + across[9, 2]
    random = within[~np.eye(100, dtype=bool)].mean() + 2 * across.mean()
    assert mutual_distance(outliers, normal, anomalies, seed=0) == pytest.approx(near / random, rel=0.03)


def test_mutual_distance_of_one_image_or_of_equal_ones_is_undefined() -> None:
    same = np.ones((10, 3))
    assert mutual_distance([Outlier(True, 1, 0.0)], same, same, seed=0) is None
    assert mutual_distance([Outlier(True, 1, 0.0), Outlier(False, 2, 0.0)], same, same, seed=0) is None


def test_pixels_of_another_size_are_resized() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(images, 8), images.reshape(3, -1))
    flat = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None, None, None] * 50, (3, 12, 12, 3)).copy()
    np.testing.assert_array_equal(pixels(flat, 8), np.repeat([[0], [50], [100]], 192, axis=1))


@pytest.fixture
def lab() -> tuple[Embeddings, Embeddings, Images, Images]:
    """blobs-vicreg with its neighbors, and blobs-vicreg-on-others, whose images have another size."""
    normal = blobs(3, 20, 8, seed=0, distance=3)
    other = shifted(blobs(2, 15, 8, seed=1, distance=3), 0.5)
    images, other_images = pictures("blobs", normal), pictures("others", other, size=12, seed=1)
    publish_images(images)
    publish_images(other_images)
    publish_encoder("blobs-vicreg", "blobs")
    publish_embedded(normal, "blobs-vicreg", "blobs")
    publish_embedded(other, "blobs-vicreg", "others", on="others")
    index.main(index.Config("blobs-vicreg", k=3))
    return normal, other, images, other_images


def command(*flags: str) -> "subprocess.CompletedProcess[str]":
    return processes.run("-m", "eval.anomaly", *flags)


def test_command_reruns_from_aliases_and_makes_the_same_version(
    lab: tuple[Embeddings, Embeddings, Images, Images], peel_home: Path
) -> None:
    normal, other, images, other_images = lab
    process = command("--embeddings", "blobs-vicreg", "--anomalies", "blobs-vicreg-on-others")
    assert process.returncode == 0, process.stderr
    (file,) = peel_home.glob("wandb/offline-run-*/files/media/table/anomaly/table*.json")
    table = json.loads(file.read_text())
    anomaly.main(anomaly.Config("blobs-vicreg", "blobs-vicreg-on-others"))
    store = Store()
    (version,) = store.versions("anomaly")
    assert version.aliases == ("blobs-vicreg-s0-vs-others", "blobs-vicreg-vs-others", "latest")
    assert store.get("embeddings", "blobs-vicreg").digest != store.get("embeddings", "blobs-vicreg-on-others").digest

    scores = Scores.load(store.folder(version))
    model = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(normal.train.astype(np.float64))
    both = np.concatenate([normal.test, other.test]).astype(np.float64)
    expected = model.kneighbors(both)[0].mean(axis=1)
    assert scores.values["anomaly/auc"] == pytest.approx(roc_auc_score(np.repeat([0, 1], [60, 30]), expected))
    assert (scores.values["anomaly/k"], scores.values["anomaly/against"]) == (2, "others")
    most = scores.values["anomaly/most"]
    assert isinstance(most, list)
    order = np.argsort(-expected)[:7]
    assert [(entry["set"], entry["row"]) for entry in most] == [
        ("others", int(i) - 60) if i >= 60 else ("blobs", int(i)) for i in order
    ]
    assert scores.values["anomaly/most/count"] == 7
    assert scores.values["anomaly/most/anomalies"] == (order >= 60).sum()
    np.testing.assert_allclose(scores.samples["anomaly/auc/normal"], expected[:60], rtol=1e-6)
    np.testing.assert_allclose(scores.samples["anomaly/auc/anomalies"], expected[60:], rtol=1e-6)
    assert [entry["score"] for entry in most] == pytest.approx(expected[order].tolist())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [{key: row[key] for key in ("set", "row", "score")} for row in rows] == most
    picture = np.array(scores.pictures["anomaly/most"])
    pixels_of_most = [(other_images if entry["set"] == "others" else images).test[entry["row"]] for entry in most]
    middle = picture[picture.shape[0] // 2]
    for image in pixels_of_most:  # some pixel of each is there
        assert (middle == image[image.shape[0] // 2, image.shape[1] // 2]).all(axis=1).any()


def test_bad_input_ends_the_command_with_one_line_and_exit_code_2() -> None:
    process = command("--embeddings", "nonsense", "--anomalies", "nothing")
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith("eval.anomaly: no artifact 'embeddings:nonsense'")
    assert process.stdout == ""
    assert Store().versions() == []


def test_what_does_not_belong_together_is_refused(lab: tuple[Embeddings, Embeddings, Images, Images]) -> None:
    normal, other, _, _ = lab

    def error(*names: str, **flags: int) -> str:
        return refusal(lambda: anomaly.main(anomaly.Config(*names, **flags)))  # type: ignore[arg-type]

    on = "blobs-vicreg-on-others"
    assert "--k 0" in error("blobs-vicreg", on, k=0)
    assert "k = 61" in error("blobs-vicreg", on, k=61)
    assert "--most 91" in error("blobs-vicreg", on, most=91)
    assert "known aliases of embeddings" in error("blobs-vicreg", "blobs-vicreg-on-nothing")
    assert "'neighbors:latest'" in error("blobs-vicreg", "neighbors:latest")

    # Another encoder, of another seed, stands under the aliases of its own.
    publish_encoder("blobs-pixels", "blobs")
    publish_embedded(other, "blobs-pixels", "others", on="others")
    line = error("blobs-vicreg", "blobs-pixels-on-others")
    assert "python -m eval.embed --images others --encoder blobs-vicreg" in line
    publish_embedded(dataclasses.replace(normal, test=normal.test + 1), "blobs-pixels", "blobs")
    assert "not made from embeddings:blobs-pixels" in error("blobs-pixels", on, "blobs-vicreg")

    narrow = dataclasses.replace(other, train=other.train[:, :5].copy(), test=other.test[:, :5].copy())
    publish_embedded(narrow, "blobs-vicreg", "others", on="others")
    line = error("blobs-vicreg", on)
    assert "5 dimensions" in line and "8" in line

    with Stage("eval.embed", embed.Config("blobs-vicreg", mirror=True)) as stage:
        stage.about(stage.fetch("encoder", "blobs-vicreg"))
        stage.fetch("images", "blobs")
        stage.variant = "blobs-vicreg-mirror"
        stage.publish("embeddings", normal.save)
    index.main(index.Config("blobs-vicreg-mirror", k=3))
    publish_embedded(other, "blobs-vicreg", "others", on="others")
    line = error("blobs-vicreg-mirror", on)
    assert "run: python -m eval.embed --encoder blobs-vicreg --images others --mirror True" in line

    # The anomalies' images were prepared anew since they were embedded.
    publish_embedded(other, "blobs-vicreg", "others", on="others")
    publish_images(pictures("others", other, size=12, seed=9))
    assert "not made from images:others" in error("blobs-vicreg", on)
    assert Store().versions("anomaly") == []


def test_embeddings_without_an_encoder_cannot_be_normal(lab: tuple[Embeddings, Embeddings, Images, Images]) -> None:
    from tests.parts.embeddings import NoConfig

    with Stage("eval.embed", NoConfig()) as stage:
        stage.about(stage.fetch("images", "blobs"))
        stage.variant, stage.seed = "blobs-eigenmaps", 0
        stage.publish("embeddings", lab[0].save)
    index.main(index.Config("blobs-eigenmaps", k=3))
    line = refusal(lambda: anomaly.main(anomaly.Config("blobs-eigenmaps", "blobs-vicreg-on-others")))
    assert "blobs-eigenmaps has no encoder" in line

    with Stage("train.eigenmaps", NoConfig()) as stage:
        stage.about(stage.fetch("images", "blobs"))
        stage.variant, stage.seed = "blobs-eigenmaps", 0
        stage.publish("embeddings", dataclasses.replace(lab[0], transductive=True).save)
    line = refusal(lambda: anomaly.main(anomaly.Config("blobs-eigenmaps", "never-made")))
    assert "'blobs-eigenmaps' are transductive" in line
