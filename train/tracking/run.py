"""The W&B run of a stage: scalars, panels, and the axes that they are drawn over.

The half of a Stage that logs. It touches no store; what it logs goes to W&B, or to an offline record (traces.py says where).
"""

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import string
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.tracking import environment, remote, summary, traces
from train.tracking.declarations import FILE, declaration
from train.tracking.origin import patch, revision
from train.tracking.problem import Incident, Problem, one_line
from train.tracking.remote import online
from train.tracking.traces import is_whole

if TYPE_CHECKING:
    import pandas
    from _typeshed import DataclassInstance

RECORD_SECONDS = 30  # W&B's client may still write when it has finished a run
LONGEST_TAG = 64  # characters, at W&B
PATCH = "diff.patch"  # W&B's own name for uncommitted changes


def leads() -> bool:
    """Whether this process is the one that tracks and publishes: of those that torchrun starts, the first."""
    return environment.rank().number == 0


def new_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


class Recorder:
    """Logs to one run, which an account has at W&B, and which is an offline record without one.

    job: the stage's module path. `variant`, `seed`, `dataset` and `method` say what the run is about, before its first log.
    finding: what came out, in one sentence, by the time that the stage ends: the run's notes. Of several processes of one
    run the first alone logs.
    """

    def __init__(self, job: str, config: "DataclassInstance") -> None:
        self.job = job
        self.config = config
        self.dataset: str | None = None
        self.variant: str | None = None
        self.seed: int | None = None
        self.method: str | None = None
        self.finding = ""
        self.id = new_id()
        self._run: Any = None
        self._sources: list[Any] = []  # W&B's artifacts that were pulled
        self._resumes = False
        self._past = 0  # rows of the history that a resumed run has, and that come again first
        self._panels: set[str] = set()
        self._silence: Problem | None = None  # of W&B's server, since it answers no more: the rest is kept here

    @property
    def run(self) -> Any:
        """The `wandb` run, started when it is first needed: bad input leaves none behind."""
        if self._run is None:
            wandb = remote.client()
            try:
                self._run = self._start(wandb)
            except wandb.errors.Error as error:
                raise Problem(
                    f"W&B refused the run: {one_line(error)}; set WANDB_MODE=offline to keep the results on this machine"
                ) from error
            self._past = self._run.starting_step if self._resumes else 0
            traces.link(Path(self._run.dir).parent)
            self._save_patch()
            for artifact in self._sources if self._silence is None else ():
                self._run.use_artifact(artifact)
            self._report({"run": self.id, "variant": self.variant, "seed": self.seed})
        return self._run

    def _start(self, wandb: Any) -> Any:
        """The run of this id. Another one where a client that several processes share still has a run of that id, whose process
        was killed."""
        try:
            return self._init(wandb)
        except Exception as error:  # the client's own, and of no public class
            if not (self._resumes and "in use" in str(error)):
                raise
            self.id, self._resumes = new_id(), False
            return self._init(wandb)

    def _init(self, wandb: Any) -> Any:
        sends, settings = self._sends(), wandb.setup().settings
        settings.run_id = self.id  # in a sweep the client takes that alone
        for name, setting in remote.OF_A_RUN.items():
            setattr(settings, setting, environment.variable(name) if self.id == remote.agent_run() else None)
        return wandb.init(
            project=remote.project_name(),
            id=self.id,
            name=f"{self.job.partition('.')[2]} {self.variant or self.dataset or ''}".strip(),
            job_type=self.job,
            group=self.variant or self.dataset,
            tags=self._tags(),
            config=self._config(),
            mode="online" if sends else "offline",
            resume="allow" if self._resumes and sends else None,
            dir=os.environ["WANDB_DIR"],  # wandb itself reads this once a process
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_transaction_log_flush_interval=remote.RECORD,
                x_disable_stats=self.job not in declaration("training").producers,
                save_code=False,
                program=f"-m {self.job}",  # in a process of a driver it would say the driver's
                **_checkout(),
            ),
        )

    def _about(self) -> dict[str, Any]:
        """What the run is about, by the names that runs are grouped by."""
        study = getattr(self.config, "study", None) or environment.variable("PEEL_STUDY")
        about = {"dataset": self.dataset, "variant": self.variant, "method": self.method, "seed": self.seed}
        return {name: value for name, value in {**about, "study": study}.items() if value is not None}

    def _tags(self) -> list[str]:
        about = self._about()
        words = [str(about[name]) for name in ("method", "dataset", "study") if name in about]
        return [word[:LONGEST_TAG] for word in [*words, *([f"seed {self.seed}"] if self.seed is not None else [])]]

    def _config(self) -> dict[str, Any]:
        """The flags, and what the run is about: the settings of the encoder or generator are `model`. A flag that has one of
        these names and another meaning, as the seed of a bootstrap, is called flag/NAME."""
        flags, about = dataclasses.asdict(self.config), {**self._about(), **self._model()}
        others = {f"flag/{name}": flags[name] for name in about if name in flags and flags[name] != about[name]}
        return {**flags, **about, **others, "revision": revision()}

    def _model(self) -> dict[str, Any]:
        """The settings of what the run measures, where that is one model."""
        return {}

    def _save_patch(self) -> None:
        """Adds what is changed in this code and not committed. W&B's client would look for that where its records are."""
        if changes := patch():
            path = Path(self._run.dir) / PATCH
            path.write_bytes(changes)
            self._run.save(str(path), base_path=self._run.dir, policy="now")

    def _sends(self) -> bool:
        """Whether what is logged goes to W&B, whose server has answered up to now."""
        if online() and self._silence is None:
            try:
                remote.check_answers()
            except Problem as problem:
                self._silence = problem
        return online() and self._silence is None

    def use(self, artifact: Any) -> None:
        """Records at W&B that the run has read an artifact from there."""
        self._sources.append(artifact)
        if self._run is not None:
            self._run.use_artifact(artifact)

    def finish(self, failed: bool) -> None:
        """Ends the run where one was started. Raises Problem where one that has not failed left no whole record."""
        if self._run is not None:
            record = None if failed or online() else Path(self._run.dir).parent / f"run-{self._run.id}.wandb"
            with contextlib.suppress(*([Problem] if failed else [])), _logging():  # what failed first is told
                if self.finding and not failed:
                    self._run.notes = self.finding
                self._finish(failed)
            end = time.monotonic() + RECORD_SECONDS
            while record is not None and not is_whole(record):
                if time.monotonic() > end:
                    raise Incident(f"{record} has not all that was logged; free some space and run again")
                time.sleep(0.05)

    def _finish(self, failed: bool) -> None:
        if self._run.settings.mode != "online":
            self._run.finish(exit_code=int(failed))
            return
        try:
            remote.finish(self._run, failed, answers=self._silence is None)
        except Problem as problem:
            self._silence = problem

    def log(self, values: Mapping[str, float]) -> None:
        if leads():
            self._row(dict(values))
            self._report(values)

    def _row(self, values: dict[str, Any]) -> None:
        """Adds a row to the history, unless that has it from before the run was resumed."""
        run = self.run
        if self._past:
            self._past -= 1
            return
        with _logging():
            run.log(values)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Puts numbers and texts into the run's summary: an interval as NAME/low and NAME/high, what a panel has the name of
        as NAME/value, and lists into tables beside it."""
        for name, table in summary.tables(values).items():
            self.panel(name, table)
        run = self.run
        with _logging():
            run.summary.update(summary.scalars(values, self._panels))

    def _report(self, values: Mapping[str, object]) -> None:
        """Adds a line of JSON to the file that PEEL_HISTORY names: for whoever started this run and watches it."""
        if path := environment.variable("PEEL_HISTORY"):
            with Path(path).open("a") as file:
                file.write(json.dumps(values, default=float) + "\n")

    def axis(self, axis: str, *metrics: str, summary: str | None = None) -> None:
        """Draws `metrics` (globs) over the logged value `axis`. summary: what the run's summary has of them, the last value
        unless it is `none`. A place on an axis is no result, and stands in none."""
        if leads():
            run = self.run
            with _logging():
                run.define_metric(axis, hidden=True, summary="none")
                for metric in metrics:
                    run.define_metric(metric, step_metric=axis, summary=summary)

    def panel(self, name: str, content: Any) -> None:
        """Logs a plotly figure, a picture (PIL) or a table (pandas; its cells may be PIL pictures) under `name`."""
        import pandas
        import PIL.Image
        import plotly.graph_objects

        wandb = remote.client()
        media: Any
        if isinstance(content, plotly.graph_objects.Figure):
            media = wandb.Plotly(content)
        elif isinstance(content, PIL.Image.Image):
            media = wandb.Image(content)
        elif isinstance(content, pandas.DataFrame):
            columns = [_cells(content.iloc[:, place].tolist()) for place in range(content.shape[1])]
            rows = [
                [wandb.Image(cell) if isinstance(cell, PIL.Image.Image) else cell for cell in row]
                for row in zip(*columns, strict=True)
            ]
            media = wandb.Table(columns=_apart([str(column) for column in content.columns]), data=rows)
        else:
            raise TypeError(
                f"no panel for a {type(content).__name__}: give a plotly Figure, a PIL Image or a DataFrame"
            )
        self._panels.add(name)
        self._row({name: media})

    def lines(self, name: str, points: "pandas.DataFrame", title: str) -> None:
        """Logs a line through `points`, whose columns are its axes; W&B lays those of several runs over one another."""
        wandb = remote.client()
        x, y = points.columns
        table = wandb.Table(columns=[x, y], data=points.to_numpy(float).tolist())
        self._panels.add(name)
        self._row({name: wandb.plot.line(table, x, y, title=title)})


def _checkout() -> dict[str, Any]:
    """Where the client finds the commit: that of this code, wherever it runs."""
    root = FILE.parent
    return {"git_root": str(root)} if (root / ".git").exists() else {"disable_git": True}


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """W&B's client is a process of its own, which may be killed, or end with the driver that started it: then a Problem."""
    try:
        with remote.errors_as_problem("W&B's client takes this run's record no more"):
            yield
    except Problem:
        sys.unraisablehook = lambda error: None  # its farewell, when the interpreter ends, is a traceback of its own
        raise


def _cells(column: Sequence[Any]) -> list[Any]:
    """The cells of a column as W&B takes them: of one kind, or nothing. Where they are of several, each is a text."""
    import pandas
    import PIL.Image

    cells, kinds = [], set()
    for cell in column:
        cell = cell.item() if hasattr(cell, "dtype") and cell.ndim == 0 else cell
        if pandas.api.types.is_scalar(cell) and pandas.isna(cell):
            cell = None
        elif isinstance(cell, bytes):
            cell = cell.decode(errors="replace")
        elif not isinstance(cell, bool | int | float | str | PIL.Image.Image):
            cell = str(cell)
        cells.append(cell)
        kinds.add("picture" if isinstance(cell, PIL.Image.Image) else float if type(cell) is int else type(cell))
    several = len(kinds - {type(None)}) > 1
    return [str(cell) if several and cell is not None else cell for cell in cells]


def _apart(names: Sequence[str]) -> list[str]:
    """Names of columns, each once: of two that are alike W&B would show one."""
    unique: list[str] = []
    for name in names:
        places = (f"{name} ({place})" for place in itertools.count(2))
        unique.append(name if name not in unique else next(other for other in places if other not in unique))
    return unique
