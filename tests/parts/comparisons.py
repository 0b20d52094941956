"""Comparisons whose figures are made up, as eval.compare publishes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data.scores import Value

Ends = list[float] | None
Found = Mapping[str, tuple[Sequence[float], Ends]]  # by variant: a value a seed, and the interval


def compared(
    measures: Mapping[str, Found],
    differences: Mapping[tuple[str, str, str], tuple[float, Ends]] | None = None,
    lists: Mapping[str, Mapping[str, list[Any]]] | None = None,
    anomalies: str | None = "mnist",
) -> dict[str, Value]:
    """What eval.compare publishes of the data set `shapes`. measures: by path and variant, values by seed and interval.
    differences: by path and two variants, difference and interval. lists: by path and variant, a list by seed."""
    variants = dict.fromkeys(v for found in (*measures.values(), *(lists or {}).values()) for v in found)
    values: dict[str, Value] = {
        "compare/dataset": "shapes",
        "compare/variants": [f"shapes-{variant}" for variant in variants],
        "compare/anomalies": anomalies,
        "compare/measures": list(measures),
    }
    for path, found in measures.items():
        for variant, (seeds, ends) in found.items():
            values |= {
                f"{path}/shapes-{variant}/mean": float(np.mean(seeds)),
                f"{path}/shapes-{variant}/n": len(seeds),
                f"{path}/shapes-{variant}/seeds": list(seeds),
                f"{path}/shapes-{variant}/interval": ends,
            }
    for (path, one, other), (difference, ends) in (differences or {}).items():
        pair = f"{path}/shapes-{one}-minus-shapes-{other}"
        values |= {f"{pair}/difference": difference, f"{pair}/interval": ends}
    for path, by_variant in (lists or {}).items():
        values |= {f"{path}/shapes-{variant}/seeds": by_seed for variant, by_seed in by_variant.items()}
    return values
