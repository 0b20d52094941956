"""Threads by what other programs leave free. Readings of /proc/stat are as proc(5) describes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from train.tracking import threads

# user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = """cpu  400 0 0 400 0 0 0 0 0 0
cpu0 100 0 0 100 0 0 0 0 0 0
cpu1 100 0 0 100 0 0 0 0 0 0
cpu2 100 0 0 100 0 0 0 0 0 0
cpu3 100 0 0 100 0 0 0 0 0 0
intr 12345
"""
AFTER = """cpu  424 5 1 430 0 0 0 0 9 0
cpu0 110 0 0 100 0 0 0 0 9 0
cpu1 100 0 0 108 2 0 0 0 0 0
cpu2 100 5 0 105 0 0 0 0 0 0
cpu3 104 0 1 115 0 0 0 0 0 0
intr 23456
"""


@pytest.mark.parametrize(("cores", "idle"), [((0,), 0.0), ((1,), 1.0), ((2,), 0.5), ((3,), 0.75), ((0, 1, 2, 3), 2.25)])
def test_a_core_is_free_for_the_share_of_time_that_it_idles_or_waits_for_a_disk(
    cores: tuple[int, ...], idle: float
) -> None:
    assert threads.idle_cores(BEFORE, AFTER, cores) == pytest.approx(idle)


def test_cores_of_which_nothing_is_told_count_as_free() -> None:
    assert threads.idle_cores(BEFORE, BEFORE, (0, 1)) == 2
    assert threads.idle_cores(BEFORE, AFTER, (9,)) == 1


@pytest.mark.parametrize(
    ("free", "most", "count"), [(0.0, 8, 1), (0.4, 8, 1), (1.5, 8, 2), (6.2, 8, 6), (8.0, 8, 8), (16.0, 8, 8)]
)
def test_threads_are_the_nearest_whole_number_of_free_cores_and_one_at_least(
    free: float, most: int, count: int
) -> None:
    assert threads.share(free, most) == count


def test_the_load_counts_in_full_where_the_kernel_says_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(threads, "STAT", stat)
    assert threads.free_cores(8, 7.0) == 8  # may be our own, of the stage before
    assert threads.free_cores(8, 11.0) == 5 and threads.free_cores(2, 8.0) == 0
    stat.touch()
    assert threads.free_cores(8, 7.0) == 1


CHOICE = """
import os, sys, torch
from train.tracking import threads
torch.set_num_threads(2)
threads._cores = lambda: {0, 1}
os.getloadavg = lambda: (8.0, 8.0, 8.0)
threads._idle_now = lambda cores: 0.2
threads.fit()
threads.fit()
print(torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
threads.go_on_with(2)
print(torch.get_num_threads())
"""


def choice(**variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != threads.VARIABLE}
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", CHOICE], text=True, capture_output=True, env={**environment, **variables}, cwd=root
    )


def test_on_busy_cores_a_process_takes_fewer_threads_says_so_once_and_goes_on_with_those_it_began_with() -> None:
    process = choice()
    (line,) = process.stderr.splitlines()
    assert line.startswith("other programs keep 1.8 of 2 cores busy: 1 of 2 threads")
    assert process.stdout.splitlines() == ["1 1", "going on with 2 threads, as it began", "2"]


def test_what_the_user_has_set_stays() -> None:
    process = choice(OMP_NUM_THREADS="2")
    assert (process.stderr, process.stdout.splitlines()) == ("", ["2 2", "2"])


def test_all_libraries_take_the_number() -> None:
    before = torch.get_num_threads()
    try:
        threads.use(1)
        assert threads.count() == 1 and {pool["num_threads"] for pool in threadpool_info()} == {1}
    finally:
        threads.use(before)
