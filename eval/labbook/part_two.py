"""What the scores say of representations at work: the exercise's questions 8 to 13, and the floors. Every word that judges
is chosen by a rule."""

from eval.labbook.chapter import BACKGROUND, COLOR, NMI, PIXELS, PURITY, TSNE_PURITY
from eval.labbook.estimates import (
    AUC,
    CLASSES,
    CLUSTERS,
    PRECISION,
    PROBE,
    RANK,
    Estimate,
    Measure,
    best,
    estimate,
    number,
    signed,
)
from eval.labbook.writing import EIGENMAPS, FLOORS, FULL, NAMES, NEIGHBORS, Writer, apart, listed, told

DUPLICATES = 0.5  # pixel distance over that of random images, up to which images count as near-duplicates
SILHOUETTE_GAIN = Measure("cluster", "cluster/silhouette/gain", "Silhouette of clusters minus that of classes")


def anomaly_detection(w: Writer) -> None:
    for method in (FULL, NEIGHBORS):
        known = w.estimate(AUC, method)
        against = w.value("anomaly", "anomaly/against", method)
        k = w.value("anomaly", "anomaly/k", method)
        if known and against and k:
            w.say(
                f"By the distance to its {number(k, 'count')} nearest training images {NAMES[method]} {_tells(known)}: of two images,"
                f" one of {against} and one normal, that of {against} scores higher in {told(known, 'percent')} of all cases."
            )
    if w.here(EIGENMAPS):
        w.say(f"{NAMES[EIGENMAPS]}: –, transductive; there is no encoder that could embed other images.")


def _tells(known: Estimate) -> str:
    low, high = known.interval or (known.value, known.value)
    if low > 0.5:
        return "tells the sets apart" if known.interval else "seems to tell the sets apart, without an interval"
    if high < 0.5:
        return "takes the normal images for the more anomalous"
    return "is not shown to do better than a coin"


def roc(w: Writer) -> None:
    found = w.versus("AUC", AUC, FULL, NEIGHBORS)
    ranked = {variant: known for variant in w.book.variants if (known := estimate(w.book, AUC, variant))}
    if len(ranked) > 1:
        top = [variant for variant in ranked if variant in best(w.book, AUC)] or list(ranked)
        w.say(
            f"Of all methods the highest: {listed([f'{variant} ({number(ranked[variant].value, AUC.form)})' for variant in top])}."
        )
    if found:
        beside = []
        for measure, name in (
            (COLOR, "color distance of neighbors"),
            (BACKGROUND, "background distance"),
            (RANK, "effective rank"),
        ):
            pair = [w.estimate(measure, method) for method in (FULL, NEIGHBORS)]
            if pair[0] and pair[1]:
                one, other = (number(known.value, measure.form) for known in pair if known)
                beside.append(f"{name} {one} against {other}")
        if beside:
            w.say(
                f"The scores do not say why. What was measured beside it, VICReg against the neighbor variant: {listed(beside)}."
            )


def most_anomalous(w: Writer) -> None:
    counts = {}
    for method in (FULL, NEIGHBORS):
        most = w.value("anomaly", "anomaly/most", method)
        against = w.value("anomaly", "anomaly/against", method)
        alike = w.estimate(PIXELS, method)
        if not most or not against:
            continue
        counts[method] = sum(entry["set"] == against for entry in most)
        text = f"{NAMES[method]}: {counts[method]} of the {len(most)} most anomalous are of {against}"
        if alike:
            word = "near-duplicates of each other" if alike.value <= DUPLICATES else "not near-duplicates of each other"
            text += f"; they are {word} (pixel distance {number(alike.value, 'decimal')} of that of random images)"
        w.say(f"{text}.")
    if len(counts) == 2:
        ahead = max(counts, key=lambda method: counts[method])
        tie = len(set(counts.values())) == 1
        w.say("By that count neither is better." if tie else f"By that count {NAMES[ahead]} is better.")
    w.versus("Over all images (AUC)", AUC, FULL, NEIGHBORS)


def clustering(w: Writer) -> None:
    k = w.value("cluster", "cluster/k", FULL)
    if k:
        w.say(f"Clusters, by k-means: {number(k, 'count')}.")
    w.versus("Images in the most frequent class of their cluster", PURITY, FULL, NEIGHBORS)
    w.versus("Normalised mutual information with the classes", NMI, FULL, NEIGHBORS)


def cluster_maps(w: Writer) -> None:
    w.versus("Finds clusters (their silhouette)", CLUSTERS, FULL, NEIGHBORS)
    w.versus("Separates classes (silhouette of the classes)", CLASSES, FULL, NEIGHBORS)
    w.versus("Clusters that are classes (purity)", PURITY, FULL, NEIGHBORS)


def silhouette(w: Writer) -> None:
    found = w.versus("Silhouette of the clusters", CLUSTERS, FULL, NEIGHBORS)
    eye = w.versus("What the eye sees (class purity of the t-SNE map)", TSNE_PURITY, FULL, NEIGHBORS)
    if found and eye:
        if not (found.decided and eye.decided):
            w.say("Whether the silhouette agrees with the eye is not decided.")
        else:
            agrees = found.verdict == eye.verdict
            w.say(f"The silhouette {'agrees' if agrees else 'does not agree'} with the eye.")
    for method in (FULL, NEIGHBORS):
        gain = w.estimate(SILHOUETTE_GAIN, method)
        if gain:
            word = "above" if gain.value > 0 else "below"
            if not gain.interval or gain.interval[0] <= 0 <= gain.interval[1]:
                word = "not shown to differ from"
            w.say(
                f"For {NAMES[method]} the clusters' silhouette is {word} that of the classes ({signed(gain.value, 'decimal')})."
            )


def floors(w: Writer) -> None:
    for floor in FLOORS:
        verdicts = []
        for measure, name in ((PROBE, "the probe"), (PRECISION, "precision@5"), (AUC, "the anomaly AUC")):
            found = w.difference(measure, FULL, floor)
            if found:
                verdicts.append(f"{name} {found.word(measure)} ({apart(found, measure.form)})")
        if verdicts:
            w.say(f"VICReg against {NAMES[floor]}: {'; '.join(verdicts)}.")
