"""W&B itself: whether results go there, and artifacts to and from it.

Artifacts and W&B's errors pass through here alone: what comes down is checked and put into the store, what goes up is
read from it, and an error of W&B's client becomes a Problem. Stages call it as they run, upload.py afterwards.
"""

import contextlib
import dataclasses
import errno
import logging
import netrc
import os
import re
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from train.tracking import environment
from train.tracking.declarations import NUMBER, declaration
from train.tracking.download import download, patience, within
from train.tracking.origin import ORIGIN, Origin
from train.tracking.problem import Problem, incident, one_line
from train.tracking.store import Store, home
from train.tracking.store.records import Draft, Run, Version
from train.tracking.traces import is_whole

T = TypeVar("T")

ANSWER = 10  # seconds after which a server that has said nothing counts as dead
RECORD = 1.0  # seconds between two times that W&B's client writes what it has to a run's record; its own are 15
FLUSH = 6  # seconds that a record may take to be whole
PAUSE = 3  # seconds between two questions whether it is
OFFLINE = "set WANDB_MODE=offline (make: MODE=offline) to go on without it, or run the same command again"

# Where the client writes unless these say otherwise, inside the home.
FOLDERS = {"WANDB_DIR": "", "WANDB_CACHE_DIR": "wandb/cache", "WANDB_DATA_DIR": "wandb/data"}
LOCAL = ("offline", "dryrun", "disabled")  # what W&B's mode is called where nothing is sent
# What W&B's agent says of the one run of its program, and what would make a run another's continuation, by setting.
OF_A_RUN = {
    "WANDB_SWEEP_ID": "sweep_id",
    "WANDB_SWEEP_PARAM_PATH": "sweep_param_path",
    "WANDB_RESUME": "resume",
    "WANDB_RESUME_FROM": "resume_from",
    "WANDB_FORK_FROM": "fork_from",
}
# What the client says of a value only as it starts a run, or the server.
PATTERNS = {
    "WANDB_API_KEY": r"[\w-]{40,}|[\w-]+\.[\w-]+\.[\w-]+",
    "WANDB_ENTITY": r"[^\s/\\#?%:]{1,128}",
    "WANDB_PROJECT": r"(?!\s).+(?<!\s)",
    "WANDB_RUN_ID": r"[^\n]{1,128}",
}


def online() -> bool:
    """Whether results go to W&B: an API key is configured and WANDB_MODE does not keep them here."""
    if environment.variable("WANDB_MODE") in LOCAL:
        return False
    settings = client().setup().settings  # `Settings()` would not read the environment
    if settings.mode in LOCAL:  # `wandb offline` was called here
        return False
    if settings.api_key or settings.identity_token_file:
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        keys = netrc.netrc(environment.variable("NETRC") or Path("~/.netrc").expanduser())
        return keys.authenticators(urlsplit(settings.base_url).netloc) is not None
    return False


def agent_run() -> str | None:
    """The id of the run that W&B's agent has started this program for."""
    return environment.variable("WANDB_RUN_ID") if environment.variable("WANDB_SWEEP_ID") else None


def destination() -> str:
    """Where results go, in a few words."""
    if online():
        entity = environment.variable("WANDB_ENTITY")
        return f"W&B project {entity + '/' if entity else ''}{project_name()}, images included (MODE=offline keeps them here)"
    return f"this machine: {home()}"


def project_name() -> str:
    return environment.variable("WANDB_PROJECT") or "peel"


def entity(api: Any) -> str:
    """Whose project it is: the account's own unless WANDB_ENTITY names another."""
    return environment.variable("WANDB_ENTITY") or str(api.default_entity)


# -- the client --------------------------------------------------------------------------------------------------------


def client() -> Any:
    """wandb, imported late (it takes a second), with its folders inside ours unless the environment says where.

    Raises Problem for a variable whose value it does not take: it would find out when it starts a run, after all the work.
    """
    environment.check()
    for name, default in FOLDERS.items():
        path = environment.folder(name) or home() / default
        _check_folder(path, name if environment.variable(name) else "PEEL_HOME")
        os.environ[name] = str(path)  # absolute: a record is looked for from other folders than it was written from
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its client's reports on itself: time, and not results
    try:
        import wandb
    except ValueError as error:  # it reads WANDB_HTTP_TIMEOUT as it is imported
        raise Problem(f"W&B's client cannot start: {one_line(error)}; unset WANDB_HTTP_TIMEOUT") from error
    logging.raiseExceptions = False  # on a full disk its log would print a traceback for each line that it cannot write
    _check_variables(tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("WANDB_"))))
    return wandb


