"""One runner of a sweep: claims trials, runs each to its end or until it is to be stopped, and says what came out."""

import json
import math
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from sweeps.program import Program
from sweeps.queue import BEAT, Claim, Study
from train.tracking import Command, Problem
from train.tracking.origin import settings
from train.tracking.store import Store
from train.tracking.store.records import Version


class TakenOver(Exception):
    """Another runner has the trial: this one had been silent for too long."""


@dataclass
class History:
    """What a run has logged: the metric by step, the last value of everything, and what it says of itself."""

    metric: str
    steps: dict[int, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def add(self, entries: list[dict[str, Any]]) -> dict[int, float]:
        """Returns the steps that are new."""
        new: dict[int, float] = {}
        for entry in entries:
            if "run" in entry:
                self.origin = entry
                continue
            self.last |= scalars(entry)
            if finite(entry.get(self.metric)):
                new[int(entry.get("epoch", len(self.steps) + len(new)))] = float(entry[self.metric])
        self.steps |= new
        return new


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. told: the same in words. value: the metric of a complete one."""

    state: TrialState
    told: str
    attributes: Mapping[str, Any]
    value: float | None = None


class Runner:
    def __init__(self, study: Study, store: Store, program: Command[Any]) -> None:
        self.study, self.store, self.program = study, store, program
        self.definition = study.definition
        self.failed = 0
        self.remaining: int | None = None  # how many trials it may still begin; None: all that there are

    def run(self, trials: int | None) -> int:
        """Runs trials until none is left, or so many; returns how many of its own failed.

        Where all others are in other runners' hands it waits: one of those may be killed.
        """
        waited = False
        self.remaining = trials
        cap = self.definition.run_cap if trials is None or self.definition.method == "grid" else None
        print(self._headline(), flush=True)
        while self.remaining is None or self.remaining > 0:
            claim = self.study.claim(cap)
            if claim is not None:
                self.remaining = None if self.remaining is None else self.remaining - 1
                self._trial(claim)
                continue
            others = self.study.counts()[TrialState.RUNNING]
            if not others:
                break
            if not waited:
                print(f"waiting for {others} that other runners have; Ctrl-C ends this one", flush=True)
            waited = True
            time.sleep(min(1.0, BEAT))
        print(self._result(), flush=True)
        return self.failed

    # -- one trial -----------------------------------------------------------------------------------------------------

    def _trial(self, claim: Claim) -> None:
        try:
            with tqdm(bar_format="{desc}", leave=False, disable=None) as status:
                status.set_description_str(f"trial {claim.number}  {spoken(claim.point)}")
                outcome = self._outcome(claim, status)
            known = self.study.finish(claim.number, outcome.state, outcome.value, outcome.attributes)
        except TakenOver:
            known = False
        except BaseException:
            self.study.give_back(claim.number)
            raise
        if known:
            self.failed += outcome.state == TrialState.FAIL
            print(self._line(claim, outcome.told), flush=True)
        else:
            print(f"trial {claim.number}  taken over by another runner, this one was silent too long", flush=True)

    def _outcome(self, claim: Claim, status: Any) -> Outcome:
        command = self.definition.arguments(claim.point)
        try:
            key = settings(self.definition.program, self.program.parse(self.definition.program_flags(claim.point)))
        except Problem as problem:  # what a search has drawn may not go together
            refused = {"command": command, "exit_code": 2, "reused": False, "metrics": {}, "run": None, "variant": None}
            return Outcome(TrialState.FAIL, f"failed: {problem}", refused)
        program, beat = Program(self.study.files / str(claim.number)), self._heart(claim)
        program.clear(waiting=beat)
        made = self.store.made(self.definition.program, key)
        history, maker = History(self.definition.metric), self._maker(made)
        left = history.add(program.new_entries())
        metrics = self._scores(made)
        if maker and history.origin.get("run") == maker["run"]:  # the run that an earlier runner left came to its end
            self.study.report(claim.number, left)
            metrics = history.last | metrics
        if finite(metrics.get(self.definition.metric)):
            found = {"command": command, "exit_code": None, "reused": True, "metrics": metrics, **maker}
            return self._complete(found, "reused")

        history = History(self.definition.metric)
        code, pruned = self._watch(claim, program, history, status, beat)
        made = None if code else self.store.made(self.definition.program, key)
        metrics = history.last | self._scores(made)
        about = {"run": history.origin.get("run"), "variant": history.origin.get("variant"), **self._maker(made)}
        attributes = {"command": command, "exit_code": code, "reused": False, "metrics": metrics, **about}
        if code and pruned:
            return Outcome(TrialState.PRUNED, f"{self._told(metrics)}, stopped early", attributes)
        if code:
            told = f"failed (exit code {code}): {program.last_line()}; {program.log}"
            return Outcome(TrialState.FAIL, told, attributes)
        if not finite(metrics.get(self.definition.metric)):
            told = f"failed: it gave no {self.definition.metric}; it gave: {', '.join(metrics) or 'nothing'}"
            return Outcome(TrialState.FAIL, told, attributes)
        return self._complete(attributes)

    def _complete(self, attributes: Mapping[str, Any], note: str = "") -> Outcome:
        told = ", ".join(filter(None, (self._told(attributes["metrics"]), note)))
        return Outcome(TrialState.COMPLETE, told, attributes, attributes["metrics"][self.definition.metric])

    def _heart(self, claim: Claim) -> Callable[[], None]:
        """Says now and then, where it is called often, that the trial is in good hands."""
        beaten = time.monotonic()

        def beat() -> None:
            nonlocal beaten
            if time.monotonic() - beaten > BEAT:
                beaten = time.monotonic()
                if not self.study.beat(claim.number):
                    raise TakenOver

        return beat

    def _watch(
        self, claim: Claim, program: Program, history: History, status: Any, beat: Callable[[], None]
    ) -> tuple[int, bool]:
        """Runs the program. Its exit code, and whether it was stopped early."""
        program.start(self.definition.command_line(claim.point), waiting=beat)
        try:
            code = None
            while code is None:
                code = program.ended()
                new = history.add(program.new_entries())
                if new:
                    self.study.report(claim.number, new)
                    status.set_description_str(
                        f"trial {claim.number}  {spoken(claim.point)}  step {max(new)}  {self._told(history.last)}"
                    )
                    if code is None and self._is_behind(claim, len(new)):
                        return program.stop(waiting=beat), True
                beat()
        except BaseException:
            program.stop(waiting=lambda: None)
            raise
        return code, False

    def _is_behind(self, claim: Claim, new: int) -> bool:
        """Whether it was to be stopped at one of its last `new` values: a band that has been passed between two looks counts."""
        hyperband = self.definition.hyperband
        if hyperband is None:
            return False
        sign = -1 if self.definition.goal == "maximize" else 1
        histories = {
            trial.number: [sign * value for _, value in sorted(trial.intermediate_values.items())]
            for trial in self.study.trials()
        }
        own = histories[claim.number]
        lengths = range(len(own) - new + 1, len(own) + 1)
        return any(hyperband.stops(own[:length], histories.values()) for length in lengths)

    def _scores(self, made: list[Version] | None) -> dict[str, float]:
        """The scalars of the scores among what a run made."""
        found: dict[str, float] = {}
        for version in made or ():
            if version.type == "scores":
                found |= scalars(json.loads((self.store.folder(version) / "scores.json").read_text()))
        return found

    def _maker(self, made: list[Version] | None) -> dict[str, Any]:
        run = self.store.maker(made[0]) if made else None
        return {"run": run.id, "variant": run.variant} if run else {}

    # -- words ---------------------------------------------------------------------------------------------------------

    def _headline(self) -> str:
        best = "highest" if self.definition.goal == "maximize" else "lowest"
        return f"sweep {self.definition.name}: {self.definition.method}, {best} {self.definition.metric}; {self.study.path}"

    def _told(self, metrics: Mapping[str, float]) -> str:
        value = metrics.get(self.definition.metric)
        return f"{self.definition.metric} {value:.4g}" if finite(value) else f"no {self.definition.metric} yet"

    def _line(self, claim: Claim, why: str) -> str:
        trials = self.study.trials()
        seconds = f"{duration(trials[claim.number]):.1f} s"
        parts = (f"trial {claim.number}", spoken(claim.point), why, seconds, progress(trials, self._total(len(trials))))
        return "  ".join(filter(None, parts))

    def _total(self, known: int) -> int:
        """How many trials there will be."""
        cap = self.definition.run_cap
        if self.definition.method == "grid":
            return min(known, cap or known)
        return cap if self.remaining is None and cap else known + (self.remaining or 0)

    def _result(self) -> str:
        """How many ended how, and the best one's command."""
        trials = self.study.trials()
        counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        told = ", ".join(f"{count} {state.name.lower()}" for state, count in counts.items() if count)
        left = counts[TrialState.WAITING] + counts[TrialState.RUNNING]
        lines = [f"{self.definition.name} is {'not finished' if left else 'finished'}: {told or 'no trials'}"]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if complete:
            choose = max if self.definition.goal == "maximize" else min
            best = choose(complete, key=lambda trial: trial.values[0])
            lines.append(f"best: trial {best.number}  {self._told(best.user_attrs['metrics'])}")
            lines.append(f"  python {shlex.join(best.user_attrs['command'])}")
            lines.append(f"all of them: python -m eval.sweep --sweep {self.definition.name}")
        if counts[TrialState.FAIL]:
            lines.append(f"what failed stays so; move {self.study.path} away to try again, what was made is reused")
        return "\n".join(lines)


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if finite(value)}


def finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def spoken(point: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )


def duration(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0


def progress(trials: list[FrozenTrial], total: int) -> str:
    """How many of `total` have ended, and how long the others take if they take as long, shared by as many runners."""
    ended = [trial for trial in trials if trial.state.is_finished()]
    seconds = [duration(trial) for trial in ended if not trial.user_attrs.get("reused")]
    told = f"{len(ended)} of {total}"
    if not seconds or total <= len(ended):
        return told
    runners = 1 + sum(trial.state == TrialState.RUNNING for trial in trials)
    left = (total - len(ended)) * sum(seconds) / len(seconds) / runners
    return f"{told}, about {f'{left / 60:.0f} min' if left >= 90 else f'{left:.0f} s'} left"
