"""Histograms that put several sets side by side."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from train.tracking.panels import color, figure

BINS = 60


def histogram(title: str, x: str, samples: Mapping[str, ArrayLike]) -> go.Figure:
    """The share of each set of values by bin, in bins that all sets have in common. Empty sets are left out."""
    values = {name: np.asarray(sample, np.float64) for name, sample in samples.items()}
    values = {name: sample for name, sample in values.items() if sample.size}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    traces = [
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.histogram(sample, edges)[0] / sample.size,
            width=np.diff(edges),
            name=f"{name} ({sample.size:,})",
            marker={"color": color(i), "line": {"width": 0}},
            opacity=0.6,
        )
        for i, (name, sample) in enumerate(values.items())
    ]
    bars = figure(title, x, "share of the images", traces)
    legend = {"x": 0.98, "y": 0.98, "xanchor": "right", "yanchor": "top", "bgcolor": "rgba(255, 255, 255, 0.7)"}
    return bars.update_layout(barmode="overlay", bargap=0, legend=legend).update_yaxes(tickformat=".0%")
