"""Scores of the right file and the wrong value, pulled from anywhere: the page is not made, and one line says which and why."""

from typing import Any

import PIL.Image
import pytest

from eval import report
from eval.claims import Config as ClaimsConfig
from eval.claims import main as decide
from eval.labbook.thumbnails import WIDEST, address
from tests.parts.artifacts import refusal
from tests.parts.comparisons import comparison_values
from tests.parts.shapes import (
    FULL,
    collect,
    evidence,
    publish,
    publish_claims,
    publish_compare,
    publish_images,
    publish_scores,
)
from train.data.scores import Scores
from train.tracking.store import home


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("probe", {"probe/top1": [0.5]}),
        ("probe", {"probe/top1": "0.5"}),
        ("probe", {"probe/top1": True}),
        ("probe", {"probe/top1/interval": [0.5]}),
        ("probe", {"probe/top1/interval": ["0.4", "0.6"]}),
        ("probe", {"probe/per_class": 0.5}),
        ("probe", {"probe/per_class": ["a", "b", "c"]}),
        ("probe", {"probe/confused": [["cat", "dog"]]}),
        ("probe", {"probe/pairs": [["cat", "dog", None]]}),
        ("project", {"project/pca/explained": 0.5}),
        ("project", {"project/pca/explained": [None, 0.2]}),
        ("retrieve", {"retrieve/queries": [36]}),
        ("retrieve", {"retrieve/queries": [-1]}),
        ("retrieve", {"retrieve/queries": "012"}),
        ("anomaly", {"anomaly/against": 3}),
        ("anomaly", {"anomaly/k": "2"}),
        ("anomaly", {"anomaly/most": [{"row": 3}]}),
        ("training", {"training/epochs": {"a": 1}}),
        ("cluster", {"cluster/k": [3]}),
    ],
)
def test_a_value_of_another_kind_makes_no_page(name: str, values: dict[str, Any]) -> None:
    publish_images()
    publish_scores(name, evidence(FULL, 0.5)[name].values | values, FULL)
    line, path = refusal(lambda: collect((FULL,))), next(iter(values))
    assert f"{name}-v0" in line and (path in line or "is none of the 36 training images" in line)


@pytest.mark.parametrize(
    "values",
    [
        {"probe/top1/shapes-vicreg/mean": "0.5"},
        {"probe/top1/shapes-vicreg/seeds": 0.5},
        {"probe/top1/shapes-vicreg/seeds": [0.5, None]},
        {"probe/top1/shapes-vicreg/interval": [0.5]},
        {"probe/classes/shapes-vicreg/seeds": [["cat", 3]]},
        {"compare/source/shapes-vicreg/probe": "probe:v0"},
        {"compare/anomalies": ["letters"]},
        {"compare/variants": "shapes-vicreg"},
    ],
)
def test_a_comparison_of_other_values_makes_no_page_and_no_verdict(values: dict[str, Any]) -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": 0.5}, FULL)
    sound = comparison_values({"probe/top1": {"vicreg": ([0.5], [0.4, 0.6])}}, anomalies="letters")
    publish_compare(sound | values)
    path = next(iter(values))
    assert path in refusal(lambda: collect((FULL,)))
    assert path in refusal(lambda: decide(ClaimsConfig("shapes")))


@pytest.mark.parametrize(
    "values",
    [
        {"compare/variants": None},
        {"probe/per_class/shapes-vicreg/seeds": [[0.5]], "probe/classes/shapes-vicreg/seeds": [["cat", "dog"]]},
        {"probe/per_class/shapes-vicreg/seeds": [[0.5]] * 2, "probe/classes/shapes-vicreg/seeds": [["cat"], ["dog"]]},
    ],
)
def test_a_comparison_whose_parts_do_not_fit_together_has_no_verdict(values: dict[str, Any]) -> None:
    sound = comparison_values({"probe/top1": {"vicreg": ([0.5], [0.4, 0.6])}})
    publish(
        "compare",
        Scores({key: value for key, value in (sound | values).items() if value is not None}),
        None,
        {"dataset": "shapes"},
    )
    assert "compare-v0" in refusal(lambda: decide(ClaimsConfig("shapes")))


@pytest.mark.parametrize("field", [{"verdict": 3}, {"text": None}, {"panels": "x"}, {"question": "3"}, {"who": ["x"]}])
def test_a_claim_of_other_values_makes_no_page(field: dict[str, Any]) -> None:
    publish_images()
    publish_scores("probe", {"probe/top1": 0.5}, FULL)
    sound: dict[str, Any] = {
        "number": 1,
        "question": 3,
        "text": "It is.",
        "who": "us",
        "verdict": "holds",
        "why": "so",
        "panels": [],
    }
    publish_claims({"one": sound})
    collect((FULL,))
    publish_claims({"one": sound | field})
    assert f"claims/one/{next(iter(field))}" in refusal(lambda: collect((FULL,)))


def test_a_picture_wider_than_webp_can_be_is_on_the_page_all_the_same() -> None:
    assert address(PIL.Image.new("RGB", (WIDEST, 2))).startswith("data:image/webp;")
    assert address(PIL.Image.new("RGB", (WIDEST + 1, 2))).startswith("data:image/png;")


def test_a_folder_where_the_page_is_to_stand_is_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    publish_images()
    publish_scores("probe", evidence(FULL, 0.5)["probe"].values, FULL)
    page = home() / "lab-book.html"
    page.mkdir()
    report.main(report.Config((FULL,)))
    assert page.is_file() and (home() / "lab-book.html.damaged").is_dir()
    assert f"{page} is a folder; it is now {page}.damaged" in capsys.readouterr().out
