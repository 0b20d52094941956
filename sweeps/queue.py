"""A sweep's trials as an Optuna study in SQLite, which any number of runners on one machine share.

What others may rely on, with nothing but Optuna (`optuna.load_study(study_name=NAME, storage="sqlite:///...")`): the
study NAME lies in PEEL_HOME/sweeps/NAME.sqlite, and PEEL_HOME/sweeps/NAME/ holds what its trials printed (NUMBER.log) and
logged (NUMBER.jsonl).

- study.user_attrs: `file` (the sweep file's name) and `definition` (its content, with what `--set` replaced).
- trial.params: the swept parameters, with their exact values. trial.value: the metric. trial.intermediate_values: the metric
  by epoch; where the program logs none beside it, by its place in the history, from 0.
- trial.state: WAITING (queued, also again after an interruption), RUNNING, COMPLETE, PRUNED (stopped by early_terminate; its
  value is the last one reported), FAIL.
- trial.user_attrs, once it has ended: `command` (what follows the interpreter: ["-m", "train.pretrain", "--images=digits",
  ...]), `run` (the id of the stage's run; None where it never came to one), `variant` (None where unknown), `metrics` (the
  last scalars of the run, by path), `exit_code` (None where the result was there and nothing was run), `reused`.
  `runner` belongs to the runners: the name of the one that has the trial.

A runner holds a lock on NAME/RUNNER.runner for as long as it lives; where that is free, its trials are queued again.

A grid's points are all queued when the study is created, one trial each, so that a point has one trial forever. Optuna does not
make this atomic on SQLite; here every access is made alone, under a lock on NAME.lock that the system frees with its holder.
"""

import contextlib
import dataclasses
import itertools
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeps.definition import Definition
from sweeps.locks import acquire, alone, is_held
from sweeps.parameters import Parameter, Value
from sweeps.rounding import Rounding
from train.tracking import Problem
from train.tracking.problem import one_line

DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}
HEARTBEAT = "heartbeat"  # a trial's attribute by which runners without a lock of their own were known to live
PASSING = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_CANTOPEN")
MOVE = "move it away (what its trials made is reused)"
INESSENTIAL = ("run_cap", "name", "description", "project", "entity")  # may change while a study goes on


@dataclass(frozen=True)
class Lease:
    """A trial that is one runner's alone for as long as that lives."""

    number: int
    point: Mapping[str, Value]


