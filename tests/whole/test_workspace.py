"""A study's Report and Workspace at W&B, written by wandb-workspaces to a loopback server and read back by it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.labbook import online
from eval.labbook.markup import tag
from tests.loopback import Server
from tests.whole.test_online import Lab

pytest.importorskip("wandb_workspaces")

FULL, NEIGHBORS = "shapes-vicreg", "shapes-vicreg-neighbors"
# Scores of two variants, and the images that they belong to, online.
MAKE = """
import plotly.graph_objects as go
from tests.parts.browser import make_images, probe_scores, publish, publish_images
from train.data.scores import Scores
from train.tracking.panels import figure

publish_images(make_images())
for variant, top1 in (("shapes-vicreg", 0.75), ("shapes-vicreg-neighbors", 0.5)):
    publish("eval.probe", "probe", probe_scores(top1), variant)
    curve = go.Scatter(x=[0, 0.2, 1], y=[0, top1, 1], name="AUC")
    values = {"anomaly/auc": top1, "anomaly/auc/interval": [top1 - 0.05, top1 + 0.05], "anomaly/against": "letters", "anomaly/k": 2}
    publish("eval.anomaly", "anomaly", Scores(values, {"anomaly/roc": figure("ROC", "", "", [curve])}), variant, "letters")
"""
REPORT = ("-m", "eval.report", "--variants", FULL, NEIGHBORS, "--anomalies", "letters", "--wandb", "True")
# What the library's own reader makes of what was saved.
READ = """
import json, sys
import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

report = reports.Report.from_url(sys.argv[1])
workspace = workspaces.Workspace.from_url(sys.argv[2])

def shown(panels):
    return [[type(panel).__name__, getattr(panel, "media_keys", None) or getattr(panel, "metrics", None) or getattr(panel, "table_name", None)] for panel in panels]

def text(block):
    parts = block.text if isinstance(block.text, list) else [block.text]
    return "".join(part if isinstance(part, str) else getattr(part, "text", "") for part in parts)

blocks = [
    [type(block).__name__, [block.runsets[0].name, block.runsets[0].filters, shown(block.panels)]
     if isinstance(block, reports.PanelGrid) else text(block) if hasattr(block, "text") else None]
    for block in report.blocks
]
print(json.dumps(default=repr, obj={
    "title": report.title, "description": report.description, "blocks": blocks, "name": workspace.name,
    "filters": workspace.runset_settings.filters,
    "sections": [[section.name, shown(section.panels)] for section in workspace.sections],
}))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        assert running.unhandled == []


