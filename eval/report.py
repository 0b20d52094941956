"""The lab book: every question, figure and number of the variants given, side by side, in one HTML page.

It reads what the other evaluations published and measures nothing itself; for the pictures of the probe's most certain mistakes
it fits that one layer again. Below each figure stand the artifacts that it came
from. The page needs no network and is published as the artifact `report`; it also stands in PEEL_HOME, at
lab-book-STUDY.html. While the exercise (peel) is the only study there, its page is lab-book.html; beside others it is
lab-book-peel.html, and lab-book.html is the front door, which links the pages of all studies.
"""

import contextlib
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go

from eval.labbook import online
from eval.labbook.book import Book, gather
from eval.labbook.door import PAGE, place
from eval.labbook.drawings import overlay
from eval.labbook.gallery import with_mistakes
from eval.labbook.page import render
from eval.labbook.panels import names
from eval.labbook.tables import summary_frame
from eval.studies.all import STUDIES, get_study
from train.tracking.command import Command
from train.tracking.origin import LATER, MACHINE
from train.tracking.problem import Problem
from train.tracking.stage import Stage
from train.tracking.store import Store, write_whole


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...]
    """The variants to compare, as aliases (digits-vicreg, digits-vicreg-s1), in the order in which they are shown."""

    anomalies: str | None = None
    """The image set that they were to tell apart from their own: what `anomaly:VARIANT-vs-ANOMALIES` was made against."""

    study: Annotated[str, LATER] = "peel"
    """What is asked of them: one of eval/studies/."""

    wandb: Annotated[bool, MACHINE] = False
    """Also save a W&B Report of the study, and a Workspace whose sections follow the chapters; done again, it updates these
    two. Needs an account, and the extra wandb-workspaces."""

    def __post_init__(self) -> None:
        if not self.variants:
            raise Problem("--variants names no variant; give one or more, for instance: --variants digits-vicreg")
        for variant in self.variants:
            if self.variants.count(variant) > 1:
                raise Problem(f"--variants names {variant!r} twice; give each variant once")
        get_study(self.study)


def main(config: Config) -> None:
    if config.wandb:
        online.check()
    with Stage("eval.report", config) as stage:
        book = with_mistakes(stage, gather(stage, get_study(config.study), config.variants, config.anomalies))
        page = render(book).encode()
        stage.panel("report/table", summary_frame(book))
        for name, figure in overlays(book).items():
            stage.panel(name, figure)
        stage.finding = (
            f"lab book of {book.dataset}: {len(book.variants)} variants, {len(book.study.chapters)} chapters"
        )
        stage.publish("report", lambda folder: write_whole(folder / PAGE, page), book.study.fields(book.dataset))
    with contextlib.closing(Store()) as store, store.in_use():
        print(place(store, tuple(STUDIES.values()), book.study, page))
        if config.wandb:
            for address in online.save(store, book, store.get("report", book.study.alias(book.dataset))):
                print(address)


def overlays(book: Book) -> dict[str, go.Figure]:
    """The figures that show every variant at once, as panels of the run: `report/roc`."""
    figures = {}
    for panel in {
        panel.path: panel for chapter in book.study.chapters for panel in chapter.panels if panel.overlay
    }.values():
        drawings = {
            variant: book.drawing(panel.artifact, variant, panel.path)
            for variant in book.variants
            if book.shows(panel.artifact, variant, panel.path)
        }
        if drawings:
            data = overlay(drawings, book.variants, panel.only, names(book, panel)).data
            figures[f"report/{panel.path.partition('/')[2]}"] = go.Figure(data["data"], data["layout"])
    return figures


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
