"""Gives each claim of a study its verdict: holds, does not hold, not decided. The claims stand in eval/studies/STUDY/claims.yaml.

It reads the comparison of the variants and measures nothing itself.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go

from eval.evidence.claims import Claim, Claims
from eval.evidence.comparison import Comparison
from eval.evidence.readings import alias
from eval.evidence.rules import Decision, Finding, Measurements, Verdict, decide
from eval.studies.all import get_study
from train.data.scores import Scores, Value
from train.tracking import LATER, Command, Problem, Stage
from train.tracking.panels import PALETTE, figure

COLORS: dict[Verdict, str] = {"holds": PALETTE[2], "does not hold": PALETTE[3], "not decided": PALETTE[0]}
SYMBOLS: dict[Verdict, str] = {"holds": "circle", "does not hold": "x", "not decided": "diamond-open"}


@dataclass(frozen=True)
class Config:
    compare: str
    """Alias of the comparison: the name of its data set."""
    study: Annotated[str, LATER] = "peel"
    """Whose claims are decided: one of eval/studies/."""

    def __post_init__(self) -> None:
        if get_study(self.study).claims is None:
            raise Problem(
                f"the study {self.study!r} has no claims; write them to eval/studies/{self.study}/claims.yaml"
            )

    @property
    def file(self) -> Path:
        """That of the claims."""
        file = get_study(self.study).claims
        assert file is not None
        return file

    @property
    def claims(self) -> Claims:
        return Claims.load(self.file, get_study(self.study).questions)

    def fingerprint(self) -> str:
        return self.file.read_text()


def main(config: Config) -> None:
    claims = config.claims
    with Stage("eval.claims", config) as stage:
        source = stage.fetch("compare", config.compare)
        stage.about(source)
        comparison = Comparison.load(source.folder)
        decisions = [decide(claim.rule, Measurements(comparison, claims.seedless)) for claim in claims.claims]
        rows = table(claims.claims, decisions, comparison)
        scores = Scores(
            entries(claims.claims, decisions, comparison),
            {"claims/verdicts": verdicts_figure(claims.claims, decisions)},
        )
        scores.log(stage)
        stage.panel("claims/table", rows)
        print(listing(rows))
        stage.finding = f"claims of {config.compare}: {tally(decisions)}"
        stage.publish("claims", scores.save, get_study(config.study).fields(str(stage.dataset)))


def tally(decisions: Sequence[Decision]) -> str:
    """How many claims hold, do not hold, are not decided."""
    counts = Counter(decision.verdict for decision in decisions)
    holds, fails = ("holds" if counts["holds"] == 1 else "hold", "does" if counts["does not hold"] == 1 else "do")
    return f"{counts['holds']} {holds}, {counts['does not hold']} {fails} not hold, {counts['not decided']} not decided"


def entries(claims: Sequence[Claim], decisions: Sequence[Decision], comparison: Comparison) -> dict[str, Value]:
    """The scores to publish: what was claimed, the verdict, and the figures that it was taken from."""
    values: dict[str, Value] = {"claims/ids": [claim.id for claim in claims]}
    for claim, decision in zip(claims, decisions, strict=True):
        entry: dict[str, Value] = {
            "number": claim.number,
            "question": claim.question,
            "text": full_text(claim, comparison),
            "who": claim.who,
            "measured": claim.measured,
            "verdict": decision.verdict,
            "why": decision.why,
            "figures": decision.figures,
            "panels": [link for path, variant in claim.panels if (link := address(path, variant, comparison))],
        }
        values |= {f"claims/{claim.id}/{key}": value for key, value in entry.items()}
    return values


def full_text(claim: Claim, comparison: Comparison) -> str:
    return claim.text.replace("{anomalies}", comparison.anomalies or "anomalies")


def address(path: str, variant: str, comparison: Comparison) -> str | None:
    """`probe:digits-vicreg#probe/confusion`; None where the comparison had no such artifact."""
    name, full = path.partition("/")[0], comparison.full(variant)
    if not comparison.versions(full, name):
        return None
    return f"{name}:{alias(name, full, comparison.anomalies)}#{path}"


def table(claims: Sequence[Claim], decisions: Sequence[Decision], comparison: Comparison) -> pd.DataFrame:
    rows = [
        (claim.id, full_text(claim, comparison), claim.who, decision.verdict, decision.why)
        for claim, decision in zip(claims, decisions, strict=True)
    ]
    return pd.DataFrame(rows, columns=["id", "claim", "who", "verdict", "why"])


def listing(rows: pd.DataFrame) -> str:
    """One line a claim."""
    width = rows["id"].str.len().max()
    return "\n".join(f"{row.verdict:<13}  {row.id:<{width}}  {row.why}" for row in rows.itertuples())


def verdicts_figure(claims: Sequence[Claim], decisions: Sequence[Decision]) -> go.Figure:
    """How far each compared quantity lies on the side that its claim needs; a claim of several comparisons has several rows."""
    rows: dict[str, Finding] = {}
    for claim, decision in zip(claims, decisions, strict=True):
        for place, finding in enumerate(decision.findings, start=1):
            rows[claim.id if len(decision.findings) == 1 else f"{claim.id} ({place})"] = finding
    traces = []
    for verdict, color in COLORS.items():
        points = {
            row: ends for row, finding in rows.items() if finding.verdict == verdict and (ends := margin(finding))
        }
        value, below, above = ([ends[place] for ends in points.values()] for place in range(3))
        marker = {"color": color, "symbol": SYMBOLS[verdict], "size": 10}
        reach = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color}
        traces.append(go.Scatter(x=value, y=list(points), name=verdict, mode="markers", marker=marker, error_x=reach))
    without = [row for row, finding in rows.items() if margin(finding) is None]
    words = {"mode": "text", "text": ["not measured"] * len(without), "textposition": "middle right"}
    traces.append(go.Scatter(x=[0.0] * len(without), y=without, showlegend=False, **words))
    for trace in traces:
        trace.hovertext = ["<br>".join(textwrap.wrap(rows[row].why, 80)) for row in trace.y]
    chart = figure(
        "The claims: measured, against what each needs",
        "past what the claim needs, as a share (right: met)",
        "",
        traces,
    )
    chart.update_traces(hoverinfo="text+y").update_layout(
        height=160 + 20 * len(rows),
        margin={"t": 90},
        title={"yref": "container", "y": 0.985, "yanchor": "top"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    chart.update_yaxes(categoryorder="array", categoryarray=list(rows), range=[len(rows) - 0.5, -0.5], automargin=True)
    return chart.update_xaxes(zeroline=True, zerolinecolor="black", zerolinewidth=2)


def margin(finding: Finding) -> tuple[float, float, float] | None:
    """How far the quantity lies past the threshold, positive where that is what the claim needs, and how far its range goes
    below and above that; None where nothing was measured. In shares of the largest of the figures compared."""
    quantity, inequality = finding.quantity, finding.inequality
    if isinstance(quantity, str):
        return None
    parts = [quantity] if inequality.join == "/" else [quantity, *(part for _, part in finding.parts)]
    values = [value for part in parts for value in (part.value, *(part.ends or ()))]
    scale = max(abs(value) for value in (*values, inequality.threshold)) or 1.0
    side = 1 if inequality.sign.startswith(">") else -1
    ends = quantity.ends or (quantity.value, quantity.value)
    value, low, high = (side * (number - inequality.threshold) / scale for number in (quantity.value, *ends[::side]))
    # The interval of a resampled quantity need not hold the quantity itself.
    return value, max(value - low, 0.0), max(high - value, 0.0)


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
