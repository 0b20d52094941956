"""One stage, one tracked run: it fetches artifacts by alias, logs scalars and media, and publishes artifacts.

With a W&B API key configured (and WANDB_MODE not `offline`) inputs come from W&B and outputs go there; otherwise the
run is an offline W&B run and artifacts live in the local store. The stage's code is the same.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import string
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self, get_origin, get_type_hints

from train.tracking import remote
from train.tracking.declarations import NUMBER, check_name, declaration, reference
from train.tracking.problem import Problem
from train.tracking.remote import online
from train.tracking.store import Store
from train.tracking.store.records import Draft, Run, Version

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ORIGIN = "origin.json"


class _Machine:
    """Marks a configuration field that says how a machine works and not what comes out: no part of an identity."""


MACHINE = _Machine()


@dataclasses.dataclass(frozen=True)
class Origin:
    """The file in every artifact that says what it is. Later stages inherit data set, variant and seed from it.

    inputs: `name@digest` of each artifact that it was made from.
    """

    stage: str
    dataset: str | None
    variant: str | None
    seed: int | None
    config: Mapping[str, Any]
    inputs: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Problem where it is no origin: aliases, and so commands, are made of it, wherever it comes from."""
        try:
            fields = json.loads((folder / ORIGIN).read_text())
            origin = cls(**{**fields, "inputs": tuple(map(str, fields["inputs"])), "config": dict(fields["config"])})
            for name in (origin.dataset, origin.variant):
                if name is not None:
                    check_name(name, "name in an origin")
            if origin.seed is not None and (type(origin.seed) is not int or origin.seed < 0):
                raise TypeError(f"seed {origin.seed!r}")
        except (OSError, ValueError, TypeError, KeyError, Problem) as error:
            raise Problem(f"{folder.name}/{ORIGIN} says not what this is ({error}); fetch or make it anew") from error
        return origin

    def save(self, folder: Path) -> None:
        (folder / ORIGIN).write_text(json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True))


def identity(config: "DataclassInstance") -> dict[str, Any]:
    """The fields of a configuration that decide what comes out."""
    hints = get_type_hints(type(config), include_extras=True)
    machine = {name for name, hint in hints.items() if get_origin(hint) is Annotated and MACHINE in hint.__metadata__}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in machine}


def settings(job: str, config: "DataclassInstance") -> str:
    """Hash of a stage and its resolved configuration. A configuration that names files outside the store has a
    method `fingerprint()` that changes when they do."""
    fingerprint = config.fingerprint() if hasattr(config, "fingerprint") else None
    return digest_of([job, identity(config), fingerprint])


def digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def revision() -> str:
    """The commit of this code, `-dirty` when changed since; `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True)
        return answer.stdout.strip() or "unknown"
    return "unknown"


def leads() -> bool:
    """Whether this process is the one that tracks and publishes: of those that torchrun starts, the first. A RANK without
    a WORLD_SIZE is a scheduler's, of processes that know nothing of each other."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Stage:
    """A context: what it published becomes visible, all at once, when the block ends without an error.

    job: the stage's module path, as in artifacts.yaml. `variant`, `seed` and `dataset` are inherited from the first
    input that has them; a stage that founds a variant sets them itself before its first log. Of several processes of one
    run the first alone tracks it and publishes; in the others nothing is logged.
    """

    def __init__(self, job: str, config: "DataclassInstance") -> None:
        self.job = job
        self.config = config
        self.dataset: str | None = None
        self.variant: str | None = None
        self.seed: int | None = None
        self.id = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
        self.inputs: dict[tuple[str, str], Version | None] = {}
        self._origins: dict[str, Origin] = {}
        self._drafts: list[Draft] = []
        self._remote: list[Any] = []  # W&B's artifacts: what was pulled
        self._logged: list[Any] = []  # and what was logged
        self._run: Any = None
        self._holds = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.started = time.time()
        with contextlib.ExitStack() as holds:
            self.store = Store()
            holds.callback(self.store.close)
            holds.enter_context(self.store.in_use())
            self._scratch = self.store.scratch / self.id
            self._scratch.mkdir()
            holds.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            self._holds = holds.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._holds:
            failed = True
            try:
                if kind is None and leads():
                    self._upload()
                    failed = False
            finally:
                if self._run is not None:
                    self._run.finish(exit_code=int(failed))
            if kind is None and leads():
                self._commit()  # last: what is visible has a run whose record is whole

    # -- inputs --------------------------------------------------------------------------------------------------------

    def fetch(self, name: str, alias: str) -> Path:
        """The folder of the artifact that `alias` names (also `name:alias`, `name:vN`). Do not write to it.

        Raises Problem where it is unknown, damaged, or not declared as an input of this stage.
        """
        folder = self._fetch(name, alias, needed=True)
        assert folder is not None
        return folder

    def fetch_if_made(self, name: str, alias: str) -> Path | None:
        """As `fetch`, None where no such artifact was made."""
        return self._fetch(name, alias, needed=False)

    def _fetch(self, name: str, alias: str, needed: bool) -> Path | None:
        declared = declaration(name)
        if self.job not in declared.consumers:
            raise ValueError(f"artifacts.yaml does not name {self.job} as a consumer of {name}")
        name, alias = reference(alias, name)
        cure = f"Run: python -m {' or '.join(declared.producers)}"
        if online():
            version = self._pull(name, alias, cure, needed)
        else:
            version = self.store.get(name, alias, cure) if needed else self.store.find(name, alias)
        self.inputs.pop((name, alias), None)  # so that the last entry is what was fetched last
        self.inputs[name, alias] = version
        if version is None:
            return None
        folder = self.store.folder(version)
        origin = Origin.load(folder)
        self._origins[name] = origin
        for field in ("dataset", "variant", "seed"):
            if getattr(self, field) is None:
                setattr(self, field, getattr(origin, field))
        return folder

    def _pull(self, name: str, alias: str, cure: str, needed: bool) -> Version | None:
        """Brings an artifact from W&B into the local store."""
        artifact = remote.find(name, alias)
        if artifact is None:
            if not needed:
                return None
            if self.store.find(name, alias):
                cure = f"It was made here; to bring it there: python -m train.tracking publish {name}:{alias}"
            raise Problem(f"no artifact '{remote.path(name, alias)}' at W&B. {cure}")
        count = len(self._remote)
        own = alias == "latest" or NUMBER.fullmatch(alias)
        files = self.store.sound(name, artifact.digest)
        if files is None:  # not here, or damaged
            folder = self._scratch / f"pulled-{count}"
            remote.download(artifact, folder)
            files = self.store.take(folder)
        draft = Draft(name, declaration(name).type, () if own else (alias,), files, latest=alias == "latest")
        if draft.digest != artifact.digest:
            raise Problem(
                f"{artifact.qualified_name} arrived with digest {draft.digest}, not {artifact.digest};"
                " run the same command again"
            )
        config = {"path": artifact.qualified_name}
        pulled = Run(f"pull-{self.id}-{count}", "pull", None, "", config, "", time.time())
        (version,) = self.store.commit(pulled, [draft])
        self._remember(version, artifact)
        self._remote.append(artifact)
        if self._run is not None:
            self._run.use_artifact(artifact)
        return version

    def _remember(self, version: Version, artifact: Any, run: str | None = None) -> None:
        where = remote.place(artifact.entity, artifact.project)
        self.store.remember(where, {version.id: artifact.qualified_name}, run)

    @property
    def alias(self) -> str:
        """The alias of this variant and seed: where the stages beside this one have published."""
        return f"{self.variant}-s{self.seed}" if self.seed else str(self.variant)

    def check_made_from(self, name: str, source: str) -> None:
        """Raises Problem unless the `name` fetched last was made from the `source` fetched last, to the same digest."""
        made, _ = self._last(name)
        given, alias = self._last(source)
        origin = self._origins[name]
        if f"{source}@{given.digest}" not in origin.inputs:
            raise Problem(
                f"{made.reference} was not made from {source}:{alias}; remake it with python -m {origin.stage}, or name its own {source}"
            )

    def _last(self, name: str) -> tuple[Version, str]:
        """The version of `name` that was fetched last, and the alias that it was asked by."""
        fetched = ((version, alias) for (known, alias), version in reversed(self.inputs.items()) if known == name)
        return next((version, alias) for version, alias in fetched if version)

    @property
    def key(self) -> str:
        """Hash of the stage, its resolved configuration and the digests of what was fetched so far."""
        digests = [[*asked, version and version.digest] for asked, version in sorted(self.inputs.items())]
        return digest_of([settings(self.job, self.config), digests])

    # -- the W&B run ---------------------------------------------------------------------------------------------------

    @property
    def run(self) -> Any:
        """The `wandb` run, started when it is first needed: bad input leaves none behind."""
        if self._run is None:
            wandb = remote.client()
            try:
                self._run = wandb.init(
                    project=remote.project(),
                    id=self.id,
                    name=f"{self.job.partition('.')[2]} {self.variant or self.dataset or ''}".strip(),
                    job_type=self.job,
                    group=self.variant or self.dataset,
                    config={**dataclasses.asdict(self.config), "revision": revision()},
                    mode="online" if online() else "offline",
                    dir=os.environ["WANDB_DIR"],  # wandb itself reads this once a process
                    settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False),
                )
            except wandb.errors.Error as error:
                raise Problem(f"W&B refused the run: {error}; WANDB_MODE=offline keeps results here") from error
            self.id = self._run.id  # in a sweep W&B has chosen another
            for artifact in self._remote:
                self._run.use_artifact(artifact)
            self._tell({"run": self.id, "variant": self.variant, "seed": self.seed})
        return self._run

    def log(self, values: Mapping[str, float]) -> None:
        if leads():
            self.run.log(dict(values))
            self._tell(values)

    def _tell(self, values: Mapping[str, object]) -> None:
        """Adds a line of JSON to the file that PEEL_HISTORY names: for whoever started this run and watches it."""
        if path := os.environ.get("PEEL_HISTORY"):
            with Path(path).open("a") as file:
                file.write(json.dumps(values, default=float) + "\n")

    def axis(self, axis: str, *metrics: str) -> None:
        """Draws `metrics` (globs) over the logged value `axis`."""
        if leads():
            self.run.define_metric(axis, hidden=True)
            for metric in metrics:
                self.run.define_metric(metric, step_metric=axis)

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
            rows = [
                [wandb.Image(cell) if isinstance(cell, PIL.Image.Image) else cell for cell in row]
                for row in content.to_numpy(object).tolist()
            ]
            media = wandb.Table(columns=[str(column) for column in content.columns], data=rows)
        else:
            raise TypeError(
                f"no panel for a {type(content).__name__}: give a plotly Figure, a PIL Image or a DataFrame"
            )
        self.run.log({name: media})

    # -- outputs -------------------------------------------------------------------------------------------------------

    def publish(self, name: str, save: Callable[[Path], None], fields: Mapping[str, object] | None = None) -> None:
        """Publishes what `save(folder)` writes, when the stage ends, under the aliases that artifacts.yaml declares.

        fields: what fills the alias templates; the stage's variant and seed unless given.
        """
        declared = declaration(name)
        if self.job not in declared.producers:
            raise ValueError(f"artifacts.yaml does not name {self.job} as a producer of {name}")
        aliases = declared.aliases_for({"variant": self.variant, "seed": self.seed} if fields is None else fields)
        folder = self._scratch / name
        folder.mkdir()
        save(folder)
        origin = Origin(
            self.job,
            self.dataset,
            self.variant,
            self.seed,
            identity(self.config),
            tuple(sorted({f"{version.name}@{version.digest}" for version in self.inputs.values() if version})),
        )
        origin.save(folder)
        self._drafts.append(Draft(name, declared.type, tuple(aliases), self.store.take(folder)))

    def _upload(self) -> None:
        """Every stage has a run, online or not; an online one holds the artifacts."""
        run = self.run
        if online():
            self._logged = [remote.upload(run, draft, self.store) for draft in self._drafts]

    def _commit(self) -> None:
        record = Run(
            self.id,
            self.job,
            self.variant or self.dataset,
            settings(self.job, self.config),
            dataclasses.asdict(self.config),
            revision(),
            self.started,
            time.time() - self.started,
            self.inputs,
        )
        versions = self.store.commit(record, self._drafts)
        for version, artifact in zip(versions, self._logged, strict=False):  # none where the run is offline
            self._remember(version, artifact, self.id)
        for version, draft in zip(versions, self._drafts, strict=True):
            print(f"{version.reference}  {', '.join(draft.aliases)}  {version.digest}")
