"""Brings to W&B what was made without it: runs with their records and artifacts, with the lineage that they have here.

Runs go in the order in which they were committed, which is an order of their lineage: what a run has read was committed
before. Each is sent by a process of its own (`python -m train.tracking.upload RUN`): first its record, by W&B's own sync,
then what it read and made. What is sent a second time changes nothing there, so that a publication that was killed is
simply repeated. Aliases are pointed last, when all that they name is there.
"""

import contextlib
import fcntl
import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.tracking import environment, remote, traces
from train.tracking.command import answer
from train.tracking.declarations import REGISTERED
from train.tracking.download import patience
from train.tracking.origin import Origin
from train.tracking.problem import Problem
from train.tracking.remote import OF_A_RUN
from train.tracking.store import Store
from train.tracking.store.records import Draft, Run, Version

NAME = "train.tracking.upload"
# A server that does not answer is given up after about a minute; wandb by itself would try for days.
PATIENCE = {
    "WANDB__GRAPHQL_RETRY_MAX": "4",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "4",
    "WANDB__GRAPHQL_TIMEOUT_SECONDS": "15",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "4",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "4",
    "WANDB__FILE_STREAM_RETRY_MAX": "4",
    "WANDB__FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "4",
    "WANDB__FILE_STREAM_TIMEOUT_SECONDS": "15",
}
# With the first a process shares its parent's client, which holds on to a run whose process was killed.
PRIVATE = ("WANDB_SERVICE", "WANDB_RUN_ID", *OF_A_RUN)


@dataclass(frozen=True)
class Upload:
    """A run and what it made that is still here. absent: those of its outputs that are not at the server; size: their
    bytes that the server has not seen."""

    run: Run
    outputs: tuple[Version, ...]
    absent: tuple[Version, ...] = ()
    size: int = 0

    @property
    def inputs(self) -> list[Version]:
        return [version for version in self.run.inputs.values() if version]

    @property
    def record(self) -> Path | None:
        """W&B's own record of the run: its curves and panels."""
        return traces.record(self.run.id)

    @property
    def lacks_record(self) -> bool:
        """Whether it is incomplete as long as that is out of reach."""
        return self.run.stage != "pull" and self.record is None

    @property
    def title(self) -> str:
        return f"{self.run.stage} {self.run.variant or ''} -> {', '.join(v.reference for v in self.outputs)}"


@dataclass
class Result:
    """What became of a publication. present: how many runs were there before. failures: with the reason of each.

    incomplete: whose artifacts are there, and whose record is out of reach. moves, failed_moves: of aliases at W&B.
    """

    successes: list[Upload]
    present: int
    failures: list[tuple[Upload, str]]
    incomplete: list[Upload] = field(default_factory=list)
    moves: int = 0
    failed_moves: int = 0


# -- what goes ---------------------------------------------------------------------------------------------------------


def uploads(store: Store, targets: Sequence[Version] | None = None) -> list[Upload]:
    """The runs that made what is here, or those that `targets` were made by and from, in the order to publish them."""
    rows = store.rows(
        "SELECT run, group_concat(version) AS versions FROM outputs JOIN runs ON runs.id = run"
        " WHERE version IS NOT NULL GROUP BY run ORDER BY runs.rowid"
    )
    outputs = {row["run"]: [int(version) for version in row["versions"].split(",")] for row in rows}
    versions = {version.id: version for version in store.versions()}
    runs = {run: store.run(run) for run in outputs}
    if targets is not None:
        lineage = set(ancestors(store, targets))
        outputs = {
            run: ids
            for run, ids in outputs.items()
            if lineage & set(ids) and all(source.id in lineage for source in runs[run].inputs.values() if source)
        }
    return [Upload(runs[run], tuple(versions[id_] for id_ in ids)) for run, ids in outputs.items()]


def ancestors(store: Store, versions: Iterable[Version]) -> Collection[int]:
    """Ids of the versions and of all that they were made from."""
    ids: set[int] = set()
    stack = list(versions)
    while stack:
        version = stack.pop()
        if version.id not in ids:
            ids.add(version.id)
            run = store.maker(version)
            stack += [source for source in (run.inputs.values() if run else ()) if source]
    return ids


