"""eval.claims: the claims file, and a verdict on each claim through the real store."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import plotly.graph_objects as go
import pytest
import yaml

from eval import claims
from eval.evidence.claims import Claims
from eval.evidence.comparison import Comparison
from eval.evidence.rules import Group, Inequality, Measurements, Rule, decide
from tests.parts.artifacts import refusal
from tests.parts.comparisons import BySeed, comparison_values
from tests.parts.embeddings import NoConfig
from train.data.scores import Scores, Value
from train.tracking import Stage
from train.tracking.store import Store

# Every path that eval.compare finds in what the stages publish and that a claim may name.
MEASURES = {
    "probe/top1",
    "probe/features/top1",
    "probe/chance",
    "probe/per_class",
    "probe/pairs",
    *(f"training/{term}/{rise}" for term in ("invariance", "variance", "covariance") for rise in ("rise", "late_rise")),
    "project/pca/purity",
    "project/tsne/purity",
    "project/purity/gain",
    "project/pca/first",
    "project/pca/both",
    "project/pca/elongation",
    "project/pca/line",
    "collapse/effective_rank",
    "collapse/std",
    "retrieve/precision@5",
    "retrieve/color",
    "retrieve/background",
    "retrieve/hubness",
    "anomaly/auc",
    "anomaly/most/count",
    "anomaly/most/anomalies",
    "anomaly/most/pixels",
    "anomaly/most/distance",
    "cluster/silhouette/clusters",
    "cluster/silhouette/classes",
    "cluster/silhouette/gain",
    "cluster/purity",
    "cluster/nmi",
    "cluster/ari",
}
PANELS = {
    *(f"probe/{name}" for name in ("confusion", "per_class")),
    *(f"project/{name}" for name in ("pca", "tsne")),
    *(f"training/{name}" for name in ("invariance", "variance", "covariance", "collapse")),
    *(f"retrieve/{name}" for name in ("nearest", "farthest")),
    *(f"anomaly/{name}" for name in ("roc", "most", "scores")),
    *(f"cluster/{name}" for name in ("clusters", "classes")),
}
QUESTIONS = range(14)  # of the study: its chapters, and 0 for the floors
VARIANTS = {"untrained", "pixels", "patches", "vicreg", "vicreg-variance0", "vicreg-neighbors", "eigenmaps"}

# -- the claims file ---------------------------------------------------------------------------------------------------

ENTRY = {
    "id": "probe-reaches-60",
    "question": 3,
    "text": "A linear probe reaches 60 %",
    "who": "A",
    "measured": "test accuracy",
    "rule": "probe/top1 of vicreg >= 60 %",
    "panels": ["probe/confusion of vicreg"],
}


def content(*entries: object) -> str:
    return yaml.safe_dump({"seedless": ["pixels"], "claims": list(entries)})


@pytest.fixture
def error(tmp_path: Path) -> Callable[[str], str]:
    """The line that a claims file of this content is refused with."""

    def error(text: str) -> str:
        path = tmp_path / "claims.yaml"
        path.write_text(text)
        line = refusal(lambda: Claims.load(path, QUESTIONS))
        assert line.startswith("claims.yaml")
        return line

    return error


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rule": "probe/top1 of vicreg = 60 %"}, "rule: 'probe/top1 of vicreg = 60 %' is not a rule"),
        ({"rule": {"all": ["better"]}}, "rule: 'better' is not a rule"),
        ({"rulle": "x"}, "rulle: is not a key; write one of id, number, question,"),
        ({"question": 14}, "question: the study has no question 14; give one of 0, 1, 2,"),
        ({"question": True}, "question: True is not an integer"),
        ({"number": "one"}, "number: 'one' is not an integer"),
        ({"text": ""}, "text: '' is empty"),
        ({"text": " "}, "text: ' ' is empty"),
        ({"who": 7}, "who: 7 is not a text"),
        ({"panels": ["confusion of vicreg"]}, "panels: 'confusion of vicreg' is not a panel"),
        ({"panels": "images/samples of vicreg"}, "panels: 'images/samples of vicreg' is not a panel"),
    ],
)
def test_a_wrong_entry_is_named_with_its_key_in_one_line(
    change: dict[str, object], text: str, error: Callable[[str], str]
) -> None:
    assert f"claims.yaml, claim 'probe-reaches-60': {text}" in error(content(ENTRY | change))


def test_a_claims_file_that_is_none_is_refused(error: Callable[[str], str]) -> None:
    assert "claim 'probe-reaches-60': id: two entries have it" in error(content(ENTRY, ENTRY))
    assert "claim 'Probe reaches': id: 'Probe reaches' is not an id" in error(content(ENTRY | {"id": "Probe reaches"}))
    without = {key: value for key, value in ENTRY.items() if key not in ("rule", "who")}
    line = error(content(ENTRY, without | {"id": "other"}))
    assert "claim 'other': who: is missing; rule: is missing" in line
    assert "claim 2 of the list: 'x' is not an entry" in error(content(ENTRY, "x"))
    assert "claims: None is not a list of claims" in error("claims:")
    assert "claims: is missing" in error("seedless: []")
    assert "claimss: is not a key" in error(content(ENTRY) + "claimss: []")
    assert "seedless: 3 is not a text" in error(yaml.safe_dump({"seedless": [3], "claims": [ENTRY]}))
    assert "'x' is not an entry" in error("x")
    assert "is not YAML" in error("claims: [\n  {")


def test_a_claims_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nothing.yaml cannot be read" in refusal(lambda: Claims.load(tmp_path / "nothing.yaml", QUESTIONS))


def real() -> Claims:
    return claims.Config("shapes").claims


def inequalities(rule: Rule) -> list[Inequality]:
    if isinstance(rule, Group):
        return [part for group in rule.parts for part in inequalities(group)]
    return [rule] if isinstance(rule, Inequality) else []


def test_every_claim_of_the_exercise_has_its_entry_and_names_what_the_stages_publish() -> None:
    entries = real().claims
    assert {claim.number for claim in entries} == {None, *range(1, 18)}
    assert {claim.number is None for claim in entries if claim.question == 0} == {True}
    terms = [(claim.id, term) for claim in entries for part in inequalities(claim.rule) for term in part.terms]
    assert {(name, term) for name, term in terms if re.sub(r"\[.*", "", term.measure) not in MEASURES} == set()
    assert {term.variant for _, term in terms} == VARIANTS
    panels = {panel for claim in entries for panel in claim.panels}
    assert {panel for panel in panels if panel[0] not in PANELS or panel[1] not in VARIANTS} == set()
    assert real().seedless <= MEASURES | VARIANTS
    assert not any("{" in claims.full_text(claim, Comparison(comparison_values({}))) for claim in entries)


# -- the stage ---------------------------------------------------------------------------------------------------------


def publish(values: Mapping[str, Value]) -> None:
    with Stage("eval.compare", NoConfig()) as stage:
        stage.dataset = "shapes"
        stage.publish("compare", Scores(dict(values)).save, {"dataset": "shapes"})


def result() -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("claims", "shapes")))


def example() -> dict[str, Value]:
    measures: dict[str, BySeed] = {
        "probe/top1": {
            "vicreg": ([0.67, 0.68], [0.66, 0.69]),
            "untrained": ([0.43], [0.42, 0.44]),
            "vicreg-variance0": ([0.15], [0.14, 0.16]),
        },
        "probe/chance": {"vicreg-variance0": ([0.1], None)},
        "anomaly/auc": {"vicreg": ([0.77], [0.76, 0.78]), "untrained": ([0.99], [0.98, 1.0])},
        "collapse/effective_rank": {"vicreg": ([35.0], None), "vicreg-variance0": ([4.0], None)},
    }
    sources = {f"compare/source/shapes-vicreg/{name}": [f"{name}:v0"] for name in ("probe", "anomaly")}
    return comparison_values(measures, {("probe/top1", "untrained", "vicreg"): (-0.245, [-0.26, -0.23])}) | sources


def decisions(values: Mapping[str, Value]) -> tuple[dict[str, Value], go.Figure]:
    """Scores and figure of the real claims, without a run."""
    file, comparison = real(), Comparison(values)
    decisions = [decide(claim.rule, Measurements(comparison, file.seedless)) for claim in file.claims]
    return claims.entries(file.claims, decisions, comparison), claims.verdicts_figure(file.claims, decisions)


def test_every_claim_gets_a_verdict_from_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    publish(example())
    claims.main(claims.Config("shapes"))
    values = result().values
    ids = [claim.id for claim in real().claims]
    assert values["claims/ids"] == ids
    expected = {
        "probe-reaches-60": "holds",
        "without-variance-near-chance": "holds",
        "without-variance-fewer-dimensions": "not decided",
        "vicreg-over-untrained": "holds",
        "vicreg-detector-over-untrained": "does not hold",
    }
    verdicts = {name: values[f"claims/{name}/verdict"] for name in ids}
    assert verdicts == dict.fromkeys(ids, "not decided") | expected

    *lines, finding, _ = capsys.readouterr().out.splitlines()[-len(ids) - 2 :]
    counts = [list(verdicts.values()).count(verdict) for verdict in ("holds", "does not hold", "not decided")]
    assert [int(count) for count in re.findall(r"\d+", finding.partition(": ")[2])] == counts
    assert [line.split("  ")[0] for line in lines] == list(verdicts.values())
    assert [str(values[f"claims/{name}/why"]) in line for name, line in zip(ids, lines, strict=True)] == [True] * len(
        ids
    )
    assert values["claims/vicreg-over-untrained/figures"] == [
        ["probe/top1 of vicreg", pytest.approx(0.675), [0.66, 0.69]],
        ["probe/top1 of untrained", 0.43, [0.42, 0.44]],
        ["difference", 0.245, [0.23, 0.26]],
    ]
    assert values["claims/probe-reaches-60/question"] == 3
    assert values["claims/probe-reaches-60/who"] == "A: 72 %, B: 62.68 %"


def test_panels_are_linked_where_the_comparison_had_the_artifact() -> None:
    values, _ = decisions(example())
    assert values["claims/probe-reaches-60/panels"] == ["probe:shapes-vicreg#probe/confusion"]
    assert values["claims/vicreg-the-better-detector/panels"] == ["anomaly:shapes-vicreg-vs-mnist#anomaly/roc"]
    assert values["claims/vicreg-the-better-detector/text"] == (
        "As a detector of mnist, VICReg is better than the neighbor variant"
    )
    assert values["claims/tsne-over-pca/panels"] == []


def test_the_figure_puts_a_decided_range_on_one_side_of_zero() -> None:
    _, figure = decisions(example())
    rows = {}
    for trace in figure.data[:3]:
        arrays = (trace.x, trace.error_x.arrayminus, trace.error_x.array)
        for row, value, below, above in zip(trace.y, *arrays, strict=True):
            rows[row] = trace.name, value - below, value, value + above
    scale = 0.69  # the largest of the figures compared, intervals included
    assert rows["vicreg-over-untrained"][0] == "holds"
    assert rows["vicreg-over-untrained"][1:] == pytest.approx([0.23 / scale, 0.245 / scale, 0.26 / scale])
    assert rows["without-variance-near-chance"][1:] == pytest.approx([0.4 / 2, 0.5 / 2, 0.6 / 2])
    for name, low, value, high in rows.values():
        side = "holds" if low > 0 else "does not hold" if high < 0 else "not decided"
        assert name == side or (name == "not decided" and low == value == high), "a single seed has no range"
    absent = set(figure.data[3].y)
    assert "tsne-over-pca" in absent
    assert absent.isdisjoint(rows)


def test_a_rerun_makes_no_new_version_and_other_measurements_do() -> None:
    publish(example())
    for _ in range(2):
        claims.main(claims.Config("shapes"))
    assert len(Store().versions("claims")) == 1
    publish(comparison_values({"probe/top1": {"vicreg": ([0.5, 0.51], [0.49, 0.52])}}))
    claims.main(claims.Config("shapes"))
    assert len(Store().versions("claims")) == 2
    assert result().values["claims/probe-reaches-60/verdict"] == "does not hold"


def test_an_unknown_comparison_is_named_with_its_cure() -> None:
    line = refusal(lambda: claims.main(claims.Config("nothing")))
    assert "nothing" in line
    assert "python -m eval.compare" in line
