"""The figures of a training: each term of its loss over batches, with the same term on the test set once an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from train.engine.monitor import INSTANCES
from train.tracking.panels import color, figure

TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)  # of a rank, on a logarithmic axis
POINTS = 2_000  # of a line: enough for a screen; a longer curve is averaged over neighboring batches


def figures(
    batches: Sequence[dict[str, float]],
    epochs: Sequence[dict[str, float]],
    glances: Sequence[dict[str, float]],
    terms: Sequence[str],
) -> dict[str, go.Figure]:
    """By panel path. batches: one entry a step, epochs: one an epoch, glances: one in a tenth of the steps, as the loop logs
    them; terms: of the loss, `total` among them. Empty without steps."""
    if not batches:
        return {}
    panels = {}
    for name in terms:
        words = name.replace("_", " ")
        panels[f"training/{name}"] = figure(
            f"{words.capitalize()} during training",
            "training batch",
            "loss" if name == "total" else f"{words} term, not weighted",
            [
                _line(batches, f"loss/{name}", "training batches", color(0)),
                _line(epochs, f"test/{name}", "test set, once an epoch", color(3), "lines+markers"),
            ],
        )
    if "knn/top1" in epochs[0]:  # else the images have no labels
        panels["training/knn"] = figure(
            "kNN accuracy on held-out training labels",
            "training batch",
            "accuracy",
            [
                _line(epochs, "knn/top1", "kNN", color(2), "lines+markers"),
                _line(glances, "curve/knn", "kNN on fewer images, in each tenth", color(2), "lines").update(
                    line_dash="dot"
                ),
            ],
        )
    if INSTANCES in epochs[0]:
        panels["training/instances"] = figure(
            "Views told apart by their image, without labels",
            "training batch",
            "mean reciprocal rank of a view's own image",
            [_line(epochs, INSTANCES, "held-out images", color(2), "lines+markers")],
        )
    panels["training/collapse"] = figure(
        "Spread of the representation",
        "training batch",
        "effective rank",
        [
            _line(epochs, "collapse/effective_rank", "effective rank", color(0), "lines+markers"),
            _line(epochs, "collapse/std", "standard deviation (right)", color(1), "lines+markers").update(yaxis="y2"),
        ],
    ).update_layout(
        yaxis2={"overlaying": "y", "side": "right", "title": {"text": "standard deviation"}, "rangemode": "tozero"}
    )
    panels["training/rank"] = figure(
        "How many dimensions are filled",
        "training batch",
        "effective rank",
        [
            _line(glances, "curve/effective_rank", "representation", color(0), "lines+markers"),
            _line(glances, "curve/projection_rank", "projection, which the loss sees", color(3), "lines+markers"),
        ],
    ).update_yaxes(type="log", tickvals=TICKS)
    panels["training/spread"] = figure(
        "How far the unit vectors are spread",
        "training batch",
        "standard deviation x square root of dimensions",
        [
            _line(glances, "curve/spread", "representation", color(0), "lines+markers"),
            _line(glances, "curve/projection_spread", "projection, which the loss sees", color(3), "lines+markers"),
        ],
    )
    panels["training/learning_rate"] = figure(
        "Learning rate", "training batch", "learning rate", [_line(batches, "optimizer/learning_rate", "", color(0))]
    )
    return panels


def rises(batches: Sequence[dict[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """How much each term rose: its mean over the last tenth of the batches minus that over the first tenth (`rise`) and
    over the second one (`late_rise`), which leaves out the start, where the network leaves its initial weights.

    batches: one entry a step; nothing comes of fewer than 20.
    """
    tenth = len(batches) // 10
    values: dict[str, float] = {}
    for name in terms if tenth >= 2 else ():
        first, second, last = (
            sum(entry[f"loss/{name}"] for entry in part) / tenth
            for part in (batches[:tenth], batches[tenth : 2 * tenth], batches[-tenth:])
        )
        values[f"training/{name}/rise"], values[f"training/{name}/late_rise"] = last - first, last - second
    return values


def course(batches: Sequence[dict[str, float]], glances: Sequence[dict[str, float]]) -> dict[str, float]:
    """How a training went: `training/total/settling`, the share of its steps before the loss had first come within a twentieth
    of its range from its smallest value; `training/total/unrest`, the standard deviation of the changes from batch to batch in
    the last half; `curve/knn/steadiness`, the share of tenths at whose end kNN accuracy is not below that at their start, and
    `curve/knn/gain`, from first to last.

    batches: one entry a step, glances: one in a tenth of the steps. What needs more of them than there are, or labels that
    the images have not, is left out.
    """
    values: dict[str, float] = {}
    losses = np.array([entry["loss/total"] for entry in batches])
    if len(losses) >= 4:
        near = losses <= losses.min() + (losses.max() - losses.min()) / 20
        values["training/total/settling"] = float(near.argmax() / len(losses))
        values["training/total/unrest"] = float(np.diff(losses[len(losses) // 2 :]).std())
    accuracies = np.array([entry["curve/knn"] for entry in glances if "curve/knn" in entry])
    if len(accuracies) >= 2:
        values["curve/knn/steadiness"] = float((np.diff(accuracies) >= 0).mean())
        values["curve/knn/gain"] = float(accuracies[-1] - accuracies[0])
    return values


def extremes(
    batches: Sequence[dict[str, float]], epochs: Sequence[dict[str, float]], seconds: Sequence[float]
) -> dict[str, float]:
    """What a training reached at best, and its seconds an epoch: `knn/top1/max`, `test/total/min`, `loss/total/min`,
    `pace/seconds/mean`. Of what was not measured nothing."""
    values = {}
    for name, entries, best, word in (
        ("knn/top1", epochs, max, "max"), ("test/total", epochs, min, "min"), ("loss/total", batches, min, "min")
    ):  # fmt: skip
        if present := [entry[name] for entry in entries if name in entry]:
            values[f"{name}/{word}"] = best(present)
    return values | ({"pace/seconds/mean": sum(seconds) / len(seconds)} if seconds else {})


def finding(variant: str, values: Mapping[str, Any], dimension: int) -> str:
    """What came out of a training, in one sentence. values: of its scores. dimension: of the representation."""
    parts = [f"loss {values['loss/total']:.4g}"] if "loss/total" in values else []
    if "test/accuracy" in values:
        parts.append(f"{100 * values['test/accuracy']:.1f} % of the test images right")
    if "knn/top1" in values:
        parts.append(f"held-out kNN {100 * values['knn/top1']:.1f} %")
    if "collapse/effective_rank" in values:
        parts.append(f"effective rank {values['collapse/effective_rank']:.1f} of {dimension}")
    count = values["training/epochs"]
    epochs = f"{count} epoch{'' if count == 1 else 's'}" if count else "no training"
    return f"training of {variant}: {', '.join(parts)}; {epochs}"


def pace(seconds: Sequence[float]) -> go.Figure:
    """The seconds that the steps of each epoch took."""
    epochs = list(range(1, len(seconds) + 1))
    bars = go.Bar(x=epochs, y=list(seconds), marker={"color": color(0)})
    return figure("Time of each epoch", "epoch", "seconds of its training steps", [bars])


def _line(entries: Sequence[dict[str, float]], name: str, label: str, line: str, mode: str = "lines") -> go.Scatter:
    stride = max(1, -(-len(entries) // POINTS))
    groups = [entries[start : start + stride] for start in range(0, len(entries), stride)]
    return go.Scatter(
        x=[group[-1]["batch"] for group in groups],
        y=[sum(entry[name] for entry in group) / len(group) for group in groups],
        name=label,
        mode=mode,
        line={"color": line, "width": 1.5},
    )