def pending(
    store: Store, place: str, plan: Sequence[Upload], artifacts: Mapping[str, Mapping[str, Any]]
) -> list[Upload]:
    """Those that are not all at `place` already, each with its size. artifacts: as `remote_artifacts` returns them."""
    runs = {row["run"] for row in store.rows("SELECT run FROM published WHERE place = ?", [place])}
    ids = {row["version"] for row in store.rows("SELECT version FROM remotes WHERE place = ?", [place])}
    sizes: dict[str, int] = {}  # by MD5: content that several versions hold goes once
    rest = []
    for upload in plan:
        absent = tuple(v for v in upload.outputs if v.id not in ids or v.digest not in artifacts.get(v.name, {}))
        if absent or (upload.run.id not in runs and upload.run.stage != "pull"):
            new = {
                content.md5: content.size
                for version in absent
                if version.digest not in artifacts.get(version.name, {})
                for content in store.files(version).values()
                if content.md5 not in sizes
            }
            sizes |= new
            rest.append(Upload(upload.run, upload.outputs, absent, sum(new.values())))
    return rest


def remote_artifacts(api: Any, path: str, versions: Iterable[Version]) -> dict[str, dict[str, Any]]:
    """What W&B has of the artifacts that `versions` belong to: name -> digest -> its artifact. path: ENTITY/PROJECT."""
    wandb = remote.client()
    artifacts: dict[str, dict[str, Any]] = {}
    for name, kind in {version.name: version.type for version in versions}.items():
        with (
            remote.errors_as_problem(f"cannot look up {path}/{name} at W&B"),
            contextlib.suppress(ValueError, wandb.errors.CommError),
        ):
            # One of these where W&B has none of that name and type.
            artifacts[name] = {artifact.digest: artifact for artifact in api.artifacts(kind, f"{path}/{name}")}
    return artifacts


# -- sending -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A project at W&B. path: ENTITY/PROJECT."""

    api: Any
    path: str

    @classmethod
    def of_account(cls) -> "Project":
        """Where this machine's account publishes. Raises Problem where there is none, or it does not answer."""
        if not remote.online():
            raise Problem("publish needs a W&B account; run wandb login, and do not set WANDB_MODE=offline")
        os.environ.update({name: value for name, value in PATIENCE.items() if environment.variable(name) is None})
        remote.check_answers()
        with remote.errors_as_problem("W&B does not answer"):
            api = remote.client().Api(timeout=15)
            entity = remote.entity(api)
        return cls(api, f"{entity}/{remote.project_name()}")

    @property
    def place(self) -> str:
        """What the registry calls it."""
        entity, _, name = self.path.partition("/")
        return remote.place(entity, name)


def upload_all(
    store: Store,
    project: Project,
    plan: Sequence[Upload],
    progress: Callable[[Sequence[Upload]], Iterable[Upload]] = iter,
) -> Result:
    """Sends what is not there yet. What fails is in the result, with what depends on it, and the rest goes on.

    progress: wraps what is sent as it is sent.
    """
    outputs = [version for upload in plan for version in upload.outputs]
    artifacts = remote_artifacts(project.api, project.path, outputs)
    rest = pending(store, project.place, plan, artifacts)
    result = Result([], len(plan) - len(rest), [])
    absent: set[int] = set()  # ids of the versions that could not be sent
    reachable = True
    with upload_lock(store) as lock:
        for upload in progress(rest):
            obstacles = [version.reference for version in upload.inputs if version.id in absent]
            if not reachable:
                problem: str | None = "W&B does not answer any more"
            elif obstacles:
                problem = f"it was made from {', '.join(obstacles)}, which is not at W&B"
            elif upload.absent or not upload.lacks_record:
                problem = upload_in_subprocess(upload, lock)
            else:
                problem = None
            if problem is None:
                (result.incomplete if upload.lacks_record else result.successes).append(upload)
                continue
            result.failures.append((upload, problem))
            absent |= {version.id for version in upload.outputs}
            reachable = reachable and (bool(obstacles) or _answers())
        if reachable:
            artifacts = remote_artifacts(project.api, project.path, outputs) if rest else artifacts
            present = [version for version in outputs if version.id not in absent]
            result.moves, result.failed_moves = move_aliases(artifacts, present)
    return result


def _answers() -> bool:
    try:
        remote.check_answers()
    except Problem:
        return False
    return True


def upload_in_subprocess(upload: Upload, lock: int) -> str | None:
    """Has a process of its own send the run, and returns what went wrong. It holds the lock for as long as it lives."""
    limit = patience(upload.size)
    process = subprocess.Popen(
        [sys.executable, "-m", NAME, upload.run.id],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in PRIVATE},
        start_new_session=True,
        pass_fds=[lock],
    )
    try:
        _, errors = remote.while_it_answers(process.communicate, limit)
    except Problem as problem:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return str(problem)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"its process ended with exit code {process.returncode}"]
        return lines[-1].removeprefix(f"{NAME}: ")
    return None


