"""Gives each claim of a study its verdict: holds, does not hold, not decided. The claims stand in eval/studies/STUDY/claims.yaml.

It reads the comparison of the variants and measures nothing itself.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from eval.evidence.readings import SCORES, alias
from eval.evidence.rules import Decision, Finding, Measurements, Rule, Verdict, decide, parse
from eval.studies.all import get_study
from train.data.scores import Scores, Value
from train.tracking import LATER, Command, Problem, Stage
from train.tracking.panels import PALETTE, figure
from train.tracking.problem import one_line

FILE = Path("claims.yaml")  # in the folder of a study
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
            raise Problem(f"the study {self.study!r} makes no claims; write them to eval/studies/{self.study}/{FILE}")

    @property
    def text(self) -> str:
        """The file of the claims."""
        file = get_study(self.study).claims
        assert file is not None
        return file.read_text()

    def fingerprint(self) -> str:
        return self.text


@dataclass(frozen=True)
class Claim:
    """An entry of the claims file. number: in the exercise's list of claims, None where it is ours.

    question: of the exercise, 0 for the floors. panels: (path, variant) of each.
    """

    id: str
    number: int | None
    question: int
    text: str
    who: str
    measured: str
    rule: Rule
    panels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Claims:
    """seedless: the variants and metric paths that depend on no seed."""

    seedless: frozenset[str]
    entries: tuple[Claim, ...]


def main(config: Config) -> None:
    claims = read(config.text)
    with Stage("eval.claims", config) as stage:
        source = stage.fetch("compare", config.compare)
        stage.about(source)
        values = Scores.load(source.folder).values
        measurements = Measurements(values, claims.seedless)
        decisions = [decide(claim.rule, measurements) for claim in claims.entries]
        shown = table(claims.entries, decisions, measurements)
        scores = Scores(
            verdicts(claims.entries, decisions, measurements),
            {"claims/verdicts": verdicts_figure(claims.entries, decisions)},
        )
        scores.log(stage)
        stage.panel("claims/table", shown)
        stage.publish("claims", scores.save, get_study(config.study).fields(str(stage.dataset)))
    print(listing(shown))


def verdicts(claims: Sequence[Claim], decisions: Sequence[Decision], measurements: Measurements) -> dict[str, Value]:
    """The scores to publish: what was claimed, the verdict, and the figures that it was taken from."""
    values: dict[str, Value] = {"claims/ids": [claim.id for claim in claims]}
    for claim, decision in zip(claims, decisions, strict=True):
        entry: dict[str, Value] = {
            "number": claim.number,
            "question": claim.question,
            "text": worded(claim.text, measurements),
            "who": claim.who,
            "measured": claim.measured,
            "verdict": decision.verdict,
            "why": decision.why,
            "figures": decision.figures,
            "panels": [link for path, variant in claim.panels if (link := address(path, variant, measurements))],
        }
        values |= {f"claims/{claim.id}/{key}": value for key, value in entry.items()}
    return values


def worded(text: str, measurements: Measurements) -> str:
    return text.replace("{anomalies}", measurements.anomalies or "anomalies")


def address(path: str, variant: str, measurements: Measurements) -> str | None:
    """`probe:digits-vicreg#probe/confusion`; None where the comparison had no such artifact."""
    name, full = path.partition("/")[0], measurements.full(variant)
    if not measurements.values.get(f"compare/source/{full}/{name}"):
        return None
    return f"{name}:{alias(name, full, measurements.anomalies)}#{path}"


def table(claims: Sequence[Claim], decisions: Sequence[Decision], measurements: Measurements) -> pd.DataFrame:
    rows = [
        (claim.id, worded(claim.text, measurements), claim.who, decision.verdict, decision.why)
        for claim, decision in zip(claims, decisions, strict=True)
    ]
    return pd.DataFrame(rows, columns=["id", "claim", "who", "verdict", "why"])


def listing(shown: pd.DataFrame) -> str:
    """One line a claim."""
    width = shown["id"].str.len().max()
    return "\n".join(f"{row.verdict:<13}  {row.id:<{width}}  {row.why}" for row in shown.itertuples())


def verdicts_figure(claims: Sequence[Claim], decisions: Sequence[Decision]) -> go.Figure:
    """How far each compared quantity lies on the side that its claim needs; a claim of several comparisons has several rows."""
    rows: dict[str, Finding] = {}
    for claim, decision in zip(claims, decisions, strict=True):
        for place, finding in enumerate(decision.findings, start=1):
            rows[claim.id if len(decision.findings) == 1 else f"{claim.id} ({place})"] = finding
    traces = []
    for verdict, color in COLORS.items():
        points = {row: ends for row, found in rows.items() if found.verdict == verdict and (ends := margin(found))}
        value, below, above = ([ends[place] for ends in points.values()] for place in range(3))
        marker = {"color": color, "symbol": SYMBOLS[verdict], "size": 10}
        reach = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color}
        traces.append(go.Scatter(x=value, y=list(points), name=verdict, mode="markers", marker=marker, error_x=reach))
    unmeasured = [row for row, found in rows.items() if margin(found) is None]
    words = {"mode": "text", "text": ["not measured"] * len(unmeasured), "textposition": "middle right"}
    traces.append(go.Scatter(x=[0.0] * len(unmeasured), y=unmeasured, showlegend=False, **words))
    for trace in traces:
        trace.hovertext = ["<br>".join(textwrap.wrap(rows[row].why, 80)) for row in trace.y]
    drawn = figure(
        "The claims: measured, against what each needs",
        "past what the claim needs, as a share (right: met)",
        "",
        traces,
    )
    drawn.update_traces(hoverinfo="text+y").update_layout(
        height=160 + 20 * len(rows),
        margin={"t": 90},
        title={"yref": "container", "y": 0.985, "yanchor": "top"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    drawn.update_yaxes(categoryorder="array", categoryarray=list(rows), range=[len(rows) - 0.5, -0.5], automargin=True)
    return drawn.update_xaxes(zeroline=True, zerolinecolor="black", zerolinewidth=2)


def margin(finding: Finding) -> tuple[float, float, float] | None:
    """How far the quantity lies past the threshold, positive where that is what the claim needs, and how far its range goes
    below and above that; None where nothing was measured. In shares of the largest of the figures compared."""
    estimate, comparison = finding.estimate, finding.comparison
    if isinstance(estimate, str):
        return None
    compared = [estimate] if comparison.join == "/" else [estimate, *(part for _, part in finding.parts)]
    reached = [value for part in compared for value in (part.value, *(part.ends or ()))]
    scale = max(abs(value) for value in (*reached, comparison.threshold)) or 1.0
    side = 1 if comparison.sign.startswith(">") else -1
    ends = estimate.ends or (estimate.value, estimate.value)
    value, low, high = (side * (number - comparison.threshold) / scale for number in (estimate.value, *ends[::side]))
    # The interval of a resampled quantity need not hold the quantity itself.
    return value, max(value - low, 0.0), max(high - value, 0.0)


# -- the claims file ---------------------------------------------------------------------------------------------------


def read(text: str) -> Claims:
    """Raises Problem, naming the entry, where something is wrong in a claims file."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Problem(f"{FILE.name} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise Problem(f"{FILE.name} has no list of claims; give it claims: and seedless:")
    entries: dict[str, Claim] = {}
    for place, entry in enumerate(content["claims"], start=1):
        name = repr(entry["id"]) if isinstance(entry, dict) and "id" in entry else f"{place} of the list"
        try:
            claim = read_entry(entry)
            if claim.id in entries:
                raise ValueError("its id is taken; give each entry one of its own")
        except ValueError as error:
            raise Problem(f"{FILE.name}, claim {name}: {error}") from error
        entries[claim.id] = claim
    return Claims(frozenset(map(str, content.get("seedless") or ())), tuple(entries.values()))


