"""What the lab book reads: the scores of every variant, each with the version that it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.evidence.readings import Reading, nothing_made, one_dataset, read, read_all
from train.data.images import Images
from train.data.scores import Value
from train.tracking.stage import Input, Stage

# What a method cannot have, and why. Every other gap can be filled.
IMPOSSIBLE = {
    ("anomaly", "eigenmaps"): "transductive",  # there is no encoder that could embed other images
    ("training", "eigenmaps"): "not trained",
    ("training", "pixels"): "not trained",
    ("training", "patches"): "not trained",
}

# Commands, as they are typed. VARIANT, DATASET and ANOMALIES are filled in.
METHODS = {
    "vicreg": "train.pretrain --images DATASET",
    "vicreg-variance0": "train.pretrain --images DATASET --variance 0",
    "vicreg-neighbors": "train.pretrain --images DATASET --views neighbors",
    "eigenmaps": "train.eigenmaps --embeddings DATASET-untrained",
    "untrained": "train.pretrain --images DATASET --epochs 0",
    "pixels": "train.patches --images DATASET --kind pixels",
    "patches": "train.patches --images DATASET --kind patches",
}
EVALUATIONS = {
    "probe": "eval.probe --embeddings VARIANT",
    "project": "eval.project --embeddings VARIANT",
    "retrieve": "eval.retrieve --embeddings VARIANT",
    "anomaly": "eval.anomaly --embeddings VARIANT --anomalies VARIANT-on-ANOMALIES",
    "cluster": "eval.cluster --embeddings VARIANT",
}


def lineage(source: Input) -> str:
    """The command that shows what an artifact was made from."""
    return f"python -m train.tracking lineage {source.version.reference}"


@dataclass(frozen=True)
class Book:
    """All that the page shows. evidence: by artifact name and variant, where it was made.

    anomalies: the image set that the variants were to detect, None where none was asked for.
    compare, claims: of the data set, None where they were not made.
    """

    variants: tuple[str, ...]
    anomalies: str | None
    evidence: Mapping[tuple[str, str], Reading]
    images: Images
    images_source: Input
    compare: Reading | None = None
    claims: Reading | None = None

    @property
    def dataset(self) -> str:
        """The name that every variant's begins with."""
        return self.images_source.request.partition(":")[2]

    @property
    def sources(self) -> tuple[Input, ...]:
        """Of everything on the page."""
        found = (*self.evidence.values(), *filter(None, (self.compare, self.claims)))
        return (self.images_source, *(evidence.source for evidence in found))

    def variant(self, method: str) -> str:
        """The variant of this data set that a method makes (`vicreg-variance0`), whether it is here or not."""
        return f"{self.dataset}-{method}"

    def value(self, name: str, variant: str, path: str) -> Value:
        """None where the artifact or the value is missing."""
        found = self.evidence.get((name, variant))
        return found.scores.values.get(path) if found else None

    def impossible(self, name: str, variant: str) -> str | None:
        """In a word or two why this variant can have no such artifact; None where it can."""
        return IMPOSSIBLE.get((name, variant.removeprefix(f"{self.dataset}-").partition("-")[0]))

    def missing(self, name: str, variant: str) -> str:
        """In a few words why a value or a figure is not there."""
        if (name, variant) in self.evidence:
            return "not measured"
        if reason := self.impossible(name, variant):
            return reason
        return "no anomalies" if name == "anomaly" and self.anomalies is None else "not made"

    def cure(self, name: str, variant: str) -> str:
        """The command that makes an artifact of a variant; of a variant that is not here, the one that founds it. Empty for
        what is impossible."""
        if self.impossible(name, variant):
            return ""
        method = variant.removeprefix(f"{self.dataset}-")
        founding = METHODS.get(method, METHODS["vicreg"])
        template = EVALUATIONS.get(name, founding) if variant in self.variants else founding
        for field, value in (("DATASET", self.dataset), ("VARIANT", variant), ("ANOMALIES", self.anomalies)):
            template = template.replace(field, value or field)
        return f"python -m {template}"

    @property
    def comparing(self) -> str:
        """The command that compares the variants of this page over their seeds."""
        anomalies = f" --anomalies {self.anomalies}" if self.anomalies else ""
        return f"python -m eval.compare --variants {' '.join(self.variants)}{anomalies}"

    @property
    def outdated(self) -> list[str]:
        """The references on this page whose seed 0 has another version than the one that `compare` has read."""
        if self.compare is None:
            return []
        values = self.compare.scores.values
        read = {key: values.get(f"compare/source/{key[1]}/{key[0]}") for key in self.evidence}
        return [
            self.evidence[key].source.request
            for key, versions in read.items()
            if isinstance(versions, list) and versions and versions[0] != self.evidence[key].source.version.reference
        ]


def gather(stage: Stage, variants: Sequence[str], anomalies: str | None) -> Book:
    """Fetches what was made for the variants and the images that they share, and what was made of all of them together.

    Raises Problem where nothing was made for one of them, or where they are not of one data set.
    """
    evidence: dict[tuple[str, str], Reading] = {}
    datasets: dict[str, str] = {}
    for variant in variants:
        for name, reading in read_all(stage, variant, anomalies).items():
            evidence[name, variant] = reading
            datasets[variant] = reading.source.dataset
        if variant not in datasets:
            raise nothing_made(stage, variant)
    dataset = one_dataset(datasets)
    compare, claims = (read(stage, name, dataset) for name in ("compare", "claims"))
    source = stage.fetch("images", dataset)
    stage.about(source)
    return Book(tuple(variants), anomalies, evidence, Images.load(source.folder), source, compare, claims)
