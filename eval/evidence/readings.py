"""What was made for several variants: the scores of each, seed by seed, with the versions that they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from eval.evidence.kinds import check_kinds
from train.data.scores import Scores
from train.tracking.declarations import declaration, declarations, listing
from train.tracking.problem import Problem, reading
from train.tracking.stage import Input, Stage


def score_names() -> tuple[str, ...]:
    """The artifacts that can be compared: those that artifacts.yaml lets eval.compare read."""
    return tuple(name for name, entry in declarations().items() if "eval.compare" in entry.consumers)


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


def read(stage: Stage, name: str, request: str) -> Reading | None:
    """None where no such artifact was made."""
    source = stage.fetch_if_made(name, request)
    return Reading(source, load(name, source.folder)) if source else None


def load(name: str, folder: Path) -> Scores:
    """The scores artifact `name`. Raises Problem where `folder` holds something else, or values that are not of its kinds."""
    scores = Scores.load(folder)
    with reading(folder):
        check_kinds(scores.values, name)
    return scores


def read_all(
    stage: Stage, variant: str, anomalies: str | None, names: Sequence[str], seed: int = 0
) -> dict[str, Reading]:
    """The scores artifacts of these names that were made for one seed of a variant."""
    readings = {}
    for name in names:
        request = alias(name, variant, anomalies, seed)
        if request is not None and (reading := read(stage, name, request)):
            readings[name] = reading
    return readings


def gather(
    stage: Stage, variants: Sequence[str], anomalies: str | None, names: Sequence[str]
) -> dict[str, list[dict[str, Reading]]]:
    """Of each variant its seeds, from 0 on until one has nothing: their scores artifacts of these names.

    What the stage makes belongs to their data set. Raises Problem where nothing was made for one of them, where
    one is a single seed, where they are not of one data set, or where none has anomalies although they are asked for.
    """
    by_variant = {variant: _seeds(stage, variant, anomalies, names) for variant in variants}
    datasets = {}
    for variant, seeds in by_variant.items():
        if not seeds:
            raise nothing_made(stage, variant)
        origin = next(iter(seeds[0].values())).source.origin
        if origin.variant != variant:
            raise Problem(
                f"{variant!r} is one seed of {origin.variant!r}; give that name, which stands for all of its seeds"
            )
        datasets[variant] = str(origin.dataset)
    stage.dataset = one_dataset(datasets)
    if anomalies is not None and not any("anomaly" in seed for seeds in by_variant.values() for seed in seeds):
        raise Problem(
            f"none of the variants was measured against the anomalies {anomalies!r}; run python -m eval.anomaly, or leave"
            " --anomalies out"
        )
    return by_variant


def nothing_made(stage: Stage, variant: str) -> Problem:
    aliases = {alias for name in score_names() for version in stage.store.versions(name) for alias in version.aliases}
    return Problem(
        f"nothing was made for the variant {variant!r}; known aliases: {listing(aliases, near=variant)}. Run: make run"
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
        readings = read_all(stage, variant, anomalies, names, seed)
        if not readings:
            return seeds
        seeds.append(readings)
    raise AssertionError("count() has no end")


def versions(seeds: Sequence[Mapping[str, Reading]], name: str) -> list[str | None]:
    """By seed, which version of the artifact `name` was read; None where a seed has none."""
    return [seed[name].source.version.reference if name in seed else None for seed in seeds]