def read_entry(entry: Any) -> Claim:
    """Raises ValueError, with what is wrong in words."""
    words = ("id", "text", "who", "measured")
    needed = {*words, "question", "rule", "panels"}
    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r} is no entry; give it {', '.join(sorted(needed))}")
    for wrong, what in ((needed - set(entry), "misses"), (set(entry) - needed - {"number"}, "has unknown")):
        if wrong:
            raise ValueError(f"{what} {', '.join(sorted(map(str, wrong)))}")
    for word in words:
        if not isinstance(entry[word], str) or not entry[word].strip():
            raise ValueError(f"{word}: {entry[word]!r} is no text; write some, in quotes where it looks like a number")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry["id"]):
        raise ValueError("an id is words of small letters and digits, joined by hyphens")
    number, question = entry.get("number"), entry["question"]
    if question not in range(14) or isinstance(question, bool):
        raise ValueError(f"question {question!r} is none of the exercise's; give 1 to 13, or 0 for the floors")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise ValueError(f"number {number!r} is no number of a claim; give an integer, or leave it out")
    panels = entry["panels"] if isinstance(entry["panels"], list) else [entry["panels"]]
    return Claim(
        entry["id"],
        number,
        question,
        entry["text"].strip(),
        entry["who"].strip(),
        entry["measured"].strip(),
        parse(entry["rule"]),
        tuple(read_panel(panel) for panel in panels),
    )


def read_panel(given: object) -> tuple[str, str]:
    found = re.fullmatch(r"([\w/]+) of ([\w.-]+)", str(given))
    if found is None or found[1].partition("/")[0] not in SCORES:
        raise ValueError(f"{given!r} is no panel of {', '.join(SCORES)}; write for instance: probe/confusion of vicreg")
    return found[1], found[2]


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
