"""eval.embed: what an encoder that diverged gives is not published; vectors averaged over mirror images."""

from dataclasses import replace

import numpy as np
from scipy.spatial.distance import pdist

from eval import embed, probe
from tests.parts.artifacts import images as pictures
from tests.parts.artifacts import publish_images, refusal
from tests.parts.embeddings import NoConfig, blobs
from tests.parts.shapes import collect
from train.data.images import UNLABELED
from train.models.encoder import Architecture, Encoder
from train.tracking import Stage
from train.tracking.store import Store


def test_vectors_that_are_not_finite_are_not_published_and_the_encoder_is_named() -> None:
    encoder = small_encoder()
    for parameter in encoder.head.parameters():
        parameter.data.fill_(3e38)  # finite, as the weights of a training that has begun to diverge
    publish(encoder)
    line = refusal(lambda: embed.main(embed.Config("blobs-vicreg")))
    assert line.startswith("encoder:blobs-vicreg, train: ") and "of 24 vectors (rows " in line and "hold NaN" in line
    assert Store().versions("embeddings") == []


def small_encoder() -> Encoder:
    """Of the blobs, which are published with it."""
    images = pictures("blobs", blobs(3, 8, 5, seed=0))
    publish_images(images)
    return Encoder(Architecture("compact", 4, 0, 6, images.size, images.mean, images.std)).eval()


def publish(encoder: Encoder) -> None:
    with Stage("train.pretrain", NoConfig()) as stage:
        stage.about(stage.fetch("images", "blobs"))
        stage.variant, stage.seed = "blobs-vicreg", 0
        stage.publish("encoder", encoder.save)


def test_averaged_over_mirror_images_an_image_and_its_mirror_image_have_the_same_vectors() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    for dimension in (6, 0):
        encoder = Encoder(Architecture("compact", 4, 0, dimension, 12, (0.5,) * 3, (0.25,) * 3)).eval()
        vectors, mirrored = (
            embed.embed(encoder, each, 4, "train", mirror=True) for each in (images, images[:, :, ::-1])
        )
        assert (vectors[0] is vectors[1]) == (dimension == 0)
        for one, other in zip(vectors, mirrored, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert np.abs(vectors[0] - embed.embed(encoder, images, 4, "train")[0]).max() > 1e-3


def test_vectors_averaged_over_mirror_images_are_a_variant_of_their_own() -> None:
    publish(small_encoder())
    embed.main(embed.Config("blobs-vicreg"))
    before = Store().get("embeddings", "blobs-vicreg", "")
    embed.main(embed.Config("blobs-vicreg", mirror=True))
    assert Store().get("embeddings", "blobs-vicreg", "").reference == before.reference
    mirrored = Store().get("embeddings", "blobs-vicreg-mirror", "")
    assert mirrored.digest != before.digest
    probe.main(probe.Config("blobs-vicreg-mirror"))
    assert Store().get("probe", "blobs-vicreg-mirror-s0", "")
    book = collect(("blobs-vicreg-mirror",), "letters")  # what the page tells a reader to run can be run
    for name in ("training", "views"):
        assert book.missing(name, "blobs-vicreg-mirror") == "see blobs-vicreg" and not book.cure(
            name, "blobs-vicreg-mirror"
        )
    for name in ("project", "anomaly"):
        assert book.missing(name, "blobs-vicreg-mirror") == "not made"
        assert f"eval.{name} --embeddings blobs-vicreg-mirror" in book.cure(name, "blobs-vicreg-mirror")


def test_the_table_for_projections_holds_the_vectors_to_four_digits_and_their_images() -> None:
    embeddings = blobs(4, 300, 6, seed=2)
    images = pictures("blobs", embeddings)
    table = embed.vectors_frame(embeddings, images.test)
    rows = table["row"].to_numpy()
    assert len(rows) == 1_000 == len(np.unique(rows))
    vectors = table[[f"D{dimension}" for dimension in range(6)]].to_numpy()
    np.testing.assert_allclose(vectors, embeddings.test[rows], rtol=5.1e-4)
    assert table["class"].tolist() == [f"class {embeddings.test_labels[row]}" for row in rows]
    for row, image in zip(rows[:20], table["image"], strict=False):
        np.testing.assert_array_equal(np.asarray(image), images.test[row])
    unlabeled = replace(embeddings, classes=(), test_labels=np.full(1200, UNLABELED))
    assert set(embed.vectors_frame(unlabeled, images.test)["class"]) == {""}


def test_wide_vectors_are_their_principal_components_in_the_table() -> None:
    embeddings = blobs(4, 30, 400, seed=2)
    table = embed.vectors_frame(embeddings, pictures("blobs", embeddings).test)
    components = table[[f"PC{number}" for number in range(len(table))]].to_numpy()
    assert (
        components.shape[1] == len(embeddings.test) <= embed.MOST
    )  # all there are of so few images: distances are kept
    np.testing.assert_allclose(pdist(components), pdist(embeddings.test[table["row"]]), rtol=2e-3)