@pytest.fixture(scope="module")
def lab(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    home = tmp_path_factory.mktemp("workspace") / "peel"
    home.mkdir()
    lab = Lab(home, server, {})
    done = lab.python("-c", MAKE)
    assert done.returncode == 0, done.stderr[-3000:]
    return lab


def save(lab: Lab) -> list[str]:
    """The addresses of the Report and of the Workspace."""
    done = lab.python(*REPORT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all("Loaded credentials" in line or "already exists" in line for line in done.stderr.splitlines()), (
        done.stderr
    )
    report, workspace = done.stdout.splitlines()[-2:]
    assert report.startswith(f"{lab.server.base}/loopback/peel/reports/"), done.stdout
    assert workspace.startswith(f"{lab.server.base}/loopback/peel?nw=")
    return [report, workspace]


@pytest.fixture(scope="module")
def addresses(lab: Lab) -> list[str]:
    return save(lab)


@pytest.fixture(scope="module")
def saved(lab: Lab, addresses: list[str]) -> dict[str, Any]:
    done = lab.python("-c", READ, *addresses)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def runs_of(lab: Lab, stage: str) -> set[str]:
    return {run.name for run in lab.server.state.runs.values() if run.job_type == stage}


def ids(filters: str) -> set[str]:
    return set(re.findall(r"'(\w{8})'", filters.replace('"', "'")))


def test_the_report_asks_shows_the_right_runs_answers_and_links(lab: Lab, saved: dict[str, Any]) -> None:
    blocks = saved["blocks"]
    assert saved["title"] == "shapes: lab book" and saved["description"].endswith("report:shapes")
    assert blocks[0] == ["BlockQuote", "What is each part of VICReg for?"]
    at = next(index for index, (kind, text) in enumerate(blocks) if kind == "H2" and text == "3. Linear probe")
    assert "One linear layer" in blocks[at + 1][1] and "The probe classifies 75.0" in blocks[at + 2][1]
    name, filters, panels = blocks[at + 3][1]
    assert name == "Linear probe" and ids(filters) == runs_of(lab, "eval.probe") and len(ids(filters)) == 2
    assert ["MediaBrowser", ["probe/confusion"]] in panels and ["WeavePanelSummaryTable", "probe/predictions"] in panels
    assert any(kind == "BarPlot" and "probe/top1" in str(metrics) for kind, metrics in panels)
    roc = next(content for kind, content in blocks if kind == "PanelGrid" and content[0] == "ROC")
    assert ids(roc[1]) == runs_of(lab, "eval.anomaly") and "CustomChart" in [kind for kind, _ in roc[2]]
    links = blocks[-1][1]
    version = lab.store().get("report", "shapes")
    assert (
        f"[report:v0]({lab.server.base}/loopback/peel/artifacts/report/report/v0)" in links and version.digest in links
    )
    assert all(f"probe:{variant}" in links for variant in (FULL, NEIGHBORS))


def test_the_sections_of_the_workspace_are_the_chapters_of_the_page(lab: Lab, saved: dict[str, Any]) -> None:
    page = (lab.home / "lab-book.html").read_text()
    chapters = re.findall(r'<p class="eyebrow">Question (\d+)</p><h2>([^<]*)</h2>', page)
    names = [name for name, _ in saved["sections"]]
    titles = [*(f"{number}. {title}" for number, title in chapters), "Floors"]
    assert names == [title for title in titles if title in names], "in their order; one that shows nothing is left out"
    assert {"1. Training", "3. Linear probe", "9. ROC"} <= set(names)
    made = set().union(*(runs_of(lab, stage) for stage in ("train.prepare", "eval.probe", "eval.anomaly")))
    assert ids(saved["filters"]) == made


def test_done_again_on_another_machine_it_updates_the_same_two(lab: Lab, addresses: list[str], tmp_path: Path) -> None:
    views = lab.server.state.views
    assert sorted(view.type for view in views.values()) == ["project-view", "runs"]
    (report,) = [view for view in views.values() if view.type == "runs"]
    report.display = "My own title"  # as one renames it in the browser
    before = {view.id: view.spec for view in views.values()}
    report.spec = report.spec.replace("Linear probe", "Damaged")
    other = Lab(tmp_path / "other", lab.server, {})
    other.home.mkdir()
    again = save(other)
    assert views.keys() == before.keys() and again[1] == addresses[1]
    (report,) = [view for view in views.values() if view.type == "runs"]
    assert report.display == "My own title" and "Damaged" not in report.spec and "Linear probe" in report.spec


def test_without_an_account_or_the_extra_it_is_one_line_before_any_work(lab: Lab) -> None:
    offline = lab.python(*REPORT, WANDB_MODE="offline")
    assert offline.returncode == 2 and len(offline.stderr.splitlines()) == 1 and "wandb login" in offline.stderr
    hidden = lab.home / "hidden"
    hidden.mkdir()
    hook = "import sys; sys.modules['wandb_workspaces'] = None"
    code = f"{hook}\nfrom train.tracking.command import answer, stage_command\nanswer('eval.report', lambda: stage_command('eval.report').run({list(REPORT[2:])!r}))"
    without = lab.python("-c", code)
    assert without.returncode == 2, without.stderr
    (line,) = without.stderr.splitlines()
    assert "pip install" in line and online.EXTRA in line


def test_a_part_of_the_page_is_markdown_of_the_same_words() -> None:
    """The words in their order, by a browser's own rule: what stands between tags."""
    verdict = tag("span", "does not hold", class_="verdict")
    words = tag("p", tag("strong", "Better."), " A & B < C")
    items = tag("ul", tag("li", verdict, " ", tag("a", "claim", href="#x")), tag("li", tag("code", "make run")))
    head, row = (
        tag("tr", *(tag(kind, text) for text in texts)) for kind, texts in (("th", "ab"), ("td", ("1|2", "3")))
    )
    content = tag("div", tag("h3", "Answer"), words, items, tag("table", tag("caption", "t"), head, row))
    assert online.markdown(content).splitlines() == [
        "**Better.** A & B < C", "", "- **does not hold** claim", "- `make run`", "",
        "| a | b |", "| --- | --- |", "| 1\\|2 | 3 |",
    ]  # fmt: skip
