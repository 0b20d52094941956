"""One stage, one tracked run: it fetches artifacts by alias, logs scalars and media, and publishes artifacts.

With a W&B API key configured (and WANDB_MODE not `offline`) inputs come from W&B and outputs go there; otherwise the
run is an offline W&B run and artifacts live in the local store. The stage's code is the same.
"""

import contextlib
import dataclasses
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from train.tracking import remote, threads
from train.tracking.declarations import (
    REGISTERED,
    check_aliases,
    check_registry,
    check_room,
    declaration,
    reference,
)
from train.tracking.origin import Origin, alias, digest_of, identity, revision, settings
from train.tracking.problem import Problem
from train.tracking.remote import online
from train.tracking.run import Recorder, leads
from train.tracking.store import Store
from train.tracking.store.records import Draft, Run, Version

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


MODELS = ("encoder", "generator")  # artifacts whose settings say what is measured


@dataclass(frozen=True)
class Input:
    """An artifact that a stage reads. folder: its files, which are not to be written to.

    request: NAME:ALIAS, as it was asked for; `version` is what that named.
    """

    request: str
    version: Version
    folder: Path
    origin: Origin

    @property
    def dataset(self) -> str:
        """The image set that it belongs to."""
        return str(self.origin.dataset)

    @property
    def alias(self) -> str:
        """The alias of its variant and seed: where the stages beside its own have published."""
        return self.origin.alias

    def check_made_from(self, source: "Input") -> None:
        """Raises Problem unless it was made from `source`, to the same digest."""
        name = source.version.name
        if f"{name}@{source.version.digest}" not in self.origin.inputs:
            raise Problem(
                f"{self.version.reference} was not made from {source.request}; give the {name} that it was made from,"
                f" or make it again with python -m {self.origin.stage}"
            )


