"""Makes a study, or all of them, from an image set to the lab book: every step a command that a person could type.

A step whose inputs, settings and outputs are all as they were is reused; `--fresh True` makes everything anew. The page of a
study stands in PEEL_HOME at lab-book-STUDY.html. While the exercise (peel) is the only study there, its page is
lab-book.html; beside others it is lab-book-peel.html, and lab-book.html is the front door: it links the pages of all studies,
and ranks their representations.
"""

import contextlib
import multiprocessing
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from eval.evidence.readings import score_names
from eval.labbook.door import PAGE, place
from eval.labbook.study import Representation, Study, preset
from eval.studies.all import STUDIES, get_studies
from train.data.datasets import is_archive
from train.data.images import SPLITS, has_labels, load_array
from train.prepare import spare_name
from train.tracking import Command, Problem, stage_command
from train.tracking.command import answer
from train.tracking.declarations import check_room
from train.tracking.origin import alias, settings
from train.tracking.remote import destination
from train.tracking.store import Store, home
from train.tracking.store.records import Version

INTERRUPTED = 130  # exit code of a stage that Ctrl-C ended
UNTOLD = 255  # what multiprocessing has for the exit code of a stage whose fork server was killed
# What most stages import, what takes long, and the stages that a study runs for each of its generators (6 to 23 ms each time);
# the last six are imported when a stage starts, by torch.optim, by our flags (two), by W&B (two), and as it draws its first
# figure. None of them starts a thread or touches a GPU by being imported.
PRELOADED = [
    "eval.anomaly", "eval.cluster", "eval.decode", "eval.generate", "eval.latents", "eval.probe", "eval.project",
    "eval.retrieve", "train.autoencode", "train.pretrain", "wandb",
    "torch._dynamo", "tyro", "typeguard", "wandb.sdk.launch.inputs.internal", "requests", "sweeps.ahead",
]  # fmt: skip


@dataclass(frozen=True)
class Config:
    study: str = "peel"
    """What is asked, and of which representations: one of eval/studies/, or `all`, one after another."""
    dataset: str = ""
    """The image set: a name that train.prepare knows, or images of your own (a folder, zip, tar, npz, npy or Parquet). By
    default what each study is made from: the digits."""
    name: str = ""
    """What that set is called; by default by itself, or by its folder or file, and a hash of its images where that is taken."""
    anomalies: str = "photos"
    """The image set that shall look strange beside it."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and list them, instead of stopping."""
    encoding: str = ""
    """Of the file names in a zip that does not say, such as cp932."""
    unlabeled: bool = False
    """Leave out the set's labels: its folders are no classes."""
    seeds: int = 1
    """How often each representation is made, with the seeds 0, 1, ...; from 2 on the intervals cover seeds too."""
    fresh: bool = False
    """Make everything anew."""

    def __post_init__(self) -> None:
        studies = get_studies(self.study)
        if self.seeds < 1:
            raise Problem(f"--seeds {self.seeds} makes nothing; give 1 or more (SEEDS=...)")
        if any(self.anomalies == (self.dataset or study.dataset) for study in studies if study.asks_for_anomalies):
            raise Problem(f"{self.anomalies!r} cannot be its own anomalies; give another set (ANOMALIES=...)")
        if self.unlabeled and not self.dataset:
            raise Problem("--unlabeled True leaves out the labels of a --dataset; give one (DATASET=...)")
        if self.name and not self.dataset and len(studies) > 1:
            raise Problem(
                f"--name {self.name} would stand for the image sets of several studies; give a --dataset for all (DATASET=...)"
            )


@dataclass
class Step:
    command: tuple[str, ...]
    state: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.state:8} {self.seconds:7.1f} s  python -m {shlex.join(self.command)}"


class Driver:
    """Runs steps one after another and remembers what became of each."""

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self.study = ""  # that the steps are made for
        self.store = Store()
        self.steps: list[Step] = []
        self._made: set[str] = set()  # by settings, which several studies may share

    def make(self, *command: str) -> dict[str, Version]:
        """Runs a stage unless what it would make is there. Returns the versions by artifact name.

        Raises Problem where the stage fails; it has said why.
        """
        started = time.monotonic()
        stage, *flags = command
        key = settings(stage, stage_command(stage).parse(flags))
        versions = None if self.fresh and key not in self._made else self.store.reuse(stage, key)
        state = "reused" if versions else "made"
        if versions is None:
            print(f"\n[{len(self.steps) + 1}] python -m {shlex.join(command)}", flush=True)
            code = run_to_its_end(run_stage, stage, flags, self.study)
            versions = self.store.reuse(stage, key) if not code else None
            if versions is None:
                self.steps.append(Step(command, "failed", time.monotonic() - started))
                if code == INTERRUPTED:
                    raise KeyboardInterrupt
                raise Problem(f"python -m {shlex.join(command)} {failure(code)} and run this again{hint(stage)}")
        self.steps.append(Step(command, state, time.monotonic() - started))
        self._made.add(key)
        return {version.name: version for version in versions}

    def called(self, version: Version) -> str:
        """The variant, or the image set, that a version belongs to."""
        maker = self.store.maker(version)
        assert maker is not None and maker.variant is not None
        return maker.variant

    def table(self) -> str:
        counts = {state: sum(step.state == state for step in self.steps) for state in ("made", "reused", "failed")}
        return "\n".join([*map(str, self.steps), ", ".join(f"{count} {state}" for state, count in counts.items())])


def main(config: Config) -> None:
    print(f"Results go to {destination()}", flush=True)
    driver = Driver(config.fresh)
    studies = get_studies(config.study)
    try:
        for study in studies:
            content = run(driver, study, config).read_bytes()
            with driver.store.in_use():
                page = place(driver.store, tuple(STUDIES.values()), study, content)
    finally:
        print(f"\n{driver.table()}", flush=True)
    print(page if len(studies) == 1 else home() / PAGE)


