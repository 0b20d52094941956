"""What the neighbors of all images look like together: how far they are, and which images are hubs."""

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from eval.evidence.distributions import histogram
from train.data.neighbors import Ids, Neighbors
from train.tracking.panels import figure


def occurrences(ids: Ids, count: int) -> NDArray[np.int64]:
    """How often each of `count` images is among the neighbors of the others: N_k of Radovanović et al. 2010."""
    return np.bincount(ids.ravel(), minlength=count)


def distances_figure(neighbors: Neighbors) -> go.Figure:
    return histogram(
        "How far the nearest training image is",
        "L2 distance of the representations",
        {"training images": neighbors.train_distances[:, 0], "test images": neighbors.test_distances[:, 0]},
    )


def occurrences_figure(neighbors: Neighbors) -> go.Figure:
    """Sorted occurrences. Without hubs the curve is flat at k."""
    count, k = neighbors.train_ids.shape
    descending = np.sort(occurrences(neighbors.train_ids, count))[::-1]
    ranks = np.unique(np.geomspace(1, count, 400).astype(np.int64))  # enough for a logarithmic axis
    curve = figure(
        f"Hubs: how often an image is among the {k} nearest of others",
        "training images, most frequent first",
        "occurrences",
        [go.Scatter(x=ranks, y=descending[ranks - 1], mode="lines", name="occurrences")],
    )
    return curve.update_xaxes(type="log")
