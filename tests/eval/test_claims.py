"""eval.claims: the claims file, and a verdict on each claim through the real store."""

import re
from collections.abc import Mapping

import plotly.graph_objects as go
import pytest
import yaml

from eval import claims
from eval.evidence.rules import Comparison, Group, Measurements, decide
from tests.parts.artifacts import refusal
from tests.parts.comparisons import Found, compared
from tests.parts.embeddings import Made
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


def file(*entries: object) -> str:
    return yaml.safe_dump({"seedless": ["pixels"], "claims": list(entries)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule": "probe/top1 of vicreg = 60 %"}, "'probe-reaches-60': 'probe/top1 of vicreg = 60 %' is no rule"),
        ({"rule": {"all": ["better"]}}, "'probe-reaches-60': 'better' is no rule"),
        ({"rulle": "x"}, "'probe-reaches-60': has unknown rulle"),
        ({"id": "Probe reaches"}, "'Probe reaches': an id is words of small letters"),
        ({"question": 14}, "question 14 is none"),
        ({"question": True}, "question True is none"),
        ({"number": "one"}, "number 'one' is no number"),
        ({"text": ""}, "text: '' is no text"),
        ({"who": 7}, "who: 7 is no text"),
        ({"panels": ["confusion of vicreg"]}, "'confusion of vicreg' is no panel"),
        ({"panels": "images/samples of vicreg"}, "'images/samples of vicreg' is no panel"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(change: dict[str, object], said: str) -> None:
    assert said in refusal(lambda: claims.read(file(ENTRY | change)))


def test_a_claims_file_that_is_none_is_refused() -> None:
    assert "claim 'probe-reaches-60': its id is taken" in refusal(lambda: claims.read(file(ENTRY, ENTRY)))
    without = {key: value for key, value in ENTRY.items() if key not in ("rule", "who")}
    assert "'probe-reaches-60': misses rule, who" in refusal(lambda: claims.read(file(without)))
    assert "claim 2 of the list: 'x' is no entry" in refusal(lambda: claims.read(file(ENTRY, "x")))
    assert "no list of claims" in refusal(lambda: claims.read("claims:"))
    assert "no YAML" in refusal(lambda: claims.read("claims: [\n  {"))


def real() -> claims.Claims:
    return claims.read(claims.Config("shapes").text)


def comparisons(rule: Comparison | Group) -> list[Comparison]:
    return [rule] if isinstance(rule, Comparison) else [found for part in rule.parts for found in comparisons(part)]


def test_every_claim_of_the_exercise_has_its_entry_and_names_what_the_stages_publish() -> None:
    entries = real().entries
    assert {claim.number for claim in entries} == {None, *range(1, 18)}
    assert {claim.number is None for claim in entries if claim.question == 0} == {True}
    terms = [(claim.id, term) for claim in entries for found in comparisons(claim.rule) for term in found.terms]
    assert {(name, term) for name, term in terms if re.sub(r"\[.*", "", term.measure) not in MEASURES} == set()
    assert {term.variant for _, term in terms} == VARIANTS
    panels = {panel for claim in entries for panel in claim.panels}
    assert {panel for panel in panels if panel[0] not in PANELS or panel[1] not in VARIANTS} == set()
    assert real().seedless <= MEASURES | VARIANTS
    assert not any("{" in claims.worded(claim.text, Measurements(compared({}))) for claim in entries)


# -- the stage ---------------------------------------------------------------------------------------------------------


def publish(values: Mapping[str, Value]) -> None:
    with Stage("eval.compare", Made()) as stage:
        stage.dataset = "shapes"
        stage.publish("compare", Scores(dict(values)).save, {"dataset": "shapes"})


def result() -> Scores:
    store = Store()
    return Scores.load(store.folder(store.get("claims", "shapes")))


def example() -> dict[str, Value]:
    measures: dict[str, Found] = {
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
    return compared(measures, {("probe/top1", "untrained", "vicreg"): (-0.245, [-0.26, -0.23])}) | sources


def decided(values: Mapping[str, Value]) -> tuple[dict[str, Value], go.Figure]:
    """Scores and figure of the real claims, without a run."""
    entries, measurements = real().entries, Measurements(values, real().seedless)
    decisions = [decide(claim.rule, measurements) for claim in entries]
    return claims.verdicts(entries, decisions, measurements), claims.verdicts_figure(entries, decisions)


def test_every_claim_gets_a_verdict_from_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    publish(example())
    claims.main(claims.Config("shapes"))
    values = result().values
    ids = [claim.id for claim in real().entries]
    assert values["claims/ids"] == ids
    expected = {
        "probe-reaches-60": "holds",
        "without-variance-near-chance": "holds",
        "without-variance-fewer-dimensions": "not decided",
        "vicreg-over-untrained": "holds",
        "vicreg-detector-over-untrained": "does not hold",
    }
    found = {name: values[f"claims/{name}/verdict"] for name in ids}
    assert found == dict.fromkeys(ids, "not decided") | expected

    lines = capsys.readouterr().out.splitlines()[-len(ids) :]
    assert [line.split("  ")[0] for line in lines] == list(found.values())
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
    values, _ = decided(example())
    assert values["claims/probe-reaches-60/panels"] == ["probe:shapes-vicreg#probe/confusion"]
    assert values["claims/vicreg-the-better-detector/panels"] == ["anomaly:shapes-vicreg-vs-mnist#anomaly/roc"]
    assert values["claims/vicreg-the-better-detector/text"] == (
        "As a detector of mnist, VICReg is better than the neighbor variant"
    )
    assert values["claims/tsne-over-pca/panels"] == []


def test_the_figure_puts_a_decided_range_on_one_side_of_zero() -> None:
    _, figure = decided(example())
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
    unmeasured = set(figure.data[3].y)
    assert "tsne-over-pca" in unmeasured
    assert unmeasured.isdisjoint(rows)


def test_a_rerun_makes_no_new_version_and_other_measurements_do() -> None:
    publish(example())
    for _ in range(2):
        claims.main(claims.Config("shapes"))
    assert len(Store().versions("claims")) == 1
    publish(compared({"probe/top1": {"vicreg": ([0.5, 0.51], [0.49, 0.52])}}))
    claims.main(claims.Config("shapes"))
    assert len(Store().versions("claims")) == 2
    assert result().values["claims/probe-reaches-60/verdict"] == "does not hold"


def test_an_unknown_comparison_is_named_with_its_cure() -> None:
    line = refusal(lambda: claims.main(claims.Config("nothing")))
    assert "nothing" in line
    assert "python -m eval.compare" in line
