"""One run of a program in a process of its own: started, watched by what it logs, ended, and never left running twice.

It touches three files beside each other and the process; the runner decides what to run and what its log means.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sweeps.locks import acquire

POLL = 0.2  # seconds between two looks


class Program:
    """files: stem of its files: .log (what it prints), .jsonl (what it logs), .lock (holds its process id).

    The program itself holds the lock for as long as it lives, also when whoever started it was killed.
    """

    def __init__(self, files: Path) -> None:
        self.log, self._history, self._lock = (files.with_name(files.name + end) for end in (".log", ".jsonl", ".lock"))
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0  # bytes of the history

    def clear(self) -> None:
        """Ends what a killed runner has left. It may have come to its end before: look then for what it made."""
        if self._lock.exists():
            with self._locked():
                pass

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """The lock, once a program that holds it has been ended."""
        with self._lock.open("a+") as lock:
            if not acquire(lock, wait=False):
                _terminate(lock)
                acquire(lock)
            yield lock

    def start(self, command: Sequence[str]) -> None:
        """Starts the command, where nothing of it is left."""
        with self._locked() as lock:
            lock.truncate(0)  # who reads no process id here waits, and sends no signal
            self._history.unlink(missing_ok=True)
            self._offset = 0
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PEEL_HISTORY": str(self._history)},
                    process_group=0,  # Ctrl-C ends it through its runner, once
                    pass_fds=[lock.fileno()],
                )
            lock.write(str(self._process.pid))

    def exit_code(self) -> int | None:
        """The exit code; None while it runs, after a moment's wait."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(POLL)
        return None

    def stop(self) -> int:
        """Asks it to end, as Ctrl-C would, and waits until it has: a training saves what it has. Its exit code. Ctrl-C
        meanwhile asks again: a training then ends at once."""
        assert self._process is not None
        self._process.terminate()
        while True:
            try:
                return self._process.wait()
            except KeyboardInterrupt:
                self._process.terminate()

    def new_entries(self) -> list[dict[str, Any]]:
        """What it has logged since the last call."""
        if not self._history.exists():
            return []
        with self._history.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")  # the last line may be half there
        self._offset += len(whole) + len(newline)
        entries = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # on a full disk a line may have lost its end
                entries.append(json.loads(line))
        return [entry for entry in entries if isinstance(entry, dict)]

    def last_line(self) -> str:
        """The last line that it printed: where it failed, the reason."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _terminate(lock: IO[str]) -> None:
    lock.seek(0)
    with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):  # just ended, or only just started
        os.kill(int(lock.read()), signal.SIGTERM)
