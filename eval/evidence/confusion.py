"""Which classes a classifier takes for which."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from train.tracking.panels import color, figure

MOST_CONFUSED = 10
MOST_NUMBERS = 20  # classes beyond which a matrix shows no numbers: they would overlap


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Share of each true class (row) that was taken for each class (column); rows sum to 1.

    labels, predictions: (n,). Returns (classes, classes); the row of a class that no label has is 0.
    """
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def most_confused(confusion: NDArray[np.float64], classes: Sequence[str]) -> list[tuple[str, str, float]]:
    """(true class, predicted class, share of the true class), the ten largest that are not 0, largest first."""
    mistakes = confusion * (1 - np.eye(len(confusion)))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(confusion)) for place in order]
    return [
        (classes[true], classes[other], float(mistakes[true, other])) for true, other in pairs if mistakes[true, other]
    ]


def confusion_figure(confusion: NDArray[np.float64], classes: Sequence[str]) -> go.Figure:
    percent = (100 * confusion).astype(np.float32)
    heatmap = go.Heatmap(
        z=percent,
        x=list(classes),
        y=list(classes),
        zmin=0,
        zmax=100,
        colorscale="Blues",
        texttemplate="%{z:.0f}" if len(classes) <= MOST_NUMBERS else None,
        hovertemplate="%{y} taken for %{x}: %{z:.1f} %<extra></extra>",
        colorbar={"title": {"text": "%"}},
    )
    result = figure("Linear probe: what each class is taken for", "predicted class", "true class", [heatmap])
    # `category` keeps class names such as the digits from being read as numbers.
    result.update_xaxes(type="category", tickangle=-45)
    result.update_yaxes(type="category", autorange="reversed", automargin=True)
    return result


def per_class_figure(accuracies: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> go.Figure:
    """Bars side by side, one color for each entry of `accuracies`: (classes,), 0 to 1."""
    bars = [
        go.Bar(
            name=name,
            x=list(classes),
            y=(100 * accuracy).astype(np.float32),
            marker={"color": color(index)},
            hovertemplate="%{x}: %{y:.1f} %",
        )
        for index, (name, accuracy) in enumerate(accuracies.items())
    ]
    result = figure("Linear probe: accuracy of each class", "class", "test accuracy (%)", bars)
    result.update_layout(barmode="group", showlegend=True)
    result.update_xaxes(type="category")
    result.update_yaxes(range=[0, 100])
    return result