def run(driver: Driver, study: Study, config: Config) -> Path:
    """Every step of a study in its order. Returns the lab book's file in the store."""
    driver.study = study.name
    dataset = config.dataset or study.dataset
    if dataset in study.sizes:
        images = prepare_sized(driver, config, dataset, study.sizes[dataset])
    elif config.dataset:
        images = prepare(driver, config, dataset, config.name)
    else:
        flags = [f"--name={config.name}"] if config.name else []
        images = driver.make("train.prepare", f"--dataset={dataset}", *flags)["images"]
    name = driver.called(images)
    folder = driver.store.folder(images)
    labels = [load_array(folder / f"{split}_labels.npy") for split in SPLITS]
    labeled = has_labels(*labels)
    study.check_counts(name, *labels)
    if not labeled and study.needing_labels:
        print(f"{name} is unlabeled; what needs labels is left out: {', '.join(study.needing_labels)}", flush=True)
    anomalies = None
    if study.asks_for_anomalies:
        anomalies = driver.called(prepare(driver, config, config.anomalies))
        if anomalies == name:
            raise Problem(
                f"{config.anomalies!r} holds the images of {dataset!r}, which cannot be their own anomalies; give"
                " another set (ANOMALIES=...)"
            )
        check_room("train.prepare", {"dataset": name, "anomalies": anomalies})  # hours before eval.anomaly would
    recipe = preset(load_array(folder / "train.npy"))
    representations = [one for one in study.representations if labeled or not one.labeled]
    aliases: dict[str, str] = {"images": name}
    variants: list[str] = []  # of seed 0, without those of which nothing is measured where images are unlabeled
    for seed in range(config.seeds):
        for representation in representations:
            if not (seed and representation.seedless):
                versions = represent(driver, representation, aliases, recipe, seed)
                aliases[representation.name] = variant = alias(driver.called(next(iter(versions.values()))), seed)
                for command in study.steps(representation, labeled):
                    versions |= driver.make(*command.format(variant=variant, anomalies=anomalies).split())
                if not seed and versions.keys() & {*score_names()}:
                    variants.append(variant)
    if not variants:
        raise Problem(
            f"{name} is unlabeled, and the study {study.name!r} measures nothing without labels; give another STUDY="
        )
    driver.make(*study.comparing(variants, anomalies))
    if study.claims:
        driver.make(*study.deciding(name))
    report = driver.make(*study.reporting(variants, anomalies))["report"]
    return driver.store.folder(report) / PAGE


def prepare(driver: Driver, config: Config, dataset: str, name: str = "") -> Version:
    """Makes the images of a data set, under a name that no other has."""
    encoding = config.encoding if dataset == config.dataset or is_archive(dataset) else ""
    flags = {"dataset": dataset, "name": name or spare_name(driver.store, dataset, encoding), "encoding": encoding}
    if config.skip_corrupt:
        flags["skip-corrupt"] = "True"
    if config.unlabeled and dataset == config.dataset:
        flags["unlabeled"] = "True"
    words = [f"--{flag}={value}" for flag, value in flags.items() if value]
    return driver.make("train.prepare", *words)["images"]


def prepare_sized(driver: Driver, config: Config, dataset: str, size: int) -> Version:
    """Makes the images of a data set at another size than all studies take it; they have it in their name."""
    flags = [f"--dataset={dataset}", f"--size={size}", f"--name={config.name or f'{dataset}{size}'}"]
    if config.unlabeled:
        flags.append("--unlabeled=True")
    return driver.make("train.prepare", *flags)["images"]


def represent(
    driver: Driver, representation: Representation, aliases: Mapping[str, str], recipe: str, seed: int
) -> dict[str, Version]:
    """Makes a representation's encoder, or its embeddings, and what comes with it. aliases: of the images, and of the
    representations before it."""
    flags = {"preset": recipe} if representation.seedless else {"preset": recipe, "seed": seed}
    return driver.make(*representation.words(aliases, **flags))


def run_to_its_end(body: Callable[..., None], *arguments: Any) -> int:
    """The exit code of `body(*arguments)` in a process of its own, as `python -m STAGE` would be, without the seconds that
    its imports take: it is forked from a process that has them. Ctrl-C reaches it by itself, a SIGTERM is passed on; either
    way it is waited for, so that a training can save what it has."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    process: BaseProcess = server.Process(target=body, args=arguments)
    try:
        process.start()
    except (EOFError, OSError):  # the server was killed, or the path of its socket is too long
        process = multiprocessing.get_context("spawn").Process(target=body, args=arguments)
        process.start()
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        while process.exitcode is None:
            with contextlib.suppress(KeyboardInterrupt):
                process.join()
        if process.exitcode == UNTOLD and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)  # else it goes on alone; a training saves what it has
        return process.exitcode
    finally:
        signal.signal(signal.SIGTERM, before)


def failure(code: int) -> str:
    """How a stage with this exit code ended, and what helps."""
    if code == UNTOLD or code == -signal.SIGKILL:
        return "was killed, maybe because memory was short; close other programs"
    return f"failed (exit code {code}); mend that"


def run_stage(stage: str, flags: Sequence[str], study: str = "") -> None:
    """What `python -m STAGE FLAGS` does. study: that its run is tagged with."""
    os.environ["PEEL_STUDY"] = study
    answer(stage, lambda: stage_command(stage).run(flags))


def hint(stage: str) -> str:
    """How the flags that a failed stage may have asked for are given here, and to make."""
    if stage != "train.prepare":
        return ""
    return " (make run takes --name and --skip-corrupt as NAME=... and SKIP_CORRUPT=1)"


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