class Queue:
    """The trials of a sweep: opens their study, and creates it where there is none.

    Raises Problem where its file cannot be used or belongs to another sweep.
    """

    def __init__(self, definition: Definition, folder: Path) -> None:
        self.definition = definition
        self.path = folder / f"{definition.name}.sqlite"
        self.files = folder / definition.name
        self.runner = secrets.token_hex(8)
        self.distributions = {parameter.name: distribution(parameter) for parameter in definition.swept}
        try:
            self.files.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise Problem(f"{self.files} is another sweep's file; rename {definition.file.name}") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._alone():
            self._life = (self.files / f"{self.runner}.runner").open("w")
            acquire(self._life)  # alone, so that nobody takes it for a dead one's in between
            with contextlib.closing(self._connection()) as connection:
                connection.execute("PRAGMA schema_version")
            # A path in the address would be read as an address: `?` begins its options.
            self._storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": self._connection})
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=definition.name,
                direction=DIRECTIONS[definition.goal],
                load_if_exists=True,
            )
            self._id = self._storage.get_study_id_from_name(definition.name)
            self._check_definition()
            self._take_over_choices()
            if definition.method == "grid":
                self._queue_grid()

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()
        Path(self._life.name).unlink(missing_ok=True)
        self._life.close()

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60, check_same_thread=False)

    # -- creation ------------------------------------------------------------------------------------------------------

    def _check_definition(self) -> None:
        def essence(content: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in content.items() if key not in INESSENTIAL}

        earlier = self._study.user_attrs.get("definition")
        if isinstance(earlier, Mapping) and essence(earlier) != essence(self.definition.content):
            raise Problem(
                f"{self.definition.file} differs from the file that the study {self.definition.name} began with; rename the file,"
                f" or move {self.path} away (what its trials made is reused)"
            )
        self._study.set_user_attr("definition", dict(self.definition.content))
        self._study.set_user_attr("file", self.definition.file.name)

    def _take_over_choices(self) -> None:
        """A study that began when choices were stored as YAML reads them goes on with those."""
        for trial in self._trials():
            for name, stored in trial.distributions.items():
                if name in self.distributions and isinstance(stored, CategoricalDistribution):
                    self.distributions[name] = stored

    def _queue_grid(self) -> None:
        """Queues what is not there yet: all of the grid up to its cap, or what a killed runner had left out."""
        count, cap = len(self._trials()), self.definition.run_cap
        for point in itertools.islice(self.definition.points(), count, cap and max(cap, count)):
            params = {name: self._stored(name, value) for name, value in point.items()}
            self._study.add_trial(
                optuna.create_trial(state=TrialState.WAITING, params=params, distributions=self.distributions)
            )

    def _stored(self, name: str, value: Value) -> Value:
        """A parameter's value as it stands in the study."""
        stored = self.distributions[name]
        values = self._listed(name)
        return stored.choices[values.index(value)] if isinstance(stored, CategoricalDistribution) else value

    def _typed(self, name: str, value: Value) -> Value:
        """A value of the study as the program's field has it."""
        stored = self.distributions[name]
        return self._listed(name)[stored.choices.index(value)] if isinstance(stored, CategoricalDistribution) else value

    def _listed(self, name: str) -> tuple[Value, ...]:
        return next(parameter.values for parameter in self.definition.swept if parameter.name == name)

    # -- leases --------------------------------------------------------------------------------------------------------

    def lease(self, cap: int | None) -> Lease | None:
        """The next trial, this runner's alone from now on; None where there is none to begin.

        cap: of how many trials may have begun, over all runners.
        """
        with self._alone():
            self._requeue_orphans()
            trials = self._trials()
            waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
            if cap is not None and len(trials) - len(waiting) >= cap:
                return None
            if not waiting and self.definition.method == "grid":
                return None
            self._study.sampler = self._sampler(len(trials))
            trial = self._study.ask(self.distributions)  # the first that is queued, else a new one
            self._mark(trial.number, runner=self.runner, **{HEARTBEAT: None})
            return Lease(trial.number, {name: self._typed(name, value) for name, value in trial.params.items()})

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Draws from the trial's own number: no two runners draw alike, and a random search can be repeated."""
        sampler: optuna.samplers.BaseSampler
        if self.definition.method == "bayes":
            sampler = optuna.samplers.TPESampler(seed=number, constant_liar=True)
        else:
            sampler = optuna.samplers.RandomSampler(seed=number)
        return Rounding(sampler, {parameter.name: parameter for parameter in self.definition.swept if parameter.q})

    def _requeue_orphans(self) -> None:
        """Queues the trials of killed runners again."""
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and not self._runner_lives(trial):
                self._requeue(trial.number)
        for file in self.files.glob("*.runner"):
            if not is_held(file):
                file.unlink(missing_ok=True)

    def _runner_lives(self, trial: FrozenTrial) -> bool:
        """Whether the runner that has the trial holds its lock. One that was killed at the very first has left no name, and
        an old one has no lock: it lives for as long as its program does."""
        if trial.user_attrs.get(HEARTBEAT) is not None:
            return is_held(self.files / f"{trial.number}.lock")
        runner = trial.user_attrs.get("runner")
        return runner is not None and is_held(self.files / f"{runner}.runner")

    def _requeue(self, number: int) -> None:
        self._mark(number, runner=None)
        self._storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    # -- the trial that is leased ---------------------------------------------------------------------------------------

    def report(self, number: int, values: Mapping[int, float]) -> None:
        """Records the metric by step. Does nothing where the trial is no longer this runner's."""
        with self._alone():
            if self._own(number):
                for step, value in values.items():
                    self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def release(self, number: int) -> None:
        """Queues the trial again, as after Ctrl-C."""
        with self._alone():
            if self._own(number):
                self._requeue(number)

    def finish(self, number: int, state: TrialState, value: float | None, attributes: Mapping[str, Any]) -> bool:
        """Records how the trial ended. False where it is no longer this runner's. value: of a COMPLETE one."""
        with self._alone():
            own = self._own(number)
            if own:
                self._mark(number, **attributes)
                self._study.tell(number, value, state)
            return own

    # -- reading -------------------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        with self._alone():
            return self._trials()

    def counts(self) -> Counter[TrialState]:
        return Counter(trial.state for trial in self.trials())

    # -- under the lock ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises Problem where the study's file cannot be used: what is passing is not the file's fault."""
        with alone(self.path.with_suffix(".lock")):
            try:
                yield
            except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError) as error:
                cause: BaseException = error
                while cause.__cause__ is not None:
                    cause = cause.__cause__
                passing = getattr(cause, "sqlite_errorname", "").startswith(PASSING)
                cure = "make room for it and let it be written to" if passing else MOVE
                raise Problem(f"cannot use {self.path}: {one_line(cause)}; {cure}, and run this again") from error

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _mark(self, number: int, **attributes: Any) -> None:
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._trial_id(number), name, value)

    def _own(self, number: int) -> bool:
        trial = self._storage.get_trial(self._trial_id(number))
        return trial.state == TrialState.RUNNING and trial.user_attrs.get("runner") == self.runner


def as_begun(definition: Definition, folder: Path) -> Definition:
    """The sweep under the name that its study in `folder` began with."""
    if definition.earlier and (folder / f"{definition.earlier}.sqlite").exists():
        return dataclasses.replace(definition, name=definition.earlier)
    return definition


def distribution(parameter: Parameter) -> BaseDistribution:
    """What Optuna draws from; multiples of q are drawn as their neighborhood and rounded then."""
    if parameter.distribution == "categorical":
        return CategoricalDistribution(parameter.values)
    logarithmic = "log" in parameter.distribution
    if parameter.whole:
        return IntDistribution(int(parameter.low), int(parameter.high), log=logarithmic)
    return FloatDistribution(parameter.low, parameter.high, log=logarithmic)
