"""What the lab book reads: the scores of every variant, each with the version that it came from."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eval.evidence.comparison import Comparison
from eval.evidence.kinds import check_form
from eval.evidence.measures import Measure
from eval.evidence.readings import Reading, nothing_made, one_dataset, read, read_all
from eval.labbook.drawings import Drawing, drawing
from eval.labbook.study import absent, preset
from train.data.images import Images
from train.data.scores import Value
from train.tracking import Origin, Problem, stage_command
from train.tracking.declarations import declaration, declarations
from train.tracking.lineage import ancestors, command_line, maker
from train.tracking.origin import identity
from train.tracking.problem import reading
from train.tracking.stage import Input, Stage

if TYPE_CHECKING:
    from eval.evidence.rules import Decision, Rule
    from eval.labbook.gallery import Gallery
    from eval.labbook.graph import Node
    from eval.labbook.study import Study


def lineage(source: Input) -> str:
    """The command that shows what an artifact was made from."""
    return f"python -m train.tracking lineage {source.version.reference}"


def again(origin: Origin) -> str:
    """The command that makes an artifact again; empty where that cannot be told."""
    try:
        return command_line(origin)
    except Problem:
        return ""


@dataclass(frozen=True)
class Book:
    """All that the page shows. evidence: by artifact name and variant, where it was made.

    anomalies: the image set that the variants were to detect, None where none was asked for.
    makers: by variant, what made its encoder, or its embeddings where it has none.
    compare, claims: of the data set, None where they were not made.
    ancestors: by `name@digest` all that is shown and what that was made from. galleries: by variant its probe's mistakes.
    """

    study: "Study"
    variants: tuple[str, ...]
    anomalies: str | None
    evidence: Mapping[tuple[str, str], Reading]
    images: Images
    images_source: Input
    makers: Mapping[str, Origin]
    compare: Reading | None = None
    claims: Reading | None = None
    ancestors: Mapping[str, "Node"] = field(default_factory=dict)
    galleries: Mapping[str, "Gallery"] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The name that every variant's begins with."""
        return self.images_source.request.partition(":")[2]

    @cached_property
    def decisions(self) -> "dict[str, tuple[Rule, Decision]]":
        """By claim, the rule and what it says of this page's comparison."""
        from eval.labbook.verdicts import decisions

        return decisions(self)

    @property
    def sources(self) -> tuple[Input, ...]:
        """Of everything on the page."""
        readings = (*self.evidence.values(), *filter(None, (self.compare, self.claims)))
        galleries = (gallery.source for gallery in self.galleries.values())
        return (self.images_source, *(reading.source for reading in readings), *galleries)

    def variant(self, name: str) -> str:
        """The variant of this data set that a representation of the study makes, whether it is here or not."""
        return f"{self.dataset}-{name}"

    def label(self, variant: str) -> str:
        """What sentences call a variant: its representation's label, or its name without the data set's."""
        name = variant.removeprefix(f"{self.dataset}-")
        return self.study.by_name[name].label if name in self.study.by_name else name

    def plural(self, variant: str) -> bool:
        """Whether its label is."""
        representation = self.study.by_name.get(variant.removeprefix(f"{self.dataset}-"))
        return bool(representation and representation.plural)

    def value(self, name: str, variant: str, path: str) -> Value:
        """None where the artifact or the value is missing."""
        reading = self.evidence.get((name, variant))
        return reading.scores.values.get(path) if reading else None

    def shows(self, artifact: str, variant: str, path: str) -> bool:
        """Whether a panel of a variant stands on the page."""
        reading = self.evidence.get((artifact, variant))
        if reading is None or path not in {*reading.scores.figures, *reading.scores.pictures}:
            return False
        chapters = [chapter for chapter in self.study.chapters if variant in chapter.variants(self)]
        paths = {panel.path for chapter in chapters for panel in chapter.panels}
        return path in {*paths, "retrieve/farthest"}  # which stands beside the nearest

    def check(self) -> None:
        """Raises Problem where what was read is not of the kind that the study's measures show."""
        for (name, _), entry in self.evidence.items():
            values = entry.scores.values
            with reading(entry.source.folder):
                for measure in self.study.measures:
                    if measure.artifact == name:
                        check_form(measure.path, values.get(measure.path), measure.form)
                rows: Any = values.get("retrieve/queries") or []
                if strays := [row for row in rows if not 0 <= row < len(self.images.train)]:
                    raise ValueError(f"query {strays[0]} is none of the {len(self.images.train)} training images")

    def drawing(self, artifact: str, variant: str, path: str) -> Drawing:
        """A figure as the page draws it. Raises Problem where it cannot be drawn."""
        entry = self.evidence[artifact, variant]
        with reading(entry.source.folder):
            return drawing(entry.scores.figures[path])

    def impossible(self, name: str, variant: str) -> str | None:
        """In a word or two why this variant can have no such artifact; None where it can."""
        origin, stage = self.makers.get(variant), self._stage(variant)
        if origin and _names_variant(
            origin
        ):  # an encoder's vectors, made in another way: what is asked of them it can have
            declared = declaration(name)
            if not any("--embeddings {variant}" in line for line in declared.command):
                return f"see {origin.config.get('encoder')}"
            return "unlabeled" if declared.needs_labels() and not self.images.labeled else None
        return absent(name, stage, self.images.labeled) if stage else None

    def unlabeled(self, name: str, path: str | None) -> bool:
        """Whether what stands at a path of an artifact is left out because the images are unlabeled."""
        return not self.images.labeled and declaration(name).needs_labels(path)

    def applicable(self, measures: Sequence[Measure]) -> tuple[Measure, ...]:
        """Those that these images have, with or without labels."""
        return tuple(measure for measure in measures if measure.applies(self.images.labeled))

    @property
    def summary(self) -> tuple[Measure, ...]:
        """The columns of the first table."""
        return self.applicable(self.study.summary)

    @property
    def headline(self) -> Measure | None:
        """What ranks the variants: the first of the summary."""
        return next(iter(self.summary), None)

    def _stage(self, variant: str) -> str | None:
        """Which makes a variant: what made it here, or the study's representation of its name."""
        if origin := self.makers.get(variant):
            return origin.stage
        representation = self.study.nearest(variant.removeprefix(f"{self.dataset}-"))
        return representation.stage if representation else None

    def missing(self, name: str, variant: str, path: str | None = None) -> str:
        """In a few words why a value or a figure, which would stand at `path`, is not there."""
        present = (name, variant) in self.evidence
        if not present and (reason := self.impossible(name, variant)):
            return reason
        if self.unlabeled(name, path):
            return "unlabeled"
        if present:
            return "not measured"
        return "no anomalies" if name == "anomaly" and self.anomalies is None else "not made"

    def cure(self, name: str, variant: str) -> str:
        """The command that makes an artifact of a variant: again where it is here; of a variant that is not on this page, the
        one that makes its encoder or its embeddings. Empty for what is impossible, and where nobody can say."""
        if self.impossible(name, variant):
            return ""
        if (reading := self.evidence.get((name, variant))) and (command := again(reading.source.origin)):
            return command
        commands = declaration(name).command if variant in self.variants else ()
        if commands:
            return f"python -m {commands[-1].format(variant=variant, anomalies=self.anomalies or 'ANOMALIES')}"
        if (origin := self.makers.get(variant)) and (command := again(origin)):
            return command
        representation = self.study.by_name.get(variant.removeprefix(f"{self.dataset}-"))
        if representation is None:
            return ""
        aliases = {"images": self.dataset, **{name: self.variant(name) for name in self.study.by_name}}
        stage, *words = representation.words(aliases, preset=preset(self.images.train))
        parser = stage_command(stage)
        return f"python -m {shlex.join([stage, *parser.flags(identity(parser.parse(words)))])}"

    @property
    def comparing(self) -> str:
        """The command that compares the variants of this page over their seeds."""
        return f"python -m {shlex.join(self.study.comparing(self.variants, self.anomalies))}"

    @property
    def deciding(self) -> str:
        """The command that decides the claims, after the comparison where that was not made."""
        claims = f"python -m {shlex.join(self.study.deciding(self.dataset))}"
        return claims if self.compare else f"{self.comparing} && {claims}"

    @property
    def outdated(self) -> list[str]:
        """The references on this page whose seed 0 has another version than the one that `compare` has read."""
        if self.compare is None:
            return []
        comparison = Comparison(self.compare.scores.values)
        versions = {key: comparison.versions(key[1], key[0]) for key in self.evidence}
        return [
            reading.source.request
            for key, reading in self.evidence.items()
            if versions[key] and versions[key][0] != reading.source.version.reference
        ]


