"""Shows the nearest and the farthest training images of one query a class, and measures both over the training set.

Of unlabeled images there are 10 random queries, and nothing is said of classes."""

from dataclasses import dataclass

from eval.evidence.findings import finding
from eval.evidence.retrieval import measure, pictures, query_values, retrieve, table
from eval.evidence.validity import check
from train.data.embeddings import Embeddings
from train.data.images import Images
from train.data.neighbors import Neighbors
from train.data.scores import Scores
from train.tracking import Command, Problem, Stage


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    neighbors: str | None = None
    """Alias of their neighbors; the embeddings' variant and seed unless given."""
    images: str | None = None
    """Alias of the images that they were made from; the embeddings' data set unless given."""
    seed: int = 0
    """Draws the queries, which are the same for all variants of a data set, the random pairs and the bootstrap."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise Problem(f"--seed {self.seed} is negative; give 0 or more")


def main(config: Config) -> None:
    with Stage("eval.retrieve", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        index = stage.fetch("neighbors", config.neighbors or source.alias)
        index.check_made_from(source)
        original = stage.fetch("images", config.images or source.dataset)
        source.check_made_from(original)

        embeddings, neighbors = Embeddings.load(source.folder), Neighbors.load(index.folder)
        check(embeddings)
        images = Images.load(original.folder)
        retrieval = retrieve(embeddings, neighbors, config.seed)
        values, samples = measure(embeddings, neighbors, images, config.seed)
        scores = Scores(values | query_values(retrieval), pictures=pictures(retrieval, images), samples=samples)
        scores.log(stage)
        stage.panel("retrieve/table", table(retrieval, images))
        stage.finding = finding("retrieve", stage.alias, scores.values)
        stage.publish("retrieve", scores.save)


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
