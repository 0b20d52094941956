"""Brings to W&B what was made without it: runs with their records and artifacts, with the lineage that they have here.

Runs go in the order in which they were committed, which is an order of their lineage: what a run has read was committed
before. Each is sent by a process of its own (`python -m train.tracking.upload RUN`): first its record, by W&B's own sync,
then what it read and made. What is sent a second time changes nothing there, so that a publication that was killed is
simply repeated. Aliases are pointed last, when all that they name is there.
"""

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.tracking import remote
from train.tracking.command import answer
from train.tracking.problem import Problem
from train.tracking.store import Store, home
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
SERVICE = (
    "WANDB_SERVICE"  # with it a process shares its parent's client, which holds on to a run whose process was killed
)
SECONDS = 120  # for a run, besides its bytes
BYTES_A_SECOND = 50_000  # slower than that, a connection counts as lost


@dataclass(frozen=True)
class Parcel:
    """A run and what it made that is still here. size: bytes of its artifacts that the server has not seen."""

    run: Run
    outputs: tuple[Version, ...]
    size: int = 0

    @property
    def inputs(self) -> list[Version]:
        return [version for version in self.run.inputs.values() if version]

    @property
    def record(self) -> Path | None:
        """W&B's own record of the run: its curves and panels."""
        return next((home() / "wandb").glob(f"offline-run-*-{self.run.id}"), None)

    @property
    def title(self) -> str:
        return f"{self.run.stage} {self.run.variant or ''} -> {', '.join(v.reference for v in self.outputs)}"


@dataclass
class Told:
    """What became of a publication. failed: what could not be sent, and why."""

    published: list[Parcel]
    present: int
    failed: list[tuple[Parcel, str]]
    moved: int = 0
    unpointed: int = 0


# -- what goes ---------------------------------------------------------------------------------------------------------


def parcels(store: Store, wanted: Sequence[Version] | None = None) -> list[Parcel]:
    """The runs that made what is here, or those that `wanted` was made by and from, in the order to publish them."""
    rows = store.rows(
        "SELECT run, group_concat(version) AS versions FROM outputs JOIN runs ON runs.id = run"
        " WHERE version IS NOT NULL GROUP BY run ORDER BY runs.rowid"
    )
    every = {row["run"]: [int(version) for version in row["versions"].split(",")] for row in rows}
    made = {version.id: version for version in store.versions()}
    runs = {run: store.run(run) for run in every}
    if wanted is not None:
        kept = set(ancestors(store, wanted))
        every = {
            run: versions
            for run, versions in every.items()
            if kept & set(versions) and all(source.id in kept for source in runs[run].inputs.values() if source)
        }
    return [Parcel(runs[run], tuple(made[version] for version in versions)) for run, versions in every.items()]


def ancestors(store: Store, versions: Iterable[Version]) -> Collection[int]:
    """Ids of the versions and of all that they were made from."""
    found: dict[int, Version] = {}
    waiting = list(versions)
    while waiting:
        version = waiting.pop()
        if version.id not in found:
            found[version.id] = version
            run = store.maker(version)
            waiting += [source for source in (run.inputs.values() if run else ()) if source]
    return found


def missing(
    store: Store, place: str, planned: Sequence[Parcel], there: Mapping[str, Mapping[str, Any]]
) -> list[Parcel]:
    """Those that are not all at `place` already, each with its size. there: as `standing` says."""
    sent = {row["run"] for row in store.rows("SELECT run FROM published WHERE place = ?", [place])}
    remembered = {row["version"] for row in store.rows("SELECT version FROM remotes WHERE place = ?", [place])}
    counted: set[str] = set()
    left = []
    for parcel in planned:
        absent = [v for v in parcel.outputs if v.id not in remembered or v.digest not in there.get(v.name, {})]
        if absent or (parcel.run.id not in sent and parcel.run.stage != "pull"):
            new = {
                content.md5: content.size
                for version in absent
                if version.digest not in there.get(version.name, {})
                for content in store.files(version).values()
                if content.md5 not in counted
            }
            counted |= set(new)
            left.append(Parcel(parcel.run, parcel.outputs, sum(new.values())))
    return left


def standing(api: Any, path: str, versions: Iterable[Version]) -> dict[str, dict[str, Any]]:
    """What W&B has of the artifacts that `versions` belong to: name -> digest -> its artifact. path: ENTITY/PROJECT."""
    wandb = remote.client()
    found: dict[str, dict[str, Any]] = {}
    for name, kind in {version.name: version.type for version in versions}.items():
        with (
            remote.asking(f"cannot ask W&B for {path}/{name}"),
            contextlib.suppress(ValueError, wandb.errors.CommError),
        ):
            # One of these where W&B has none of that name and type.
            found[name] = {artifact.digest: artifact for artifact in api.artifacts(kind, f"{path}/{name}")}
    return found


# -- sending -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Destination:
    """path: ENTITY/PROJECT. place: what the registry calls it."""

    api: Any
    path: str

    @classmethod
    def here(cls) -> "Destination":
        """Where this machine's account publishes. Raises Problem where there is none, or it does not answer."""
        if not remote.online():
            raise Problem("publish needs a W&B account: run wandb login, and leave MODE=offline out")
        os.environ.update({name: value for name, value in PATIENCE.items() if name not in os.environ})
        with remote.asking("W&B does not answer"):
            api = remote.client().Api(timeout=15)
            entity = os.environ.get("WANDB_ENTITY") or api.default_entity
        return cls(api, f"{entity}/{remote.project()}")

    @property
    def place(self) -> str:
        entity, _, project = self.path.partition("/")
        return remote.place(entity, project)

    def answers(self) -> bool:
        try:
            with remote.asking("W&B does not answer"):
                return remote.client().Api(timeout=15).viewer is not None  # asks
        except Problem:
            return False