def _check_folder(path: Path, name: str) -> None:
    """Raises Problem where the client could not write there: some of its parts would then write elsewhere, in silence."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        value = environment.variable(name) or ".peel"
        raise Problem(
            f"{name}={value!r} cannot be written to: {error.strerror}; set it to a folder of yours"
        ) from error


@cache
def _check_variables(variables: tuple[tuple[str, str], ...]) -> None:
    import wandb

    settings = wandb.Settings()
    for name, value in variables:
        shown = "..." if re.search("KEY|TOKEN|HEADERS|PROX", name) else re.sub("//[^/]*@", "//...@", value)
        try:
            settings.update_from_env_vars({name: value})
        except (ValueError, TypeError, wandb.errors.Error) as error:
            reason = error.errors()[0]["msg"] if hasattr(error, "errors") else error  # pydantic's
            text = one_line(reason).removeprefix("Value error, ")
            raise Problem(f"{name}={shown!r} is not what W&B takes: {text}; correct or unset it") from None
        if not re.fullmatch(PATTERNS.get(name, ".*"), value, re.DOTALL):
            raise Problem(f"{name}={shown!r} is not what W&B takes; correct or unset it")
        if name == "WANDB_SERVICE":
            _check_service(wandb)


def _check_service(wandb: Any) -> None:
    """Starts a client of our own where the process that WANDB_SERVICE names, its parent's, has ended."""
    try:
        wandb.setup()
    except Exception:
        os.environ.pop("WANDB_SERVICE", None)
        wandb.setup()


# -- whether its server answers ----------------------------------------------------------------------------------------


def check_answers() -> None:
    """Raises Problem where W&B's server says nothing: W&B's client by itself would try for days."""
    import requests  # late, and not within the seconds that the server has

    try:
        within(ANSWER, "an answer", lambda stop: _ask(requests))
    except Problem:
        raise Problem(f"W&B does not answer at {_server()}; {OFFLINE}") from None


def _ask(requests: Any) -> None:
    """Asks who we are, which any server of W&B's can answer, be it with a refusal. Raises Problem where none does."""
    settings = client().setup().settings
    proxies = {"http": settings.http_proxy, "https": settings.https_proxy}
    question: dict[str, Any] = {"query": "query Viewer { viewer { id } }", "variables": {}}
    try:
        with requests.post(
            f"{settings.base_url.rstrip('/')}/graphql",
            json=question,
            headers=settings.x_extra_http_headers,
            proxies={scheme: proxy for scheme, proxy in proxies.items() if proxy},
            timeout=ANSWER,
            stream=True,
        ):
            return
    except requests.exceptions.SSLError:  # W&B's client trusts the certificates of the system, and may see it otherwise
        return
    except requests.RequestException as error:
        raise Problem(one_line(error)) from error


def while_it_answers(body: Callable[[], T], limit: float | None = None) -> T:
    """What `body()` returns, which waits for W&B. Raises Problem, and leaves it in a thread that ends with the process, once
    the server answers no more, or after `limit` seconds."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(body())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    end = None if limit is None else time.monotonic() + limit
    while thread.is_alive():
        thread.join(PAUSE)
        if thread.is_alive():
            check_answers()
            if end is not None and time.monotonic() > end:
                raise Problem(f"W&B did not take it within {limit:.0f} s; {OFFLINE}")
    if errors:
        raise errors[0]
    return results[0]


def finish(run: Any, failed: bool, answers: bool = True) -> None:
    """Ends a run, and waits until all that it logged is at W&B. answers: whether the server did when it was last asked; where
    it does not, what was logged is in the run's record. Raises Problem where it answers no more."""

    def end() -> None:
        run.finish(exit_code=int(failed))

    try:
        if answers:
            while_it_answers(end)
        else:
            threading.Thread(target=lambda: _quietly(end), daemon=True).start()
            _abandon(run)
    except Problem:
        _abandon(run)
        raise


