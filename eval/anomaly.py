"""Detects images of another set by how far they lie from the training representations."""

from dataclasses import dataclass

from eval.evidence.density import (
    check_comparable,
    check_inductive,
    check_same_encoder,
    curve,
    detect,
    equal_images,
    figures,
    most_anomalous,
    mutual_distance,
    picture,
    pixels,
    samples,
    table,
    values,
)
from eval.evidence.findings import finding
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import Neighbors
from train.data.scores import Scores
from train.methods.ranges import fit_default
from train.tracking import Command, Problem, Stage


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
    """How many of the most anomalous images are shown; all of smaller sets."""
    seed: int = 0
    """Draws the bootstrap."""

    def __post_init__(self) -> None:
        for flag, value, least in (("k", self.k, 1), ("most", self.most, 1), ("seed", self.seed, 0)):
            if value < least:
                raise Problem(f"--{flag} {value} is too small; give {least} or more")


def main(config: Config) -> None:
    with Stage("eval.anomaly", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        check_inductive(embeddings, config.embeddings)
        index = stage.fetch("neighbors", config.neighbors or source.alias)
        index.check_made_from(source)
        neighbors = Neighbors.load(index.folder)
        pictures = stage.fetch("images", config.images or source.dataset)
        source.check_made_from(pictures)
        normal = Images.load(pictures.folder)
        embeddings.check_of(normal)

        other_source = stage.fetch("embeddings", config.anomalies)
        other, against = Embeddings.load(other_source.folder), other_source.dataset
        stage.expect(anomalies=against)
        check_comparable(embeddings, other)
        check_same_encoder(source.origin, other_source.origin, source.alias)
        other_pictures = stage.fetch("images", against)
        other_source.check_made_from(other_pictures)
        anomalies = Images.load(other_pictures.folder)
        other.check_of(anomalies)

        names = (source.dataset, against)
        copies = equal_images(normal, anomalies)
        if copies:
            print(f"{against}: {copies}")
        detection = detect(embeddings, neighbors, other, config.k, config.seed)
        count = fit_default("most", config.most, Config.most, len(detection.normal) + len(detection.anomalies))
        most = most_anomalous(detection, count)
        alike = {
            "anomaly/most/distance": mutual_distance(most, embeddings.test, other.test, config.seed),
            "anomaly/most/pixels": mutual_distance(
                most, pixels(normal.test, normal.size), pixels(anomalies.test, normal.size), config.seed
            ),
        }
        scores = Scores(
            values(detection, most, config.k, names) | alike | ({"anomaly/duplicates": copies} if copies else {}),
            figures(detection, str(stage.variant), names),
            {"anomaly/most": picture(most, normal, anomalies)},
            samples(detection),
        )
        scores.log(stage)
        stage.panel("anomaly/table", table(most, normal, anomalies))
        stage.finding = finding("anomaly", f"{against} by {stage.alias}", scores.values)
        stage.lines("anomaly/curve", curve(detection), f"ROC: {against} among {source.dataset}")
        stage.publish("anomaly", scores.save, {"variant": stage.variant, "seed": stage.seed, "anomalies": against})


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