def publish(
    store: Store,
    to: Destination,
    planned: Sequence[Parcel],
    each: Callable[[Sequence[Parcel]], Iterable[Parcel]] = iter,
) -> Told:
    """Sends what is not there yet. What fails is told, with what depends on it, and the rest goes on.

    each: wraps what is sent as it is sent, to show progress.
    """
    outputs = [version for parcel in planned for version in parcel.outputs]
    found = standing(to.api, to.path, outputs)
    left = missing(store, to.place, planned, found)
    told = Told([], len(planned) - len(left), [])
    lost: dict[int, Version] = {}
    reachable = True
    with one_at_a_time(store) as lock:
        for parcel in each(left):
            needed = [version.reference for version in parcel.inputs if version.id in lost]
            if not reachable:
                problem: str | None = "W&B does not answer any more"
            elif needed:
                problem = f"it was made from {', '.join(needed)}"
            else:
                problem = send(parcel, lock)
            if problem is None:
                told.published.append(parcel)
                continue
            told.failed.append((parcel, problem))
            lost |= {version.id: version for version in parcel.outputs}
            reachable = reachable and (bool(needed) or to.answers())
        if reachable:
            found = standing(to.api, to.path, outputs) if left else found
            told.moved, told.unpointed = point(found, [version for version in outputs if version.id not in lost])
    return told


def send(parcel: Parcel, lock: int) -> str | None:
    """Has a process of its own send the run, and says what went wrong. The process holds the lock for as long as it lives."""
    limit = SECONDS + parcel.size / BYTES_A_SECOND
    process = subprocess.Popen(
        [sys.executable, "-m", NAME, parcel.run.id],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != SERVICE},
        start_new_session=True,
        pass_fds=[lock],
    )
    try:
        _, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"not done after {limit:.0f} s; run the same command again"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        lines = said.strip().splitlines() or [f"it ended with code {process.returncode}"]
        return lines[-1].removeprefix(f"{NAME}: ")
    return None


def point(there: Mapping[str, Mapping[str, Any]], versions: Iterable[Version]) -> tuple[int, int]:
    """Gives each version the aliases at W&B that it has here. Returns how many moved, and how many could not be moved.

    there: as `standing` says.
    """
    moved = failed = 0
    for version in {version.id: version for version in versions}.values():
        artifact = there.get(version.name, {}).get(version.digest)
        wanted = set(version.aliases) - set(artifact.aliases if artifact is not None else ())
        if not wanted:
            continue
        try:
            if artifact is None:
                raise Problem(f"{version.reference} is not there any more")
            with remote.asking("W&B did not move an alias"):
                artifact.aliases = [*artifact.aliases, *sorted(wanted)]
                artifact.save()
            moved += len(wanted)
        except Problem:
            failed += len(wanted)
    return moved, failed


@contextlib.contextmanager
def one_at_a_time(store: Store) -> Iterator[int]:
    """A lock that a publication holds, and after its death the process that still sends for it."""
    with (store.root / "publishing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another publication is at work; waiting until it ends", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


# -- in the process that sends one run ---------------------------------------------------------------------------------


def deliver(store: Store, name: str) -> None:
    """Sends one run: its record, then its artifacts. Raises Problem where W&B does not take it."""
    (parcel,) = [parcel for parcel in parcels(store) if parcel.run.id == name]
    to = Destination.here()
    entity, _, project = to.path.partition("/")
    wandb = remote.client()
    if parcel.record:
        sync(parcel.record, entity, project)
    with (
        remote.asking("W&B did not take the run"),
        wandb.init(
            entity=entity,
            project=project,
            id=name,
            resume="allow",
            name=f"{parcel.run.stage.partition('.')[2]} {parcel.run.variant or ''}".strip(),
            job_type=parcel.run.stage,
            group=parcel.run.variant,
            config={**parcel.run.config, "revision": parcel.run.revision} if parcel.record is None else None,
            mode="online",
            dir=os.environ["WANDB_DIR"],
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False),
        ) as run,
    ):
        for source in parcel.inputs:
            run.use_artifact(reference(store, to, source))
        references = {}
        for version in parcel.outputs:
            draft = Draft(version.name, version.type, version.aliases, store.files(version))
            references[version.id] = remote.upload(run, draft, store, SECONDS).qualified_name
    store.remember(to.place, references, name)


def reference(store: Store, to: Destination, version: Version) -> str:
    """The reference of a version at its destination. Raises Problem where it is not there."""
    found = store.remotes(version).get(to.place)
    if found is None:
        raise Problem(f"{version.reference}, which it was made from, is not at {to.path}")
    return found


def sync(record: Path, entity: str, project: str) -> None:
    """Sends a run's record, by W&B's command in this process, which has imported most of it and has its client running.
    That command says nothing of a failure in its exit code; what it ends with does.

    Sent again, rows of its history have the steps that they had before.
    """
    from wandb.cli.cli import cli

    output = io.StringIO()
    command = ["sync", "--include-synced", "--entity", entity, "--project", project, str(record)]
    with (
        contextlib.redirect_stderr(output),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        cli.main(command, prog_name="wandb")
    text = output.getvalue()
    if "Finished syncing" not in text:
        raise Problem(f"W&B did not take its record: {(text.strip().splitlines() or ['it printed nothing'])[-1]}")


def main(name: str) -> None:
    with contextlib.closing(Store()) as store, store.in_use():
        deliver(store, name)


if __name__ == "__main__":
    answer(NAME, lambda: main(sys.argv[1]))
