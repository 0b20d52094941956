"""Detects images of another set by how far they lie from the training representations."""

from dataclasses import dataclass

from eval.evidence.density import (
    check_comparable,
    check_inductive,
    check_same_encoder,
    detect,
    figures,
    measured,
    most_anomalous,
    mutual_distance,
    picture,
    pixels,
    samples,
    table,
)
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import Neighbors
from train.data.scores import Scores
from train.tracking import Origin, Problem, Stage, launch


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the normal embeddings: their training set is what is normal, their test set is label 0."""
    anomalies: str
    """Alias of the embeddings of another image set by the same encoder: its test set is label 1."""
    neighbors: str | None = None
    """Alias of the normal embeddings' neighbors; their variant and seed unless given."""
    images: str | None = None
    """Alias of the normal images; the embeddings' data set unless given."""
    k: int = 2
    """The score is the mean L2 distance to this many nearest training representations."""
    most: int = 7
    """How many of the most anomalous images are shown."""
    seed: int = 0
    """Draws the bootstrap."""

    def __post_init__(self) -> None:
        for flag, value, least in (("k", self.k, 1), ("most", self.most, 1), ("seed", self.seed, 0)):
            if value < least:
                raise Problem(f"--{flag} {value} is too small; give {least} or more")


def main(config: Config) -> None:
    with Stage("eval.anomaly", config) as stage:
        folder = stage.fetch("embeddings", config.embeddings)
        embeddings = Embeddings.load(folder)
        check_inductive(embeddings, config.embeddings)
        neighbors = Neighbors.load(stage.fetch("neighbors", config.neighbors or stage.alias))
        stage.check_made_from("neighbors", "embeddings")
        normal = Images.load(stage.fetch("images", config.images or str(stage.dataset)))
        stage.check_made_from("embeddings", "images")

        other_folder = stage.fetch("embeddings", config.anomalies)
        other = Embeddings.load(other_folder)
        check_comparable(embeddings, other)
        against = str(Origin.load(other_folder).dataset)
        check_same_encoder(Origin.load(folder), Origin.load(other_folder), stage.alias)
        anomalies = Images.load(stage.fetch("images", against))
        stage.check_made_from("embeddings", "images")

        names = (str(stage.dataset), against)
        detection = detect(embeddings, neighbors, other, config.k, config.seed)
        most = most_anomalous(detection, config.most)
        alike = {
            "anomaly/most/distance": mutual_distance(most, embeddings.test, other.test, config.seed),
            "anomaly/most/pixels": mutual_distance(
                most, pixels(normal.test, normal.size), pixels(anomalies.test, normal.size), config.seed
            ),
        }
        scores = Scores(
            measured(detection, most, config.k, names) | alike,
            figures(detection, str(stage.variant), names),
            {"anomaly/most": picture(most, normal, anomalies)},
            samples(detection),
        )
        scores.log(stage)
        stage.panel("anomaly/table", table(most, normal, anomalies))
        stage.publish("anomaly", scores.save, {"variant": stage.variant, "seed": stage.seed, "anomalies": against})


if __name__ == "__main__":
    launch(main)
