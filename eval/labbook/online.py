"""A study at W&B: a Report, which is the lab book in W&B's own panels, and a Workspace whose sections are the chapters.

Both show the runs that made what the page shows, and no others. wandb-workspaces, an extra, writes them. Made again from the
same project, on any machine, they are the same two: the Report is known by the reference of the page at the end of its
description, the Workspace by its address, which is made of that reference. Their names are the reader's to change.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, ClassVar

from eval.labbook import claims
from eval.labbook.answers import answer
from eval.labbook.book import Book
from eval.labbook.chapter import Chapter
from eval.labbook.markup import Html
from train.tracking import Problem, remote
from train.tracking.store import Store
from train.tracking.store.records import Version

EXTRA = "wandb-workspaces"
LONGEST = 128  # characters of a title there
# Logged beside a figure that the page lays over one another: table, and the columns of its axes.
LINES: Mapping[str, tuple[str, str, str]] = {
    "anomaly/roc": ("anomaly/curve", "normal images taken for anomalies", "anomalies found")
}
# What a training logs as it goes, over its axis.
CURVES = (("epoch", "knn/top1"), ("batch", "loss/total"))
TABLES: Mapping[str, str] = {"probe": "probe/predictions"}


@dataclass(frozen=True)
class Project:
    """Where runs and artifacts are. app: the address of W&B's pages."""

    api: Any
    app: str
    entity: str
    name: str

    @property
    def url(self) -> str:
        return f"{self.app}/{self.entity}/{self.name}"


@dataclass(frozen=True)
class Trail:
    """What a version on the page is at W&B: the run that made it, and its address."""

    version: Version
    run: str
    url: str


def check() -> None:
    """Raises Problem where nothing can be saved there."""
    if not remote.online():
        raise Problem(
            "--wandb True saves a Report at W&B, and this run is offline; run wandb login and do not set WANDB_MODE=offline,"
            " or leave it out"
        )
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise Problem(f"--wandb True needs {EXTRA}, an extra; run: {sys.executable} -m pip install -e '.[workspaces]'")


def save(store: Store, book: Book, page: Version) -> tuple[str, str]:
    """The addresses of the Report and of the Workspace, both saved. page: the artifact of the book.

    Raises Problem where W&B does not take them.
    """
    remote.silence()
    with remote.errors_as_problem("W&B did not take the Report"):
        project = _project()
        trails = {
            version.reference: _trail(store, project, version)
            for version in (page, *(source.version for source in book.sources))
        }
        report = remote.while_it_answers(lambda: _save_report(project, book, page, trails))
        workspace = remote.while_it_answers(lambda: _save_workspace(project, book, trails))
    return report, workspace


def _project() -> Project:
    wandb = remote.client()
    api = remote.while_it_answers(lambda: wandb.Api(timeout=15))
    app = wandb.util.app_url(wandb.setup().settings.base_url).rstrip("/")
    return Project(api, app, remote.entity(api), remote.project_name())


def _trail(store: Store, project: Project, version: Version) -> Trail:
    """Raises Problem where it is not in the project."""
    place = remote.place(project.entity, project.name)
    reference = store.remotes(version).get(place)
    if reference is None:
        raise Problem(
            f"{version.reference} is not in {project.entity}/{project.name}; run train.tracking publish first"
        )
    maker = store.maker(version)
    row = maker and store.rows("SELECT 1 FROM published WHERE place = ? AND run = ?", [place, maker.id])
    if maker is not None and row:
        run = maker.id
    else:  # it was pulled
        logged_by = remote.while_it_answers(lambda: project.api.artifact(reference).logged_by())
        run = logged_by.id if logged_by else ""
    number = reference.rpartition(":")[2]
    return Trail(version, run, f"{project.url}/artifacts/{version.type}/{version.name}/{number}")


# -- the Report --------------------------------------------------------------------------------------------------------