def _quietly(body: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        body()


def _abandon(run: Any) -> None:
    """Ends the client's process, where it is ours, once the record of `run` is whole: this one would wait for it, and it for
    the server."""
    record = Path(run.dir).parent / f"run-{run.id}.wandb"
    end = time.monotonic() + FLUSH
    while not is_whole(record) and time.monotonic() < end:
        time.sleep(0.05)
    silence()
    connection = client().setup()._connection
    if (process := getattr(connection, "_proc", None)) is not None:
        threading.excepthook = lambda _: None  # the client's own threads, which lose it
        connection._cleanup()
        process._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process._process.wait(FLUSH)  # it writes what it has
        process._process.kill()


def silence() -> None:
    """Keeps the client from printing what we say ourselves."""
    from wandb.errors.term import termsetup

    termsetup(client().Settings(silent=True), None)


def _server() -> str:
    """Its address, without a user's name and password, should it hold them."""
    address = urlsplit(client().setup().settings.base_url)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"


# -- artifacts ---------------------------------------------------------------------------------------------------------


def place(entity: str, project: str) -> str:
    """What the registry calls a project of a server."""
    return f"{_server()}/{entity}/{project}"


def path(name: str, alias: str) -> str:
    """What W&B calls an artifact of the project, without the entity where that is the account's own."""
    return "/".join(filter(None, (environment.variable("WANDB_ENTITY"), project_name(), f"{name}:{alias}")))


def find(name: str, alias: str) -> Any | None:
    """The artifact at W&B, None where there is none. Raises Problem where W&B cannot be asked."""
    wandb = client()
    reference = path(name, alias)
    with errors_as_problem(
        f"cannot look up {reference} at W&B", "set WANDB_MODE=offline to work with what is on this machine"
    ):
        try:
            return while_it_answers(lambda: wandb.Api().artifact(reference))
        except (wandb.errors.CommError, ValueError) as error:
            if "not found" not in str(error):
                raise
            return None


def import_artifact(artifact: Any, name: str, alias: str, store: Store, folder: Path, run: str) -> Version:
    """Brings an artifact from W&B into the local store, by way of the new `folder`, as the output of a run of that name.

    Raises Problem where it arrives as something else.
    """
    digest = artifact.digest  # as the server names it; of a manifest that was read the client computes it anew
    if not artifact.qualified_name.isprintable():
        raise Problem(f"W&B calls {name}:{alias} {artifact.qualified_name!r}; name another version")
    files = store.sound(name, digest)
    if files is None:  # not here, or damaged
        headers = client().setup().settings.x_extra_http_headers or {}
        with errors_as_problem(f"cannot download {name}:{alias} from W&B"):
            download(artifact, f"{name}:{alias}", digest, folder, headers)
        files = store.take(folder)
    own = alias == "latest" or NUMBER.fullmatch(alias)
    draft = Draft(name, declaration(name).type, () if own else (alias,), files, latest=alias == "latest")
    (version,) = store.commit(Run(run, "pull", None, "", {"path": artifact.qualified_name}, "", time.time()), [draft])
    remember(store, version, artifact)
    return version


def remember(store: Store, version: Version, artifact: Any, run: str | None = None) -> None:
    """Records which artifact at W&B a version is, and with `run` that all of that run is there."""
    store.remember(place(artifact.entity, artifact.project), {version.id: artifact.qualified_name}, run)


def log_artifact(run: Any, draft: Draft, store: Store) -> Any:
    """Logs an artifact in a W&B run, and waits until it is there. Raises Problem where it arrives as something else, or not.

    Its description and metadata are of its origin, and no part of its digest, which is that of its files.
    """
    origin = _origin(draft, store)
    metadata = dataclasses.asdict(origin) if origin else None
    artifact = client().Artifact(draft.name, draft.type, description=describe(draft.name, origin), metadata=metadata)
    if lifetime := environment.lifetimes().get(draft.name):
        artifact.ttl = lifetime
    for inner, content in draft.files.items():
        artifact.add_file(str(store.object(content.md5)), name=inner, policy="immutable", skip_cache=True)
    with errors_as_problem(f"W&B did not accept {draft.name}"):
        copy = run.log_artifact(artifact, aliases=[*draft.aliases, "latest"])
        while_it_answers(copy.wait, patience(sum(content.size for content in draft.files.values())))
    if copy.digest != draft.digest:
        raise Problem(
            f"W&B stored {copy.name} with digest {copy.digest}, not {draft.digest}; run the same command again"
        )
    return copy


def link(artifact: Any, name: str, alias: str, registry: str) -> None:
    """Links an artifact of W&B's to `registry` there, into the collection that is called as its variant's `alias`; what is
    linked already stays. Raises Problem where there is no such registry."""
    target = f"wandb-registry-{registry}/{alias}"
    cure = f"make the registry at W&B, and run: python -m train.tracking publish {name}:{alias} --registry {registry}"
    with errors_as_problem(f"W&B did not link {name}:{alias} to its registry {registry!r}", cure):
        while_it_answers(lambda: artifact.link(target))


def describe(name: str, origin: Origin | None) -> str:
    """What the artifact `name` is, for whoever meets it at W&B: what it holds, of what, and what made it from what."""
    holds = declaration(name).holds
    if origin is None:
        return f"{holds[:1].upper()}{holds[1:]}."
    seed = "" if origin.seed is None else f", seed {origin.seed}"
    sources = sorted({source.partition("@")[0] for source in origin.inputs})
    made_from = f" from {', '.join(sources)}" if sources else ""
    return (
        f"{holds[:1].upper()}{holds[1:]}. Of {origin.variant or origin.dataset}{seed}; made by"
        f" `python -m {origin.stage}`{made_from}."
    )


def _origin(draft: Draft, store: Store) -> Origin | None:
    """None where it holds none that can be read."""
    content = draft.files.get(ORIGIN)
    if content is None:
        return None
    file = store.object(content.md5)
    with contextlib.suppress(Problem):
        return Origin.load(file.parent, file.name)
    return None


@contextlib.contextmanager
def errors_as_problem(what: str, cure: str = "run the same command again") -> Iterator[None]:
    """Turns what W&B's client raises into a Problem: its own errors, private ones too, and what it stumbles over where a
    server answers nonsense."""
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not isinstance(error, OSError | ValueError) and not any(name.startswith("wandb.") for name in modules):
            raise
        raise incident(error) or Problem(f"{what}: {one_line(error)}; {cure}") from error
