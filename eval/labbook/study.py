"""What a study is: the representations that it compares, how each is evaluated, and the chapters that ask about them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.data.images import UNLABELED, has_labels
from train.tracking import Problem, stage_command
from train.tracking.declarations import declaration, declarations

# How many training and test images an evaluation needs: the five nearest of an image, the points of a t-SNE.
LEAST: Mapping[str, tuple[int, int]] = {"retrieve": (6, 0), "project": (0, 4)}

if TYPE_CHECKING:
    from eval.evidence.measures import Measure
    from eval.labbook.chapter import Chapter


@dataclass(frozen=True)
class Representation:
    """One way to make embeddings.

    name: of its variants, after that of the data set. command: makes its encoder, or its embeddings; {images} is the image
    set, {NAME} the alias of the study's representation NAME. label: what sentences call it. plural: whether that is a plural.
    seedless: nothing in it is drawn. labeled: labels trained it: it is no rival of the others, and
    unlabeled images have none of it. without: evaluations that are not taken of it, though they could be. flags: those of an evaluation that is taken of it
    otherwise than of the others.
    """

    name: str
    command: str
    label: str
    plural: bool = False
    seedless: bool = False
    labeled: bool = False
    without: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        return self.command.split()[0]

    def makes(self, artifact: str) -> bool:
        """Whether its own stage does."""
        return self.stage in declaration(artifact).producers

    def words(self, aliases: Mapping[str, str], **flags: object) -> tuple[str, ...]:
        """The command, in words. aliases: for {images} and {NAME}. flags: added where the stage has them and the command does
        not name them."""
        stage, *words = self.command.format(**aliases).split()
        names = {field.name for field in dataclasses.fields(stage_command(stage).parse(words))} if flags else set()
        for flag, value in flags.items():
            if flag in names and f"--{flag}" not in words:
                words += [f"--{flag}", str(value)]
        return stage, *words


@dataclass(frozen=True)
class Ablation:
    """What a part of a representation is for. words: what was done, "without the variance term". measure: what it may cost,
    the study's first where none is named."""

    words: str
    whole: str
    rest: str
    measure: "Measure | None" = None


@dataclass(frozen=True)
class Use:
    """What a representation is good for beside its probe. words: a noun, "the anomaly detector", plural or not. of: the representations
    that it is looked for in, the study's subject where none is named; against: what the best of them is compared with, the
    baselines where none is named. unlabeled: the measure of unlabeled images, where `measure` needs labels."""

    words: str
    measure: "Measure"
    of: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    plural: bool = False
    unlabeled: "Measure | None" = None