def _save_report(project: Project, book: Book, page: Version, trails: Mapping[str, Trail]) -> str:
    reports = importlib.import_module("wandb_workspaces.reports.v2")
    key = f"report:{book.study.alias(book.dataset)}"
    path = f"{project.entity}/{project.name}"
    ids = [report.id for report in project.api.reports(path) if str(report.description or "").split()[-1:] == [key]]
    report = (
        reports.Report.from_url(f"{project.url}/reports/x--{ids[0]}")
        if ids
        else reports.Report(project=project.name, entity=project.entity, title=_title(book))
    )
    report.description = f"{book.study.question} The lab book of {book.dataset}: {key}"
    report.blocks = _blocks(reports, project, book, page, trails)
    report.save()
    return str(report.url)


def _title(book: Book) -> str:
    return f"{book.dataset}: lab book{'' if book.study.default else f' of {book.study.name}'}"[:LONGEST]


def _blocks(reports: Any, project: Project, book: Book, page: Version, trails: Mapping[str, Trail]) -> list[Any]:
    images = book.images
    facts = (
        f"{len(images.train):,} training and {len(images.test):,} test images of {images.size} × {images.size} pixels."
        " The whole page, with every number beside its interval, is the artifact"
    )
    blocks = [
        reports.BlockQuote(book.study.question),
        reports.P([f"{facts} ", reports.Link(page.reference, trails[page.reference].url), "."]),
        reports.TableOfContents(),
    ]
    for chapter in _chapters(book):
        blocks += [reports.H2(_heading(chapter)), reports.P(chapter.question)]
        blocks.append(reports.MarkdownBlock(markdown(answer(book, chapter))))
        grid = panels(reports, book, chapter)
        runs = _runs(book, chapter, trails)
        if grid and runs:
            runset = reports.Runset(
                entity=project.entity, project=project.name, name=chapter.title, filters=_only(runs)
            )
            blocks.append(reports.PanelGrid(runsets=[runset], panels=grid))
    if book.claims:
        blocks += [reports.H2("Claims"), reports.MarkdownBlock(markdown(claims.table(book)))]
    return [*blocks, reports.H2("Artifacts"), reports.MarkdownBlock(_artifacts(book, page, trails))]


def _chapters(book: Book) -> tuple[Chapter, ...]:
    return (*book.study.chapters, *filter(None, [book.study.floors]))


def _heading(chapter: Chapter) -> str:
    return f"{chapter.number}. {chapter.title}" if chapter.number else chapter.title


def panels(reports: Any, book: Book, chapter: Chapter) -> list[Any]:
    """W&B's panels of a chapter: curves laid over one another, pictures and figures by run, numbers as bars. reports:
    wandb_workspaces' module, or that of its workspaces: both have the same panels."""
    grid = []
    artifacts = {panel.artifact for panel in chapter.panels}
    for panel in chapter.panels:
        if panel.path in LINES:
            table, x, y = LINES[panel.path]
            chart = reports.CustomChart.from_table(f"{table}_table", {"x": x, "y": y}, {"title": panel.label})
            chart.chart_name = "wandb/line/v0"
            grid.append(chart)
        else:
            grid.append(reports.MediaBrowser(title=panel.label, media_keys=[panel.path], num_columns=2))
    if "training" in artifacts:
        grid += [reports.LinePlot(title=y, x=x, y=[y]) for x, y in CURVES]
    grid += [
        reports.BarPlot(title=measure.label, metrics=[measure.path])
        for measure in chapter.measures
        if _is_number(book, chapter, measure.artifact, measure.path)
    ]
    grid += [reports.WeavePanelSummaryTable(table_name=TABLES[name]) for name in sorted(artifacts & TABLES.keys())]
    return grid


def _is_number(book: Book, chapter: Chapter, artifact: str, path: str) -> bool:
    values = [book.value(artifact, variant, path) for variant in chapter.variants(book)]
    return any(isinstance(value, int | float) for value in values)


