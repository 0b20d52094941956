"""One runner of a sweep: leases trials from the queue, runs each to its end or until it falls behind, and prints what came out.

It touches the queue, the store (what was made before is reused) and the files of its trials in PEEL_HOME/sweeps/NAME/. How a
trial ended goes into the queue, where eval.sweep reads it.
"""

import json
import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from sweeps.program import Program
from sweeps.queue import Lease, Queue
from train.tracking import Command, Problem
from train.tracking.origin import settings
from train.tracking.store import Store
from train.tracking.store.records import Version


@dataclass
class History:
    """What a run has logged: the metric by step, the last value of everything, and what it is about (run, variant, seed)."""

    metric: str
    steps: dict[int, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # of all that was logged, finite or not

    def add(self, entries: list[dict[str, Any]]) -> dict[int, float]:
        """Returns the steps that are new."""
        new: dict[int, float] = {}
        for entry in entries:
            if "run" in entry:
                self.about = entry
                continue
            self.names |= entry.keys()
            self.last |= scalars(entry)
            if finite(entry.get(self.metric)):
                new[int(entry.get("epoch", len(self.steps) + len(new)))] = float(entry[self.metric])
        self.steps |= new
        return new


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. text: the same in words. value: the metric of a complete one. nameless: the program knows no such
    metric."""

    state: TrialState
    text: str
    attributes: Mapping[str, Any]
    value: float | None = None
    nameless: bool = False


class Runner:
    def __init__(self, queue: Queue, store: Store, stage: Command[Any]) -> None:
        self.queue, self.store, self.stage = queue, store, stage
        self.definition = queue.definition
        self.failures = 0
        self.remaining: int | None = None  # how many trials it may still begin; None: all that there are

    def run(self, trials: int | None) -> int:
        """Runs trials until none is left, or so many; returns how many of its own failed.

        Where other runners have all that are left it waits: one of those may be killed.
        """
        silent = True
        self.remaining = trials
        cap = self.definition.run_cap if trials is None or self.definition.method == "grid" else None
        print(self._headline(), flush=True)
        while self.remaining is None or self.remaining > 0:
            lease = self.queue.lease(cap)
            if lease is not None:
                self.remaining = None if self.remaining is None else self.remaining - 1
                self._trial(lease)
                continue
            others = self.queue.counts()[TrialState.RUNNING]
            if not others:
                break
            if silent:
                print(f"waiting for the trials of other runners ({others}); Ctrl-C ends this one", flush=True)
            silent = False
            time.sleep(1.0)
        print(self._result(), flush=True)
        return self.failures

    # -- one trial -----------------------------------------------------------------------------------------------------

    def _trial(self, lease: Lease) -> None:
        try:
            with tqdm(bar_format="{desc}", leave=False, disable=None) as status:
                status.set_description_str(f"trial {lease.number}  {format_point(lease.point)}")
                outcome = self._outcome(lease, status)
            own = self.queue.finish(lease.number, outcome.state, outcome.value, outcome.attributes)
        except BaseException:
            self.queue.release(lease.number)
            raise
        if own:
            self.failures += outcome.state == TrialState.FAIL
            print(self._line(lease, outcome.text), flush=True)
            states = {trial.state for trial in self.queue.trials()}
            if outcome.nameless and not states & {TrialState.COMPLETE, TrialState.PRUNED}:
                raise Problem(
                    f"{self.definition.file}: {self.definition.program} logs no {self.definition.metric}, so that no trial can be"
                    " compared; correct metric.name, or run this again to go on with the other trials"
                )
        else:
            print(f"trial {lease.number}  was taken over by another runner: {self.queue.files} was changed", flush=True)

    def _outcome(self, lease: Lease, status: Any) -> Outcome:
        command = self.definition.arguments(lease.point)
        try:
            key = settings(self.definition.program, self.stage.parse(self.definition.program_flags(lease.point)))
        except Problem as problem:  # what a search has drawn may not go together
            attributes = {
                "command": command,
                "exit_code": 2,
                "reused": False,
                "metrics": {},
                "run": None,
                "variant": None,
            }
            return Outcome(TrialState.FAIL, f"failed: {problem}", attributes)
        program = Program(self.queue.files / str(lease.number))
        program.clear()
        versions = self.store.reuse(self.definition.program, key)
        history, maker = History(self.definition.metric), self._maker(versions)
        values = history.add(program.new_entries())
        metrics = self._scores(versions)
        if maker and history.about.get("run") == maker["run"]:  # the run that an earlier runner left came to its end
            self.queue.report(lease.number, values)
            metrics = history.last | metrics
        if finite(metrics.get(self.definition.metric)):
            attributes = {"command": command, "exit_code": None, "reused": True, "metrics": metrics, **maker}
            return self._complete(attributes, "reused")

        history = History(self.definition.metric)
        code, pruned = self._watch(lease, program, history, status)
        versions = None if code else self.store.reuse(self.definition.program, key)
        metrics = history.last | self._scores(versions)
        source = {"run": history.about.get("run"), "variant": history.about.get("variant"), **self._maker(versions)}
        attributes = {"command": command, "exit_code": code, "reused": False, "metrics": metrics, **source}
        if code and pruned:
            return Outcome(TrialState.PRUNED, f"{self._metric(metrics)}, stopped early", attributes)
        if code:
            text = f"failed (exit code {code}): {program.last_line()}; {program.log}"
            return Outcome(TrialState.FAIL, text, attributes)
        if not finite(metrics.get(self.definition.metric)):
            text = f"failed: it logged no {self.definition.metric}; it logged: {', '.join(metrics) or 'nothing'}"
            names = history.names | self._values(versions).keys()
            return Outcome(TrialState.FAIL, text, attributes, nameless=self.definition.metric not in names)
        return self._complete(attributes)

    def _complete(self, attributes: Mapping[str, Any], note: str = "") -> Outcome:
        text = ", ".join(filter(None, (self._metric(attributes["metrics"]), note)))
        return Outcome(TrialState.COMPLETE, text, attributes, attributes["metrics"][self.definition.metric])

    def _watch(self, lease: Lease, program: Program, history: History, status: Any) -> tuple[int, bool]:
        """Runs the program. Its exit code, and whether it was stopped early."""
        program.start(self.definition.command_line(lease.point))
        try:
            code = None
            while code is None:
                code = program.exit_code()
                new = history.add(program.new_entries())
                if new:
                    self.queue.report(lease.number, new)
                    status.set_description_str(
                        f"trial {lease.number}  {format_point(lease.point)}  step {max(new)}  {self._metric(history.last)}"
                    )
                    if code is None and self._is_behind(lease, len(new)):
                        return program.stop(), True
        except BaseException:
            program.stop()
            raise
        return code, False

    def _is_behind(self, lease: Lease, new: int) -> bool:
        """Whether the trial was to be stopped at one of its last `new` values: a band passed between two looks counts."""
        hyperband = self.definition.hyperband
        if hyperband is None:
            return False
        sign = -1 if self.definition.goal == "maximize" else 1
        histories = {
            trial.number: [sign * value for _, value in sorted(trial.intermediate_values.items())]
            for trial in self.queue.trials()
        }
        own = histories[lease.number]
        lengths = range(len(own) - new + 1, len(own) + 1)
        return any(hyperband.stops(own[:length], histories.values()) for length in lengths)

    def _scores(self, versions: list[Version] | None) -> dict[str, float]:
        """The scalars of the scores among what a run made."""
        return scalars(self._values(versions))

    def _values(self, versions: list[Version] | None) -> dict[str, Any]:
        scores: dict[str, Any] = {}
        for version in versions or ():
            if version.type == "scores":
                scores |= json.loads((self.store.folder(version) / "scores.json").read_text())
        return scores

    def _maker(self, versions: list[Version] | None) -> dict[str, Any]:
        run = self.store.maker(versions[0]) if versions else None
        return {"run": run.id, "variant": run.variant} if run else {}

    # -- words ---------------------------------------------------------------------------------------------------------

    def _headline(self) -> str:
        best = "highest" if self.definition.goal == "maximize" else "lowest"
        return f"sweep {self.definition.name}: {self.definition.method}, {best} {self.definition.metric}; {self.queue.path}"

    def _metric(self, metrics: Mapping[str, float]) -> str:
        value = metrics.get(self.definition.metric)
        return f"{self.definition.metric} {value:.4g}" if finite(value) else f"no {self.definition.metric} yet"

    def _line(self, lease: Lease, text: str) -> str:
        trials = self.queue.trials()
        seconds = f"{duration(trials[lease.number]):.1f} s"
        parts = (
            f"trial {lease.number}",
            format_point(lease.point),
            text,
            seconds,
            progress(trials, self._total(len(trials))),
        )
        return "  ".join(filter(None, parts))

    def _total(self, count: int) -> int:
        """How many trials there will be."""
        cap = self.definition.run_cap
        if self.definition.method == "grid":
            return min(count, cap or count)
        return cap if self.remaining is None and cap else count + (self.remaining or 0)

    def _result(self) -> str:
        """How many ended how, and the best one's command."""
        trials = self.queue.trials()
        counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        states = ", ".join(f"{count} {state.name.lower()}" for state, count in counts.items() if count)
        rest = counts[TrialState.WAITING] + counts[TrialState.RUNNING]
        lines = [f"{self.definition.name} is {'not finished' if rest else 'finished'}: {states or 'no trials'}"]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if complete:
            choose = max if self.definition.goal == "maximize" else min
            best = choose(complete, key=lambda trial: trial.values[0])
            lines.append(f"best: trial {best.number}  {self._metric(best.user_attrs['metrics'])}")
            lines.append(f"  python {shlex.join(best.user_attrs['command'])}")
            lines.append(f"all trials: python -m eval.sweep --sweep {self.definition.name}")
        if counts[TrialState.FAIL]:
            lines.append(
                f"failed trials are not repeated; to repeat them, move {self.queue.path} away (what was made is reused)"
            )
        return "\n".join(lines)


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if finite(value)}


def finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def format_point(point: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )


def duration(trial: FrozenTrial) -> float:
    """In seconds; 0 where the clock was set back meanwhile."""
    return max(trial.duration.total_seconds(), 0.0) if trial.duration else 0.0


def progress(trials: list[FrozenTrial], total: int) -> str:
    """How many of `total` have ended, and how long the others take if they take as long, shared by as many runners."""
    ends = [trial for trial in trials if trial.state.is_finished()]
    seconds = [duration(trial) for trial in ends if not trial.user_attrs.get("reused")]
    text = f"{len(ends)} of {total}"
    if not seconds or total <= len(ends):
        return text
    runners = 1 + sum(trial.state == TrialState.RUNNING for trial in trials)
    rest = (total - len(ends)) * sum(seconds) / len(seconds) / runners
    return f"{text}, about {f'{rest / 60:.0f} min' if rest >= 90 else f'{rest:.0f} s'} left"