@dataclass(frozen=True)
class Study:
    """What is asked of some representations, and what answers it.

    question: what it is about, in a sentence. subject: the representation that all others are compared with. evaluations:
    the scores that are taken of each, in the order made. summary: the columns of the first table. baselines: the
    representations that nothing was learned for, beside which the front door shows the subject. floors: what the subject
    has over the others, before the chapters. ablations, uses: what the page says first, beside the best representation.
    claims: the file of its claims. sources: who makes them, by the name that the file has for each. dataset: the images that it is made from where none are named. sizes: pixels of a side of
    the sets that it takes at another size than all studies do. default: the study where none is named, whose results are called
    by the data set alone.
    """

    name: str
    question: str
    subject: str
    representations: tuple[Representation, ...]
    evaluations: tuple[str, ...]
    summary: "tuple[Measure, ...]"
    chapters: "tuple[Chapter, ...]"
    baselines: tuple[str, ...] = ()
    floors: "Chapter | None" = None
    ablations: tuple[Ablation, ...] = ()
    uses: tuple[Use, ...] = ()
    claims: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    dataset: str = "digits"
    sizes: Mapping[str, int] = field(default_factory=dict)
    default: bool = False

    # -- its parts -----------------------------------------------------------------------------------------------------

    @cached_property
    def by_name(self) -> dict[str, Representation]:
        return {representation.name: representation for representation in self.representations}

    def nearest(self, name: str) -> Representation | None:
        """The representation of this name, or the one whose settings a longer name goes on with."""
        parts = name.split("-")
        names = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((self.by_name[name] for name in names if name in self.by_name), None)

    @property
    def questions(self) -> tuple[int, ...]:
        """The numbers of its chapters, and of its floors."""
        return tuple(chapter.number for chapter in (*self.chapters, *filter(None, [self.floors])))

    @property
    def measures(self) -> "tuple[Measure, ...]":
        """All that its page shows."""
        chapters = (*self.chapters, *filter(None, [self.floors]))
        return (*self.summary, *(measure for chapter in chapters for measure in chapter.measures))

    @property
    def scores(self) -> tuple[str, ...]:
        """The artifacts that its comparison and its page read of a variant, in the order of artifacts.yaml."""
        return tuple(
            name
            for name, declared in declarations().items()
            if declared.type == "scores"
            and "variant" in declared.fields
            and (name in self.evaluations or any(one.makes(name) for one in self.representations))
        )

    @property
    def needing_labels(self) -> list[str]:
        """What is left out of unlabeled images: representations that learn from labels, and evaluations."""
        learning = [one.name for one in self.representations if one.labeled]
        return [*learning, *(f"eval.{name}" for name in self.evaluations if declaration(name).needs_labels())]

    @property
    def asks_for_anomalies(self) -> bool:
        """Whether an evaluation needs a second image set."""
        return any("anomalies" in declaration(name).fields for name in self.evaluations)

    def check_counts(self, dataset: str, train_labels: NDArray[np.int64], test_labels: NDArray[np.int64]) -> None:
        """Raises Problem where the images are too few for what is measured: before a training, not after it."""
        for split, labels, place in (("training", train_labels, 0), ("test", test_labels, 1)):
            least, name = max((LEAST.get(name, (0, 0))[place], name) for name in self.evaluations)
            if len(labels) < least:
                raise Problem(
                    f"{dataset} has {len(labels)} {split} images, and eval.{name} needs {least}; add {split} images, or give"
                    " another data set"
                )
        labels = train_labels[train_labels != UNLABELED]
        if "probe" in self.evaluations and has_labels(train_labels, test_labels) and np.bincount(labels).max() < 2:
            raise Problem(
                f"each of the {len(labels)} training images of {dataset} has a class of its own, so that eval.probe can"
                " hold none out; give two images of a class"
            )

    # -- the commands that make it -------------------------------------------------------------------------------------

    def steps(self, representation: Representation, labeled: bool = True) -> Iterator[str]:
        """The commands that follow the representation's own: what its evaluations need, in the order of artifacts.yaml, and
        then these; {variant} and {anomalies} are still to be filled in. labeled: whether the images are."""
        evaluations = [
            name
            for name in self.evaluations
            if name not in representation.without and not absent(name, representation.stage, labeled)
        ]
        needed = {need for name in evaluations for need in _needs(name)}
        for name in (*(name for name in declarations() if name in needed and name not in evaluations), *evaluations):
            if not representation.makes(name):
                for command in declaration(name).command:
                    own = command.split()[0] in declaration(name).producers
                    yield f"{command} {representation.flags[name]}" if own and name in representation.flags else command

    def fields(self, dataset: str) -> dict[str, object]:
        """What the aliases of its comparison, claims and page are made of."""
        return {"dataset": dataset} if self.default else {"dataset": dataset, "study": self.name}

    def alias(self, dataset: str) -> str:
        """Of its comparison, claims and page."""
        return declaration("compare").aliases_for(self.fields(dataset))[0]

    @property
    def page(self) -> str:
        """The name of its page in PEEL_HOME, where there is another study's beside it."""
        return f"lab-book-{self.name}.html"

    def comparing(self, variants: Sequence[str], anomalies: str | None) -> tuple[str, ...]:
        """The command that compares the variants, in words."""
        return ("eval.compare", *self._variants(variants, anomalies))

    def deciding(self, dataset: str) -> tuple[str, ...]:
        """The command that decides its claims, in words."""
        return ("eval.claims", "--compare", self.alias(dataset), *self._flag)

    def reporting(self, variants: Sequence[str], anomalies: str | None) -> tuple[str, ...]:
        """The command that makes its page, in words."""
        return ("eval.report", *self._variants(variants, anomalies))

    def _variants(self, variants: Sequence[str], anomalies: str | None) -> tuple[str, ...]:
        others = ("--anomalies", anomalies) if anomalies and self.asks_for_anomalies else ()
        return ("--variants", *variants, *others, *self._flag)

    @property
    def _flag(self) -> tuple[str, ...]:
        return () if self.default else ("--study", self.name)


def absent(artifact: str, stage: str, labeled: bool = True) -> str | None:
    """In a word or two why a variant that this stage makes cannot have such an artifact; None where it can. labeled: whether
    the images are."""
    declared = declaration(artifact)
    if stage in declared.producers:
        return None
    if declared.needs_labels() and not labeled:
        return "unlabeled"
    if not declared.command:
        return declared.absent or "not made by its stage"
    return next((reason for need in declared.needs if (reason := absent(need, stage, labeled))), None)


def preset(images: NDArray[np.uint8]) -> str:
    """For these training images, (n, size, size, 3)."""
    from train.methods.variants import default_preset  # late: torch takes two seconds

    return default_preset(len(images), images.shape[1])


def _needs(artifact: str) -> set[str]:
    """What must be there before it, however many steps before."""
    needs = set(declaration(artifact).needs)
    return needs.union(*(_needs(need) for need in needs))
