"""The mistakes that a classifier is surest of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mistake:
    """row: of the test image. true, taken: its class, and the one that it is taken for. certainty: the probability of the
    latter, 0 to 1."""

    row: int
    true: int
    taken: int
    certainty: float


def certain_mistakes(logits: NDArray[np.float64], labels: NDArray[np.int64], count: int) -> list[Mistake]:
    """At most `count`, the surest first, of equally sure ones the first row. logits: (n, classes). labels: (n,), negative
    where an image has none, which is no mistake then."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    taken = logits.argmax(axis=1)
    wrong = np.flatnonzero((taken != labels) & (labels >= 0))
    certainty = probability[wrong, taken[wrong]]
    order = np.argsort(-certainty, kind="stable")[:count]
    return [
        Mistake(int(row), int(labels[row]), int(taken[row]), float(sure))
        for row, sure in zip(wrong[order], certainty[order], strict=True)
    ]