def gather(stage: Stage, study: "Study", variants: Sequence[str], anomalies: str | None) -> Book:
    """Fetches what was made for the variants and the images that they share, and what was made of all of them together.

    Raises Problem where nothing was made for one of them, or where they are not of one data set.
    """
    evidence: dict[tuple[str, str], Reading] = {}
    datasets: dict[str, str] = {}
    makers: dict[str, Origin] = {}
    for variant in variants:
        for name, entry in read_all(stage, variant, anomalies, study.scores).items():
            evidence[name, variant] = entry
            datasets[variant] = entry.source.dataset
            makers[variant] = maker(stage.store, entry.source.origin)
        if variant not in datasets:
            raise nothing_made(stage, variant)
    dataset = one_dataset(datasets)
    compare, claims = (read(stage, name, study.alias(dataset)) for name in ("compare", "claims"))
    source = stage.fetch("images", dataset)
    stage.about(source)
    # Where a chain of artifacts is not here down to its beginning, it ends in a stage that took the variant over.
    passing = {line.split()[0] for entry in declarations().values() for line in entry.command}
    makers = {
        variant: origin for variant, origin in makers.items() if origin.stage not in passing or _names_variant(origin)
    }
    images = Images.load(source.folder)
    sources = [source, *(reading.source for reading in (*evidence.values(), *filter(None, (compare, claims))))]
    book = Book(
        study,
        tuple(variants),
        anomalies,
        evidence,
        images,
        source,
        makers,
        compare,
        claims,
        _ancestors(stage, sources),
    )
    book.check()
    return book


def _names_variant(origin: Origin) -> bool:
    """Whether eval.embed gave its embeddings a variant of their own, VARIANT-mirror, which has no encoder of that name."""
    return origin.stage == "eval.embed" and origin.config.get("mirror") is True


def _ancestors(stage: Stage, sources: Sequence[Input]) -> dict[str, "Node"]:
    """By `name@digest` the sources and all that they were made from, as far as that is in the local store."""
    from eval.labbook.graph import Node

    nodes = {
        f"{source.version.name}@{source.version.digest}": Node(
            source.request, source.version.reference, source.version.digest, source.origin.inputs
        )
        for source in sources
    }
    for entry, (version, inputs) in ancestors(stage.store, [source.origin for source in sources]).items():
        name, _, digest = entry.partition("@")
        if entry in nodes:
            continue
        aliases = [alias for alias in version.aliases if alias != "latest"] if version else []
        # The shortest is that of the variant, where seed 0 has one with its seed too.
        request = f"{name}:{min(aliases, key=len)}" if aliases else name
        nodes[entry] = Node(request, version.reference if version else "not here", digest, inputs)
    return nodes