class Stage(Recorder):
    """A context: what it published becomes visible, all at once, when the block ends without an error.

    job: the stage's module path, as in artifacts.yaml. What comes out belongs to the `variant`, `seed` and `dataset` that
    the stage introduces, or takes from an input by `about`, before its first log. Of several processes of one run the first
    alone tracks it and publishes; in the others nothing is logged.
    """

    def __init__(self, job: str, config: "DataclassInstance") -> None:
        super().__init__(job, config)
        self.inputs: dict[tuple[str, str], Version | None] = {}
        self._drafts: list[Draft] = []
        self._artifacts: list[Any] = []  # W&B's, one for each draft that was logged there
        self._models: dict[str, Mapping[str, Any]] = {}  # settings by digest
        self._registry: str | None = None
        self._holds = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.started = time.time()
        threads.fit()
        if leads() and online():
            remote.check_answers()  # before the work
        with contextlib.ExitStack() as holds:
            self.store = Store()
            holds.callback(self.store.close)
            holds.enter_context(self.store.in_use())
            self._scratch = self.store.scratch / self.id
            self._scratch.mkdir()
            self._mark = self.id
            self.id = holds.enter_context(self._run_id())
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
                self.finish(failed)
            if kind is None and self._drafts:
                self._commit()  # last: what is visible has a run whose record is whole
                self._link()
            if kind is None and self._silence is not None:
                raise Problem(
                    f"{self._silence}; what was made is kept on this machine, and python -m train.tracking publish sends it"
                ) from self._silence

    @contextlib.contextmanager
    def _run_id(self) -> Iterator[str]:
        """The id that W&B's agent has for its program's run, for the first stage of the program that makes something; for
        the others their own."""
        id_ = remote.agent_run()
        if id_ is None:
            yield self.id
            return
        path = self.store.scratch / f"run-{digest_of(id_)}"
        with path.open("a") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield self.id
                return
            taken = "SELECT id FROM runs WHERE id = ?"
            yield self.id if self.store.rows(taken, [id_]) else id_
            if self.store.rows(taken, [id_]):  # else who waits for its lock may take it
                path.unlink(missing_ok=True)

    # -- inputs --------------------------------------------------------------------------------------------------------

    def fetch(self, name: str, alias: str) -> Input:
        """The artifact that `alias` names (also `name:alias`, `name:vN`).

        Raises Problem where it is unknown, damaged, or not declared as an input of this stage.
        """
        artifact = self._fetch(name, alias, required=True)
        assert artifact is not None
        return artifact

    def fetch_if_made(self, name: str, alias: str) -> Input | None:
        """As `fetch`, None where no such artifact was made."""
        return self._fetch(name, alias, required=False)

    def _fetch(self, name: str, alias: str, required: bool) -> Input | None:
        entry = declaration(name)
        if self.job not in entry.consumers:
            raise ValueError(f"artifacts.yaml does not name {self.job} as a consumer of {name}")
        name, alias = reference(alias, name)
        cure = f"Run: python -m {' or '.join(entry.producers)}"
        if online():
            version = self._pull(name, alias, cure, required)
        else:
            version = self.store.get(name, alias, cure) if required else self.store.find(name, alias)
        self.inputs[name, alias] = version
        if version is None:
            return None
        folder = self.store.folder(version)
        source = Input(f"{name}:{alias}", version, folder, Origin.load(folder))
        self._note_models(source)
        return source

    def _note_models(self, source: Input) -> None:
        """Notes the settings of the models that an input is, or was made by, where they were trained here or are read."""
        if source.version.name in MODELS:
            self._models[source.version.digest] = source.origin.config
        for name, _, digest in (entry.partition("@") for entry in source.origin.inputs):
            version = self.store.with_digest(name, digest) if name in MODELS else None
            maker = version and self.store.maker(version)
            if maker and maker.stage != "pull":
                self._models[digest] = maker.config

    def _model(self) -> dict[str, Any]:
        first = next(iter(self._models.values()), None)  # a judge of samples comes behind what it judges
        return {"model": dict(first)} if first else {}

    def _pull(self, name: str, alias: str, cure: str, required: bool) -> Version | None:
        """Brings an artifact from W&B into the local store."""
        artifact = remote.find(name, alias)
        if artifact is None:
            if not required:
                return None
            if self.store.find(name, alias):
                cure = f"It is on this machine; to publish it, run: python -m train.tracking publish {name}:{alias}"
            raise Problem(f"no artifact '{remote.path(name, alias)}' at W&B. {cure}")
        mark = f"{self._mark}-{len(self._sources)}"
        version = remote.import_artifact(
            artifact, name, alias, self.store, self._scratch / f"pulled-{mark}", f"pull-{mark}"
        )
        self.use(artifact)
        return version

    def beside(self, source: Input, name: str) -> Path | None:
        """The folder of the artifact `name` that `source` was made from, for what is shown and not for what comes out: it is
        no input of this stage. None where it is not on this machine, or damaged."""
        digests = {entry.partition("@")[2] for entry in source.origin.inputs if entry.startswith(f"{name}@")}
        versions = [version for version in self.store.versions(name) if version.digest in digests]
        with contextlib.suppress(Problem):
            return self.store.folder(versions[0]) if versions else None
        return None

    def about(self, source: Input) -> None:
        """What comes out belongs to the data set, variant and seed of `source`."""
        origin = source.origin
        self.dataset, self.variant, self.seed = origin.dataset, origin.variant, origin.seed
        self._name_method()
        self.expect()

    def _name_method(self) -> None:
        """How the variant was made: what follows its data set, as `vicreg` in digits-vicreg-variance0."""
        rest = str(self.variant or "").removeprefix(f"{self.dataset}-")
        self.method = rest.partition("-")[0] if rest not in ("", self.variant) else None

    def introduce(self, dataset: str | None = None, variant: str | None = None, seed: int | None = None) -> None:
        """What comes out has a new name. Raises Problem where that can be no alias, or would leave no room in those that
        later stages make of it."""
        self.dataset = dataset or self.dataset
        if variant is not None:
            self.variant, self.seed = variant, seed
            self._name_method()
        check_room(self.job, self._names)
        self.expect()

    def resume(self, run: str) -> None:
        """Before the first log: the run `run` goes on, in which what this stage continues began. Not where W&B's agent has a
        run for it, or that one came to its end. Its rows are logged again first, in their order; those that W&B has are
        not sent twice."""
        ended = self.store.rows("SELECT id FROM runs WHERE id = ?", [run])
        if run and not ended and remote.agent_run() is None:
            self.id, self._resumes = run, True

    def expect(self, **fields: object) -> None:
        """Before the work: raises Problem where `publish` could not give an alias that is made of these fields, and of data
        set, variant and seed."""
        check_aliases(self.job, {**self._names, **fields})

    @property
    def _names(self) -> dict[str, object]:
        names = {"dataset": self.dataset, "variant": self.variant, "seed": self.seed}
        return {field: value for field, value in names.items() if value is not None}

    @property
    def alias(self) -> str:
        """The alias of this variant and seed."""
        return alias(str(self.variant), self.seed or 0)

    @property
    def key(self) -> str:
        """Hash of the stage, its resolved configuration and the digests of what was fetched so far."""
        digests = [[*request, version and version.digest] for request, version in sorted(self.inputs.items())]
        return digest_of([settings(self.job, self.config), digests])

    def made(self) -> bool:
        """Whether another process has just made what this one would, and says so. Not before all has been fetched."""
        versions = self.store.reuse(self.job, settings(self.job, self.config))
        for version in versions or ():
            print(f"{version.reference}  {', '.join(version.aliases)}  {version.digest}  (made by another process)")
        return versions is not None

    def register(self, registry: str | None) -> None:
        """Has the encoder that comes out linked to a registry of W&B's, None for none. Raises Problem where that is no name,
        or the run is offline."""
        if registry is not None:
            check_registry(registry)
            if not online():
                raise Problem(
                    f"--registry {registry} is at W&B, and this run is offline; leave it out, and later run:"
                    f" python -m train.tracking publish --registry {registry}"
                )
        self._registry = registry

    # -- outputs -------------------------------------------------------------------------------------------------------

    def publish(self, name: str, save: Callable[[Path], None], fields: Mapping[str, object] | None = None) -> None:
        """Publishes what `save(folder)` writes, when the stage ends, under the aliases that artifacts.yaml declares.

        fields: what fills the alias templates; the stage's variant and seed unless given.
        """
        entry = declaration(name)
        if self.job not in entry.producers:
            raise ValueError(f"artifacts.yaml does not name {self.job} as a producer of {name}")
        aliases = entry.aliases_for({"variant": self.variant, "seed": self.seed} if fields is None else fields)
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
        self._drafts.append(Draft(name, entry.type, tuple(aliases), self.store.take(folder)))

    def _upload(self) -> None:
        """Every stage that makes something has a run, online or not; an online one holds the artifacts."""
        if not self._drafts:
            return
        run = self.run
        if self._sends():
            try:
                for draft in self._drafts:
                    self._artifacts.append(remote.log_artifact(run, draft, self.store))
            except Problem as problem:
                self._silence = problem

    def _link(self) -> None:
        for draft, artifact in zip(self._drafts, self._artifacts, strict=False):
            if self._registry and draft.name == REGISTERED:
                remote.link(artifact, draft.name, self.alias, self._registry)

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
        before = {version.id for draft in self._drafts for version in self.store.versions(draft.name)}
        versions = self.store.commit(record, self._drafts)
        for version, artifact in zip(versions, self._artifacts, strict=False):  # none where the run is offline
            remote.remember(self.store, version, artifact, None if self._silence else self.id)
        if self.finding:
            print(self.finding)
        for version, draft in zip(versions, self._drafts, strict=True):
            state = "unchanged" if version.id in before else "new"
            print(f"{version.reference}  {', '.join(draft.aliases)}  {version.digest}  {state}")
        if online() and self._silence is None:
            print(self.run.url)
