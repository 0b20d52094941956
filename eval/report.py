"""The lab book: every question, figure and number of the variants given, side by side, in one HTML page.

It reads what the other evaluations published and computes nothing. Below each figure stand the artifacts that it came
from. The page needs no network and is published as the artifact `report`; it also stands at lab-book.html in
PEEL_HOME.
"""

from dataclasses import dataclass

from eval.labbook.evidence import gather
from eval.labbook.measures import summary_frame
from eval.labbook.page import render
from train.tracking.command import launch
from train.tracking.problem import Problem
from train.tracking.stage import Stage
from train.tracking.store import home, write_whole

PAGE = "lab-book.html"


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...]
    """The variants to compare, as aliases (digits-vicreg, digits-vicreg-s1), in the order in which they are shown."""

    anomalies: str | None = None
    """The image set that they were to tell apart from their own: what `anomaly:VARIANT-vs-ANOMALIES` was made against."""

    def __post_init__(self) -> None:
        if not self.variants:
            raise Problem("--variants names no variant; give one or more, for instance: --variants digits-vicreg")
        for variant in self.variants:
            if self.variants.count(variant) > 1:
                raise Problem(f"--variants names {variant!r} twice; give each variant once")


def main(config: Config) -> None:
    with Stage("eval.report", config) as stage:
        book = gather(stage, config.variants, config.anomalies)
        page = render(book).encode()
        stage.panel("report/table", summary_frame(book))
        stage.publish("report", lambda folder: write_whole(folder / PAGE, page), {"dataset": stage.dataset})
    write_whole(home() / PAGE, page)
    print(home() / PAGE)


if __name__ == "__main__":
    launch(main)
