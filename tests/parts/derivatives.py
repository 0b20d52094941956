"""Derivatives of numpy's functions, exact to rounding, to hold against autograd's."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STEP = 1e-30

Function = Callable[[NDArray[np.complex128]], np.complex128]


def gradient(function: Function, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gradient of an analytic `function` of an array, by complex steps: Im f(x + i h) / h has no cancellation."""
    result = np.empty_like(x)
    for place in np.ndindex(x.shape):
        shifted = x.astype(np.complex128)
        shifted[place] += 1j * STEP
        result[place] = function(shifted).imag / STEP
    return result
