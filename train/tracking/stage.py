"""One stage, one tracked run: it fetches artifacts by alias, logs scalars and media, and publishes artifacts.

With a W&B API key configured (and WANDB_MODE not `offline`) inputs come from W&B and outputs go there; otherwise the
run is an offline W&B run and artifacts live in the local store. The stage's code is the same.
"""

import contextlib
import dataclasses
import hashlib
import json
import netrc
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
from urllib.parse import urlsplit

from train.tracking.declarations import NUMBER, declaration, reference
from train.tracking.problem import Problem
from train.tracking.records import Draft, Run, Version
from train.tracking.store import Store, home

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
        fields = json.loads((folder / ORIGIN).read_text())
        return cls(**{**fields, "inputs": tuple(fields["inputs"])})

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


def online() -> bool:
    """Whether results go to W&B: an API key is configured and WANDB_MODE does not keep them here."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    settings = _wandb().setup().settings  # `Settings()` would not read the environment
    if settings.mode != "online":  # `wandb offline` was called here
        return False
    if settings.api_key or settings.identity_token_file:
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        keys = netrc.netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser())
        return keys.authenticators(urlsplit(settings.base_url).netloc) is not None
    return False


def destination() -> str:
    """Where results go, in a few words."""
    if online():
        entity = os.environ.get("WANDB_ENTITY")
        return (
            f"W&B project {entity + '/' if entity else ''}{project()}, images included (MODE=offline keeps them here)"
        )
    return f"this machine: {home()}"


def project() -> str:
    return os.environ.get("WANDB_PROJECT", "peel")


def _wandb() -> Any:
    """wandb, imported late (it takes a second), with its folders inside ours."""
    for variable, folder in {"WANDB_DIR": "", "WANDB_CACHE_DIR": "wandb/cache", "WANDB_DATA_DIR": "wandb/data"}.items():
        if variable not in os.environ:
            (home() / folder).mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(home() / folder)
    import wandb

    return wandb


def revision() -> str:
    """The commit of this code, `-dirty` when changed since; `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True)
        return answer.stdout.strip() or "unknown"
    return "unknown"


class Stage:
    """A context: what it published becomes visible, all at once, when the block ends without an error.

    job: the stage's module path, as in artifacts.yaml. `variant`, `seed` and `dataset` are inherited from the first
    input that has them; a stage that founds a variant sets them itself before its first log.
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
        self._remote: list[Any] = []
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
                if kind is None:
                    self._upload()
                    failed = False
            finally:
                if self._run is not None:
                    self._run.finish(exit_code=int(failed))
            if kind is None:
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
        wandb = _wandb()
        path = "/".join(filter(None, (os.environ.get("WANDB_ENTITY"), project(), f"{name}:{alias}")))
        try:
            artifact = wandb.Api().artifact(path)
        except (wandb.errors.CommError, ValueError) as error:
            if not needed and "not found" in str(error):
                return None
            raise Problem(f"no artifact '{path}' at W&B ({error}). {cure}") from error
        count = len(self._remote)
        folder = self._scratch / f"pulled-{count}"
        artifact.download(root=str(folder))
        own = alias == "latest" or NUMBER.fullmatch(alias)
        files = self.store.take(folder)
        draft = Draft(name, declaration(name).type, () if own else (alias,), files, latest=alias == "latest")
        if draft.digest != artifact.digest:
            raise Problem(
                f"{path} arrived with digest {draft.digest}, not {artifact.digest}; run the same command again"
            )
        pulled = Run(f"pull-{self.id}-{count}", "pull", None, "", {"path": path}, "", time.time())
        (version,) = self.store.commit(pulled, [draft])
        self._remote.append(artifact)
        if self._run is not None:
            self._run.use_artifact(artifact)
        return version

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
            wandb = _wandb()
            try:
                self._run = wandb.init(
                    project=project(),
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
        self.run.log(dict(values))
        self._tell(values)

    def _tell(self, values: Mapping[str, object]) -> None:
        """Adds a line of JSON to the file that PEEL_HISTORY names: for whoever started this run and watches it."""
        if path := os.environ.get("PEEL_HISTORY"):
            with Path(path).open("a") as file:
                file.write(json.dumps(values, default=float) + "\n")

    def axis(self, axis: str, *metrics: str) -> None:
        """Draws `metrics` (globs) over the logged value `axis`."""
        self.run.define_metric(axis, hidden=True)
        for metric in metrics:
            self.run.define_metric(metric, step_metric=axis)

    def panel(self, name: str, content: Any) -> None:
        """Logs a plotly figure, a picture (PIL) or a table (pandas; its cells may be PIL pictures) under `name`."""
        import pandas
        import PIL.Image
        import plotly.graph_objects

        wandb = _wandb()
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
            wandb = _wandb()
            for draft in self._drafts:
                artifact = wandb.Artifact(draft.name, draft.type)
                for path, content in draft.files.items():
                    artifact.add_file(
                        str(self.store.object(content.md5)), name=path, policy="immutable", skip_cache=True
                    )
                logged = run.log_artifact(artifact, aliases=[*draft.aliases, "latest"]).wait()
                if logged.digest != draft.digest:
                    raise Problem(
                        f"W&B stored {logged.name} with digest {logged.digest}, not {draft.digest}; run again"
                    )

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
        for version, draft in zip(self.store.commit(record, self._drafts), self._drafts, strict=True):
            print(f"{version.reference}  {', '.join(draft.aliases)}  {version.digest}")
