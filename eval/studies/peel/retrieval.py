"""What the nearest and the most distant images have in common with the query."""

from eval.evidence.measures import BACKGROUND, COLOR, DISTINCT, HUBNESS, PRECISION, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer
from eval.studies.peel.representations import FULL, NEIGHBORS


def retrieval(w: Writer) -> None:
    w.versus("Share of the 5 nearest that are of the image's class", PRECISION, FULL, NEIGHBORS)
    say_who_follows(w, COLOR, "color")
    say_who_follows(w, BACKGROUND, "background")
    gap = w.difference(HUBNESS, FULL, NEIGHBORS)
    values = [w.phrase(HUBNESS, name) for name in (FULL, NEIGHBORS)]
    if gap and values[0] and values[1]:
        wider = FULL if gap.verdict == "lower" else NEIGHBORS
        verdict = f"{w.label(wider)} has the more varied distant images" if gap.decided else gap.verdict
        w.say(
            f"With VICReg the most distant image of {values[0]} of all images is one of the same ten, with the neighbor variant"
            f" that of {values[1]}: {verdict}."
        )
    counts = [w.phrase(DISTINCT, name) for name in (FULL, NEIGHBORS)]
    if counts[0] and counts[1]:
        w.say(
            f"With VICReg {counts[0]} images are the most distant from some other, with the neighbor variant {counts[1]}."
        )


def say_who_follows(w: Writer, measure: Measure, what: str) -> None:
    """Which of VICReg and the neighbor variant has neighbors that are more alike in a color: the smaller ratio."""
    gap = w.difference(measure, FULL, NEIGHBORS)
    means = [w.estimate(measure, name) for name in (FULL, NEIGHBORS)]
    if not gap or not means[0] or not means[1]:
        return
    texts = [number(mean.value, measure.form) for mean in means if mean]
    if gap.decided:
        nearer = NEIGHBORS if gap.verdict == "higher" else FULL
        verdict = f"{w.label(nearer)} follows {what} more"
    else:
        verdict = f"which follows {what} more: {gap.verdict}"
    w.say(
        f"Distance in {what} to the 5 nearest, over that to random images: {texts[0]} for VICReg, {texts[1]} for the neighbor"
        f" variant; {verdict}."
    )


CHAPTER = Chapter(
    7,
    "retrieval",
    "Retrieval",
    "One random training image a class, the same for every method, with its 5 nearest and its 5 most distant images."
    " What does each method attend to, which keeps close images together, which keeps distant ones apart?",
    (
        Panel(
            "retrieve",
            "retrieve/nearest",
            "Nearest and most distant images of each query",
            "queries",
            note="In a frame: of the query's class.",
        ),
    ),
    (PRECISION, COLOR, BACKGROUND, HUBNESS, DISTINCT),
    answer=retrieval,
)
