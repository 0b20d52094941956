"""`python ARGUMENTS` in a process of its own, without the seconds that its imports take: it is forked from one that has them.

For tests whose subject is what a command does. A test of the start itself (what is imported, a signal while it imports,
torchrun) starts `sys.executable`. What a fork shares with its siblings and a start does not: the seed of `hash()`.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Nothing here starts a thread by being imported: a fork would have its locks and not the thread that opens them.
PRELOADED = [
    "sweeps.make", "sweeps.run", "eval.anomaly", "eval.claims", "eval.cluster", "eval.compare", "eval.embed", "eval.index",
    "eval.probe", "eval.project", "eval.report", "eval.retrieve", "eval.sweep", "train.eigenmaps", "train.patches",
    "train.prepare", "train.pretrain", "train.tracking.cli.answers", "tests.parts.versions", "wandb", "torch._dynamo",
    "tyro", "wandb.sdk.launch.inputs.internal",
]  # fmt: skip


class Process:
    """As subprocess.Popen with text, whose standard streams are files: read them when it has ended."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, together: bool) -> None:
        self.args = [sys.executable, *arguments]
        self.returncode: int | None = None
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open for as long as this is
        self._err = self._out if together else tempfile.TemporaryFile("w+")  # noqa: SIM115
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "file_size": resource.getrlimit(resource.RLIMIT_FSIZE),
        }
        self._end, told = socket.socketpair()
        with told:
            streams = [self._out.fileno(), self._err.fileno(), told.fileno()]
            socket.send_fds(server(), [json.dumps(request).encode()], streams)
        self._lines = self._end.makefile()
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._code(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._code(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _code(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._end, selectors.EVENT_READ)
                if selector.select(timeout):
                    self.returncode = int(self._lines.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        self._out.seek(0)
        out = self._out.read()
        self._err.seek(0)
        return out, "" if self._err is self._out else self._err.read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, together: bool = False
) -> Process:
    """`python ARGUMENTS`: -m MODULE or -c CODE with its flags. together: errors and output are one text."""
    environment = os.environ if env is None else env
    return Process([str(argument) for argument in arguments], environment, cwd or Path.cwd(), together)


def run(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """As subprocess.run with captured text."""
    process = start(*arguments, env=env, cwd=cwd)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


@functools.cache
def server() -> socket.socket:
    """Where requests go. The server is started by the first, and ends when this process does."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(its.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            pass_fds=[its.fileno()],
            start_new_session=True,  # Ctrl-C is for pytest
        )
    atexit.register(process.wait)  # after the next line's: the last comes first
    atexit.register(ours.close)
    return ours


# -- in the server -----------------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Forks a process for each request. Returns the request in the process that is to do it, None where no more will come."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    at_work: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(4096)
                    reap(at_work)
                    continue
                message, descriptors, _, _ = socket.recv_fds(requests, 1_000_000, 3)
                if not message:
                    return None
                child = os.fork()
                if not child:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (wake, woken, requests, *at_work.values()):
                        end.close()
                    for descriptor, stream in zip(descriptors, (1, 2), strict=False):
                        os.dup2(descriptor, stream)
                    for descriptor in descriptors:
                        os.close(descriptor)
                    request: dict[str, Any] = json.loads(message)
                    return request
                out, err, told = descriptors
                os.close(out)
                os.close(err)
                at_work[child] = socket.socket(fileno=told)
                at_work[child].send(f"{child}\n".encode())


def reap(at_work: dict[int, socket.socket]) -> None:
    """Says of those that have ended how."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        with at_work.pop(child) as told, contextlib.suppress(OSError):  # who asked may be gone
            told.send(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: Mapping[str, Any]) -> None:
    """What the interpreter does with its arguments, once it has started."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    resource.setrlimit(resource.RLIMIT_FSIZE, request["file_size"])
    kind, target, *flags = request["arguments"]
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = ["" if kind == "-c" else str(Path.cwd()), *filter(None, path.split(os.pathsep))]
    sys.argv[:] = [kind, *flags]
    if kind == "-m":
        sys.modules.pop(target, None)  # it is loaded as __main__, and again where something imports it
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(target, "<string>", "exec"), module.__dict__)  # noqa: S102  # what `python -c` does


def preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError(f"an import started a thread: {threading.enumerate()}")
    gc.collect()
    for value in gc.get_objects():
        if type(value) is tempfile.TemporaryDirectory:  # W&B's are there for all forks: the server removes them
            atexit.unregister(value.cleanup)
    gc.freeze()  # a collection in a fork leaves the pages of these objects shared


def ended_by(body: Callable[[], object]) -> int:
    """The exit code of a program that consists of `body()`, negative for a signal, once it has said why as a program does."""
    try:
        body()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def end(code: int) -> None:
    """Ends as an interpreter does, but leaves the memory to the system: to tidy up all modules takes half a second."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main(descriptor: int) -> None:
    preload()
    with socket.socket(fileno=descriptor) as requests:
        request = serve(requests)
    if request is not None:
        for finalizer in tuple(vars(weakref.finalize)["_registry"]):
            finalizer.atexit = False  # the server's too
        end(ended_by(lambda: become(request)))


if __name__ == "__main__":
    sys.path.pop(0)  # the folder that the server was started in
    main(int(sys.argv[1]))
