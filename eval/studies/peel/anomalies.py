"""How well images of another set are told apart by their distance to the training representations."""

from eval.evidence.comparison import Estimate
from eval.evidence.measures import AUC, BACKGROUND, COLOR, MOST, PIXEL_DISTANCE, RANK, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.estimates import best, estimate
from eval.labbook.writing import Writer, phrase, series
from eval.studies.peel.representations import EIGENMAPS, FULL, NEIGHBORS

DUPLICATES = 0.5  # pixel distance over that of random images, up to which images count as near-duplicates


def anomaly_detection(w: Writer) -> None:
    for name in (FULL, NEIGHBORS):
        auc = w.estimate(AUC, name)
        against = w.value("anomaly", "anomaly/against", name)
        k = w.value("anomaly", "anomaly/k", name)
        if auc and against and k:
            w.conclude(f"{w.label(name)} {_verdict(auc)}.")
            w.say(
                f"By the distance to its {number(k, 'count')} nearest training images in {w.label(name)}: of two images, one of"
                f" {against} and one normal, that of {against} scores higher in {phrase(auc, 'percent')} of all cases."
            )
    if w.has(EIGENMAPS):
        w.say(f"{w.label(EIGENMAPS)} are transductive: they have no encoder that could embed other images.")


def _verdict(auc: Estimate) -> str:
    low, high = auc.interval or (auc.value, auc.value)
    if low > 0.5:
        return "tells the sets apart" if auc.interval else "seems to tell the sets apart, without an interval"
    if high < 0.5:
        return "takes the normal images for the more anomalous"
    return "is not shown to do better than guessing"


def roc(w: Writer) -> None:
    gap = w.versus("AUC", AUC, FULL, NEIGHBORS)
    means = {variant: mean for variant in w.book.variants if (mean := estimate(w.book, AUC, variant))}
    if len(means) > 1:
        top = [variant for variant in means if variant in best(w.book, AUC)] or list(means)
        w.say(
            f"The highest of all: {series([f'{variant} ({number(means[variant].value, AUC.form)})' for variant in top])}."
        )
    if gap:
        beside = []
        for measure, what in (
            (COLOR, "color distance of neighbors"),
            (BACKGROUND, "background distance"),
            (RANK, "effective rank"),
        ):
            pair = [w.estimate(measure, name) for name in (FULL, NEIGHBORS)]
            if pair[0] and pair[1]:
                one, other = (number(mean.value, measure.form) for mean in pair if mean)
                beside.append(f"{what} {one} against {other}")
        if beside:
            w.say(
                f"The scores do not say why. These were measured beside it, VICReg against the neighbor variant: {series(beside)}."
            )


def most_anomalous(w: Writer) -> None:
    counts = {}
    for name in (FULL, NEIGHBORS):
        most = w.value("anomaly", "anomaly/most", name)
        against = w.value("anomaly", "anomaly/against", name)
        alike = w.estimate(PIXEL_DISTANCE, name)
        if not most or not against:
            continue
        counts[name] = sum(entry["set"] == against for entry in most)
        text = f"{w.label(name)}: {counts[name]} of the {len(most)} most anomalous are of {against}"
        if alike:
            word = "near-duplicates of each other" if alike.value <= DUPLICATES else "not near-duplicates of each other"
            text += f"; they are {word} (pixel distance {number(alike.value, 'decimal')} of that of random images)"
        w.say(f"{text}.")
    if len(counts) == 2:
        ahead = max(counts, key=lambda name: counts[name])
        tie = len(set(counts.values())) == 1
        w.conclude("By the count neither is better." if tie else f"By the count {w.label(ahead)} is better.")
    w.versus("Over all images (AUC)", AUC, FULL, NEIGHBORS)


DETECTION = Chapter(
    8,
    "anomaly-detection",
    "Anomaly detection",
    "Normal is what the training set holds. Each test image (0) and each image of another set (1) is scored by its"
    " mean L2 distance to the 2 nearest training representations. How far apart do the scores of the two sets lie?",
    (Panel("anomaly", "anomaly/scores", "Scores of both sets"),),
    (
        AUC,
        Measure("anomaly", "anomaly/against", "Anomalies", "text"),
        Measure("anomaly", "anomaly/k", "Neighbors k", "count"),
    ),
    answer=anomaly_detection,
    rule="A variant tells the sets apart where the whole interval of its AUC lies above one half.",
)

ROC = Chapter(
    9,
    "roc",
    "ROC",
    "The ROC curve of every method in one figure. Which is the better detector, and why?",
    (Panel("anomaly", "anomaly/roc", "ROC", overlay=True, measure=AUC),),
    (AUC, COLOR, BACKGROUND, RANK),
    answer=roc,
)

MOST_ANOMALOUS = Chapter(
    10,
    "most-anomalous",
    "Most anomalous",
    "The 7 most anomalous images of each method, in rows. What did each find anomalous? Without being told what an"
    " anomaly is, is one better?",
    (
        Panel(
            "anomaly",
            "anomaly/most",
            "The most anomalous images, the most anomalous first",
            "picture",
            note="In a frame: of the other set.",
        ),
    ),
    (MOST, PIXEL_DISTANCE, AUC),
    answer=most_anomalous,
    rule=f"Near-duplicates: their mean pixel distance is at most {DUPLICATES:g} of that of random images of the same sets.",
)
