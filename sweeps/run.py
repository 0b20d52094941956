"""Runs a W&B sweep file on this machine, without an account: the same file that `wandb sweep` takes.

Each trial is an ordinary run of the program, in its own process. The same command in another shell shares the trials; after
an interruption it goes on with those that are left. Exit code 1 where a trial failed, 2 on bad input.
"""

import contextlib
import dataclasses
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction

from sweeps.definition import Definition, read
from sweeps.locks import alone
from sweeps.queue import Queue, as_begun
from sweeps.runner import Runner
from train.data.images import Images
from train.engine.monitor import INSTANCES, OF_LABELS, unmeasured
from train.tracking import Command, Problem, stage_command
from train.tracking.declarations import NUMBER, declaration, declarations, reference
from train.tracking.remote import destination, online
from train.tracking.store import Store, home


@dataclass(frozen=True)
class Config:
    file: Positional[Path]
    """The sweep file."""
    set: Annotated[tuple[tuple[str, ...], ...], UseAppendAction] = ()
    """NAME=VALUE: fixes a parameter, such as images=cifar10. It is then another sweep, with a study of its own."""
    trials: int | None = None
    """End after this many trials. A random or Bayesian search may then go beyond its run_cap."""

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise Problem(f"--trials {self.trials} is below 1; give 1 or more")


def main(config: Config) -> None:
    definition = read(config.file, [text for group in config.set for text in group])
    if definition.method != "grid" and not (definition.run_cap or config.trials):
        raise Problem(
            f"{config.file}: a {definition.method} search never ends by itself; add a run_cap to the file, or give --trials"
        )
    program = stage_command(definition.program)
    definition = definition.in_types_of(program)
    print(f"Results go to {destination()}", flush=True)
    folder = home() / "sweeps"
    definition = as_begun(definition, folder)
    provide_inputs(definition, folder)
    definition = label_free(definition)
    with contextlib.closing(Queue(definition, folder)) as queue, contextlib.closing(Store()) as store:
        failures = Runner(queue, store, program).run(config.trials)
    if failures:
        sys.exit(1)


def provide_inputs(definition: Definition, folder: Path) -> None:
    """Prepares the images that the trials name and are missing. Raises Problem where another input is."""
    if online():
        return  # they come from W&B
    for parameter in definition.parameters:
        name = parameter.name
        if name in declarations() and definition.program in declaration(name).consumers:
            for value in filter(None, parameter.values):
                _, alias = reference(str(value), name)
                provide(name, alias, folder)


def label_free(definition: Definition) -> Definition:
    """The sweep, judged by what needs no label where it is judged by labels and its images have none.

    Raises Problem where other images of it have some. Images that are still at W&B count as labeled.
    """
    aliases = [value for one in definition.parameters if one.name == "images" for value in one.values]
    if definition.metric not in OF_LABELS or not aliases:
        return definition
    with contextlib.closing(Store()) as store:
        versions = {str(value): store.find(*reference(str(value), "images")) for value in aliases}
        unlabeled = [
            name for name, version in versions.items() if version and unmeasured(Images.load(store.folder(version)))
        ]
    if not unlabeled:
        return definition
    if others := [name for name in versions if name not in unlabeled]:
        raise Problem(
            f"{definition.file}: {unlabeled[0]} is unlabeled and {others[0]} is not, so that no metric compares their trials;"
            " sweep each by itself, with --set images=..."
        )
    print(
        f"{', '.join(unlabeled)}: unlabeled, so that trials are judged by {INSTANCES} in place of {definition.metric}"
        " (sweeps/README.md says how far that agrees with a probe)",
        flush=True,
    )
    metric = {"name": INSTANCES, "goal": "maximize"}
    content = {**definition.content, "metric": metric}
    return dataclasses.replace(definition, metric=INSTANCES, goal="maximize", content=content)


def provide(name: str, alias: str, folder: Path) -> None:
    with contextlib.closing(Store()) as store:
        if name == "images" and not NUMBER.fullmatch(alias) and store.find(name, alias) is None:
            with alone(folder / f".images-{alias}.lock"):  # another shell may be preparing them
                if store.find(name, alias) is None:
                    prepare(alias)
        store.get(name, alias, f"Run: python -m {' or '.join(declaration(name).producers)}")


def prepare(dataset: str) -> None:
    command = ["-m", "train.prepare", "--dataset", dataset]
    print(f"\npython {shlex.join(command)}", flush=True)
    if code := subprocess.run([sys.executable, *command]).returncode:
        raise Problem(
            f"images:{dataset} is missing, and python {shlex.join(command)} failed (exit code {code}); correct what it printed, and run this again"
        )


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
