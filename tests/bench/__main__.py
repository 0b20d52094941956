"""make bench: what the lab costs, against the plain way to do the same, in one table.

python -m tests.bench [--only NAME ...] [--minutes M]

`peers` trains for so many minutes each, on CIFAR-10: cifar10-jpeg.zip of $PEEL_DATA (make: DATA=FOLDER), or torchvision's.
"""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from tests.bench import evaluation, memory, peers, training
from tests.bench.table import Row, table


def machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    load = os.getloadavg()[0]
    busy = f"; BUSY: load {load:.1f} before it began" if load > 0.5 else ""
    return f"{platform.platform()}; {names[0]}, {len(os.sched_getaffinity(0))} of {len(names)} cores, {torch.get_num_threads()} threads; torch {torch.__version__}{busy}"


def main() -> None:
    subjects: dict[str, Callable[[], list[Row]]] = {
        "views": training.measure_views,
        "step": training.measure_step,
        "parts": training.measure_parts,
        "methods": training.measure_methods,
        "generators": training.measure_generators,
        "exercise": training.measure_exercise,
        "embed": evaluation.measure_embed,
        "probe": evaluation.measure_probe,
        "neighbors": evaluation.measure_neighbors,
        "million": evaluation.measure_million,
        "maps": evaluation.measure_maps,
        "tracking": evaluation.measure_tracking,
        "pretrain": memory.measure_pretrain,
        "growth": memory.measure_growth,
        "peers": lambda: peers.measure_peers(minutes=arguments.minutes),
    }
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures; make bench does all of it.")
    parser.add_argument("--only", nargs="+", choices=list(subjects), default=list(subjects))
    parser.add_argument("--minutes", type=float, default=peers.MINUTES, help="of each training of peers")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows: list[Row] = []
    for name in arguments.only:
        print(f"\n{name} ...", flush=True)
        measurements = subjects[name]()
        print(table(measurements), flush=True)
        rows += measurements
    missed = [row.what for row in rows if row.met is False]
    print(f"\n{table(rows)}\n\n{len(missed)} missed" + (f": {'; '.join(missed)}" if missed else ""))


if __name__ == "__main__":
    main()