def _runs(book: Book, chapter: Chapter, trails: Mapping[str, Trail]) -> list[str]:
    """Those that made what a chapter shows, in the order of the page."""
    names = dict.fromkeys([*(p.artifact for p in chapter.panels), *(m.artifact for m in chapter.measures)])
    sources = [
        book.evidence[name, variant].source.version.reference
        for name in names
        for variant in chapter.variants(book)
        if (name, variant) in book.evidence
    ]
    return list(dict.fromkeys(trails[reference].run for reference in sources if trails[reference].run))


def _only(runs: Sequence[str]) -> str:
    """W&B's filter for these runs."""
    return f"Metric('ID') in {list(runs)!r}"


def _artifacts(book: Book, page: Version, trails: Mapping[str, Trail]) -> str:
    lines = [f"- [{page.reference}]({trails[page.reference].url}) the page, digest `{page.digest}`"]
    for source in book.sources:
        trail = trails[source.version.reference]
        lines.append(f"- [{source.request}]({trail.url}) digest `{trail.version.digest}`")
    return "\n".join(lines)


class _Markdown(HTMLParser):
    """What the page says, for a block of text: paragraphs, lists, a table; headings are left out, and links are text."""

    BREAKS: ClassVar[Mapping[str, str]] = {"p": "\n\n", "ul": "\n", "li": "\n- ", "table": "\n\n", "summary": "\n\n"}
    SIGNS: ClassVar[Mapping[str, str]] = {"strong": "**", "code": "`"}

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._silent = 0
        self._spans: list[str] = []
        self._cells: list[str] | None = None  # of the row that is being read
        self._rows = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if ("class", "verdict") in attributes:
            tag = "strong"
        if tag in ("span", "strong"):
            self._spans.append(tag)
        if tag in ("h3", "caption"):
            self._silent += 1
        elif tag == "table":
            self._rows = 0
        if tag == "tr":
            self._cells = []
        elif self._cells is not None and tag in ("td", "th"):
            self._cells.append("")
        else:
            self._write(self.BREAKS.get(tag, "") + self.SIGNS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("span", "strong"):
            tag = self._spans.pop()  # a verdict is a span on the page, and strong here
        if tag in ("h3", "caption"):
            self._silent -= 1
        elif tag == "tr" and self._cells is not None:
            cells = [" ".join(cell.replace("|", "\\|").split()) for cell in self._cells]
            self._cells = None
            self._rows += 1
            self._write(f"| {' | '.join(cells)} |\n")
            if self._rows == 1:
                self._write(f"|{' --- |' * len(cells)}\n")
        else:
            self._write(self.SIGNS.get(tag, ""))

    def handle_data(self, data: str) -> None:
        self._write(data)

    def _write(self, text: str) -> None:
        if self._silent:
            return
        if self._cells:
            self._cells[-1] += text
        else:
            self.text += text


def markdown(content: Html) -> str:
    """A part of the page as Markdown."""
    parser = _Markdown()
    parser.feed(content)
    return parser.text.strip()


# -- the Workspace -----------------------------------------------------------------------------------------------------


def _save_workspace(project: Project, book: Book, trails: Mapping[str, Trail]) -> str:
    workspaces = importlib.import_module("wandb_workspaces.workspaces")
    reports = importlib.import_module("wandb_workspaces.reports.v2")
    key = hashlib.sha256(f"report:{book.study.alias(book.dataset)}".encode()).hexdigest()[:11]
    try:
        workspace = workspaces.Workspace.from_url(f"{project.url}?nw={key}")
    except ValueError:  # there is none
        workspace = workspaces.Workspace(entity=project.entity, project=project.name, name=_title(book))
        workspace._internal_name = f"nw-{key}-v"
    workspace.sections = [
        workspaces.Section(name=_heading(chapter), panels=grid, is_open=not index)
        for index, chapter in enumerate(_chapters(book))
        if (grid := panels(reports, book, chapter))
    ]
    workspace.runset_settings.filters = _only(_unique(trails[source.version.reference].run for source in book.sources))
    workspace.save()
    return str(workspace.url)


def _unique(runs: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, runs)))