def move_aliases(artifacts: Mapping[str, Mapping[str, Any]], versions: Iterable[Version]) -> tuple[int, int]:
    """Gives each version the aliases at W&B that it has here. Returns how many moved, and how many could not be moved.

    artifacts: as `remote_artifacts` returns them.
    """
    moves = failures = 0
    for version in {version.id: version for version in versions}.values():
        artifact = artifacts.get(version.name, {}).get(version.digest)
        new = set(version.aliases) - set(artifact.aliases if artifact is not None else ())
        if not new:
            continue
        try:
            if artifact is None:
                raise Problem(f"{version.reference} is no longer at W&B")
            with remote.errors_as_problem("W&B did not move an alias"):
                artifact.aliases = [*artifact.aliases, *sorted(new)]
                artifact.save()
            moves += len(new)
        except Problem:
            failures += len(new)
    return moves, failures


def link_all(store: Store, project: Project, versions: Iterable[Version], registry: str | None) -> list[str]:
    """Links the encoders among `versions` that are in the project to a registry of W&B's, each by its variant. Returns their
    references. Raises Problem where W&B refuses it."""
    references = []
    for version in {version.id: version for version in versions}.values():
        address = store.remotes(version).get(project.place)
        if registry is None or version.name != REGISTERED or address is None:
            continue
        origin = Origin.load(store.folder(version))
        with remote.errors_as_problem(f"cannot look up {address} at W&B"):
            artifact = remote.while_it_answers(functools.partial(project.api.artifact, address))
        remote.link(artifact, version.name, origin.alias, registry)
        references.append(version.reference)
    return references


@contextlib.contextmanager
def upload_lock(store: Store) -> Iterator[int]:
    """Held by a publication, and after its death by the process that still sends for it."""
    with (store.root / "publishing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another publish is running; waiting for it to end", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


# -- in the process that sends one run ---------------------------------------------------------------------------------


def upload_run(store: Store, name: str) -> None:
    """Sends one run: its record, then its artifacts. Raises Problem where W&B does not take it."""
    (upload,) = [upload for upload in uploads(store) if upload.run.id == name]
    project = Project.of_account()
    entity, _, project_name = project.path.partition("/")
    wandb = remote.client()
    record = upload.record
    if record:
        sync_record(record, project)
    with (
        remote.errors_as_problem("W&B did not accept the run"),
        tempfile.TemporaryDirectory(dir=store.scratch) as folder,  # this run's own record is no record of the stage
        wandb.init(
            entity=entity,
            project=project_name,
            id=name,
            resume="allow",
            name=f"{upload.run.stage.partition('.')[2]} {upload.run.variant or ''}".strip(),
            job_type=upload.run.stage,
            group=upload.run.variant,
            config={**upload.run.config, "revision": upload.run.revision} if record is None else None,
            mode="online",
            dir=folder,
            # It has the command and the machine of the stage, which those of this process would replace.
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, save_code=False, x_disable_meta=True, disable_git=True
            ),
        ) as run,
    ):
        for source in upload.inputs:
            run.use_artifact(remote_reference(store, project, source))
        references = {}
        for version in upload.outputs:
            draft = Draft(version.name, version.type, version.aliases, store.files(version))
            references[version.id] = remote.log_artifact(run, draft, store).qualified_name
    store.remember(project.place, references, name if record or upload.run.stage == "pull" else None)


def remote_reference(store: Store, project: Project, version: Version) -> str:
    """The reference of a version in the project. Raises Problem where it is not there."""
    reference = store.remotes(version).get(project.place)
    if reference is None:
        raise Problem(f"its input {version.reference} is not in {project.path}; publish that first")
    return reference


def sync_record(record: Path, project: Project) -> None:
    """Sends a run's record, by W&B's command in this process, which has imported most of it and has its client running.
    That command says nothing of a failure in its exit code; what it ends with does.

    Sent again, rows of its history have the steps that they had before.
    """
    from wandb.cli.cli import cli

    entity, _, name = project.path.partition("/")
    output = io.StringIO()
    command = ["sync", "--include-online", "--include-synced", "--entity", entity, "--project", name, str(record)]
    with (
        contextlib.redirect_stderr(output),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        cli.main(command, prog_name="wandb")
    text = output.getvalue()
    if "Finished syncing" not in text:
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        raise Problem(f"W&B did not accept its record: {last}; run the same command again")


def main(name: str) -> None:
    with contextlib.closing(Store()) as store, store.in_use():
        upload_run(store, name)


if __name__ == "__main__":
    answer(NAME, lambda: main(sys.argv[1]))
