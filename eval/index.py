"""Finds the nearest training images of every image, by L2 distance of the representations.

For large sets --kind ivf compares an image with a part of the others, and publishes how many of the nearest it finds;
--kind ivfpq needs a sixteenth of the memory for it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from eval.evidence.neighbors import distances_figure, occurrences_figure
from eval.evidence.validity import check_own
from train.data.embeddings import Embeddings
from train.data.neighbors import Inverted, describe, find_neighbors, largest_code
from train.methods.ranges import fit_default
from train.tracking import LATER, Command, Problem, Stage


@dataclass(frozen=True)
class Config:
    embeddings: str
    """Alias of the embeddings."""
    k: int = 10
    """How many neighbors of each image, or all others of a smaller set; an image is never among its own."""
    kind: Literal["exact", "ivf", "ivfpq"] = "exact"
    """exact (every image is compared with every other), ivf (FAISS's inverted file: with the nearest lists of them), or ivfpq
    (the same with short codes in place of the vectors; the distances of the nearest by codes are then made exact)."""
    lists: int = 0
    """With --kind ivf or ivfpq: into how many lists k-means divides the images; 0 takes 4 times the root of their number."""
    probes: int = 0
    """With --kind ivf or ivfpq: how many lists an image is compared with; 0 takes a sixteenth of them."""
    code: Annotated[int, LATER] = 0
    """With --kind ivfpq: bytes of a vector's code; 0 takes the most up to 32 that divide its dimensions evenly."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise Problem(f"--k {self.k} is too small; give 1 or more")
        for name, kinds in (("lists", ("ivf", "ivfpq")), ("probes", ("ivf", "ivfpq")), ("code", ("ivfpq",))):
            if (value := getattr(self, name)) < 0:
                raise Problem(f"--{name} {value} is negative; give 0 or more")
            if value and self.kind not in kinds:
                raise Problem(f"--{name} {value} needs --kind {kinds[0]}; add that, or leave --{name} out")


def main(config: Config) -> None:
    with Stage("eval.index", config) as stage:
        source = stage.fetch("embeddings", config.embeddings)
        stage.about(source)
        embeddings = Embeddings.load(source.folder)
        check_own(embeddings, config.embeddings, source.alias)
        code = (config.code or largest_code(embeddings.train.shape[1])) if config.kind == "ivfpq" else 0
        inverted = Inverted(config.lists, config.probes, code) if config.kind != "exact" else None
        k = fit_default("k", config.k, Config.k, len(embeddings.train) - 1)
        neighbors = find_neighbors(embeddings, k, inverted)
        if neighbors.recall is not None:
            about = {"recall": neighbors.recall, **describe(neighbors.index)}
            stage.log({f"neighbors/{name}": value for name, value in about.items()})
        stage.panel("neighbors/distances", distances_figure(neighbors))
        stage.panel("neighbors/occurrences", occurrences_figure(neighbors))
        recall = f"{100 * neighbors.recall:.1f} % of them found" if neighbors.recall is not None else "by exact search"
        stage.finding = (
            f"neighbors of {stage.alias}: the {k} nearest of {len(embeddings.train):,} training images, {recall}"
        )
        stage.publish("neighbors", neighbors.save)


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
