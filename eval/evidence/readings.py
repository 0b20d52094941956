"""What was made for several variants: the scores of each, seed by seed, with the versions that they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from train.data.scores import Scores
from train.tracking.declarations import declaration, declarations, listing
from train.tracking.problem import Problem
from train.tracking.stage import Input, Stage

# What a variant can have been measured by.
SCORES = tuple(name for name, entry in declarations().items() if entry.type == "scores" and "variant" in entry.fields)


@dataclass(frozen=True)
class Reading:
    """A scores artifact, and what the stage asked for to have it."""

    source: Input
    scores: Scores


def alias(name: str, variant: str, anomalies: str | None, seed: int = 0) -> str | None:
    """Under which alias `variant` has the artifact `name`; None for anomalies where no image set is given."""
    fields: dict[str, object] = {"variant": variant, "seed": seed}
    if "anomalies" in declaration(name).fields:
        if anomalies is None:
            return None
        fields["anomalies"] = anomalies
    return declaration(name).aliases_for(fields)[0]


def read(stage: Stage, name: str, asked: str) -> Reading | None:
    """None where no such artifact was made."""
    source = stage.fetch_if_made(name, asked)
    return Reading(source, Scores.load(source.folder)) if source else None


def read_all(
    stage: Stage, variant: str, anomalies: str | None, seed: int = 0, names: Sequence[str] = SCORES
) -> dict[str, Reading]:
    """The scores artifacts of these names that were made for one seed of a variant."""
    asked = {name: alias(name, variant, anomalies, seed) for name in names}
    found = {name: read(stage, name, given) for name, given in asked.items() if given is not None}
    return {name: reading for name, reading in found.items() if reading is not None}


def gather(
    stage: Stage, variants: Sequence[str], anomalies: str | None, names: Sequence[str] = SCORES
) -> dict[str, list[dict[str, Reading]]]:
    """Of each variant its seeds, from 0 on until one has nothing: their scores artifacts of these names.

    What the stage makes belongs to their data set. Raises Problem where nothing was made for one of them, where
    one is a single seed, where they are not of one data set, or where none has anomalies although they are asked for.
    """
    found = {variant: _seeds(stage, variant, anomalies, names) for variant in variants}
    datasets = {}
    for variant, seeds in found.items():
        if not seeds:
            raise nothing_made(stage, variant)
        origin = next(iter(seeds[0].values())).source.origin
        if origin.variant != variant:
            raise Problem(f"{variant!r} is one seed of {origin.variant!r}; name that: all of its seeds are found")
        datasets[variant] = str(origin.dataset)
    stage.dataset = one_dataset(datasets)
    if anomalies is not None and not any("anomaly" in seed for seeds in found.values() for seed in seeds):
        raise Problem(
            f"none of the variants was measured against the anomalies {anomalies!r}; run python -m eval.anomaly, or leave"
            " --anomalies out"
        )
    return found


def nothing_made(stage: Stage, variant: str) -> Problem:
    known = {alias for name in SCORES for version in stage.store.versions(name) for alias in version.aliases}
    return Problem(
        f"nothing was made for the variant {variant!r}; known aliases: {listing(known, near=variant)}. Run: make run"
    )


def one_dataset(datasets: Mapping[str, str]) -> str:
    """The data set that all variants are of. datasets: by variant. Raises Problem where there are several."""
    if len(set(datasets.values())) > 1:
        of = ", ".join(f"{variant} of {dataset}" for variant, dataset in datasets.items())
        raise Problem(f"only variants of one data set can be compared, not {of}; give --variants of one")
    return next(iter(datasets.values()))


def _seeds(stage: Stage, variant: str, anomalies: str | None, names: Sequence[str]) -> list[dict[str, Reading]]:
    seeds: list[dict[str, Reading]] = []
    for seed in count():
        readings = read_all(stage, variant, anomalies, seed, names)
        if not readings:
            return seeds
        seeds.append(readings)
    raise AssertionError("count() has no end")


def versions(seeds: Sequence[Mapping[str, Reading]], name: str) -> list[str | None]:
    """By seed, which version of the artifact `name` was read; None where a seed has none."""
    return [seed[name].source.version.reference if name in seed else None for seed in seeds]
