"""What the lab book reads: the scores of every variant, each with the version that it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.data.images import Images
from train.tracking.declarations import declaration, listing
from train.tracking.problem import Problem
from train.tracking.records import Version
from train.tracking.scores import Scores, Value
from train.tracking.stage import Origin, Stage

SCORES = ("training", "probe", "project", "retrieve", "anomaly", "cluster")


@dataclass(frozen=True)
class Source:
    """An artifact as it was asked for (`probe:digits-vicreg`), and the version that this named."""

    asked: str
    version: Version
    stage: str

    @property
    def lineage(self) -> str:
        """The command that shows what it was made from."""
        return f"python -m train.tracking lineage {self.version.reference}"


@dataclass(frozen=True)
class Evidence:
    """One scores artifact of one variant."""

    scores: Scores
    source: Source


@dataclass(frozen=True)
class Book:
    """All that the page shows. evidence: by artifact name and variant, where it was made.

    anomalies: the image set that the variants were to detect, None where none was asked for.
    """

    variants: tuple[str, ...]
    anomalies: str | None
    evidence: Mapping[tuple[str, str], Evidence]
    images: Images
    images_source: Source

    def value(self, name: str, variant: str, path: str) -> Value:
        """None where the artifact or the value is missing."""
        found = self.evidence.get((name, variant))
        return found.scores.values.get(path) if found else None

    def missing(self, name: str, variant: str) -> str:
        """In a few words why a value or a figure is not there."""
        if (name, variant) in self.evidence:
            return "not measured"
        return "no anomalies" if name == "anomaly" and self.anomalies is None else "not made"


def gather(stage: Stage, variants: Sequence[str], anomalies: str | None) -> Book:
    """Fetches what was made for the variants and the images that they share.

    Raises Problem where nothing was made for one of them, or where they are not of one data set.
    """
    evidence: dict[tuple[str, str], Evidence] = {}
    datasets: dict[str, str] = {}
    for variant in variants:
        for name in SCORES:
            alias = variant
            if name == "anomaly":
                if anomalies is None:
                    continue
                alias = declaration(name).aliases_for({"variant": variant, "seed": 0, "anomalies": anomalies})[0]
            folder = stage.fetch_if_made(name, alias)
            if folder is None:
                continue
            origin = Origin.load(folder)
            evidence[name, variant] = Evidence(Scores.load(folder), _source(stage, name, alias, origin))
            datasets[variant] = str(origin.dataset)
        if variant not in datasets:
            known = {alias for name in SCORES for version in stage.store.versions(name) for alias in version.aliases}
            raise Problem(
                f"nothing was made for the variant {variant!r}; known aliases: {listing(known, near=variant)}. Run: make run"
            )
    if len(set(datasets.values())) > 1:
        of = ", ".join(f"{variant} of {dataset}" for variant, dataset in datasets.items())
        raise Problem(f"one lab book shows one data set, not {of}; give --variants of one")
    # The page is about several variants: it belongs to their data set, not to the first of them.
    stage.variant = stage.seed = None
    (dataset,) = set(datasets.values())
    folder = stage.fetch("images", dataset)
    source = _source(stage, "images", dataset, Origin.load(folder))
    stage.variant = stage.seed = None
    return Book(tuple(variants), anomalies, evidence, Images.load(folder), source)


def _source(stage: Stage, name: str, alias: str, origin: Origin) -> Source:
    version = stage.inputs[name, alias]
    assert version is not None
    return Source(f"{name}:{alias}", version, origin.stage)
