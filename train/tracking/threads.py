"""How many threads numerical libraries take: all cores, but for those that other programs keep busy.

Threads that share a core wait for each other, so that as many as there are cores can be slower than one. Sums by another
number of threads have other last bits: a process decides once, a training that goes on keeps the number that it began with,
and OMP_NUM_THREADS, where it is set, decides for both.
"""

import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

from train.tracking import environment

VARIABLE = "OMP_NUM_THREADS"
STAT = Path("/proc/stat")
SECONDS = 0.08  # between two looks at it, whose clock ticks 100 times a second
IDLE = (3, 4)  # columns of a core there: idle, and waiting for a disk

_by_user = environment.variable(VARIABLE) is not None  # as this process began
_fitted = False


def fit() -> None:
    """Leaves to other programs the cores that they keep busy, and says so. Once a process, and not where OMP_NUM_THREADS
    is set, nor beside other processes of one training."""
    global _fitted
    if _fitted or _by_user or environment.rank().count > 1:
        return
    _fitted = True
    cores, most = _cores(), count()
    free = free_cores(len(cores), os.getloadavg()[0])
    if free < most and STAT.exists():
        free = max(free, _idle_now(cores))
    if (threads := share(free, most)) < most:
        use(threads)
        print(
            f"other programs keep {len(cores) - free:.1f} of {len(cores)} cores busy: {threads} of {most} threads"
            f" ({VARIABLE} decides where it is set)",
            file=sys.stderr,
        )


def share(free: float, most: int) -> int:
    """Threads for so many free cores: the nearest whole number, from one to `most`."""
    return max(1, min(most, int(free + 0.5)))


def free_cores(cores: int, load: float) -> float:
    """How many cores no program wants, by the load of the last minute. That may be our own, of the stage before this one, and
    as much as there are cores: less than that says nothing where there is nothing else to ask."""
    return max(0.0, cores - (load if STAT.exists() else max(0.0, load - cores)))


def _idle_now(cores: Collection[int]) -> float:
    before = STAT.read_text()
    time.sleep(SECONDS)
    return idle_cores(before, STAT.read_text(), cores)


def idle_cores(before: str, after: str, cores: Collection[int]) -> float:
    """How many of the cores were idle between two readings of /proc/stat; all where no time has passed."""
    idle = 0.0
    for core in cores:
        start, end = (_ticks(text, core) for text in (before, after))
        passed = [later - earlier for earlier, later in zip(start, end, strict=True)]
        idle += sum(passed[column] for column in IDLE) / sum(passed) if sum(passed) else 1.0
    return idle


def _ticks(text: str, core: int) -> list[int]:
    """What a core has spent on each kind of work; a guest's is in the user's, and comes behind the first eight."""
    line = next((line for line in text.splitlines() if line.startswith(f"cpu{core} ")), "")
    return [int(number) for number in line.split()[1:9]] or [0] * 8


def _cores() -> Collection[int]:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def count() -> int:
    """The threads that a computation takes here."""
    import torch  # late: `python -m train.tracking` needs none

    return torch.get_num_threads()


def use(threads: int) -> None:
    """Has all libraries take so many threads, those that are not loaded yet too."""
    import torch
    from threadpoolctl import threadpool_limits

    os.environ[VARIABLE] = str(threads)
    threadpool_limits(threads)
    torch.set_num_threads(threads)


def go_on_with(threads: int) -> None:
    """Takes as many threads as what is continued began with, so that it ends in the same bits; 0: nobody knows how many."""
    if threads and threads != count() and not _by_user:
        print(f"going on with {threads} threads, as it began")
        use(threads)
