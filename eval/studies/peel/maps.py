"""The two maps of the test images, and what VICReg captured of the classes."""

from eval.evidence.measures import PCA_PURITY, RANK, TSNE_PURITY, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import PCA, TSNE, Chapter
from eval.labbook.writing import Writer, series, share
from eval.studies.peel.representations import FULL, UNTRAINED

MOSTLY, PARTLY = 0.8, 0.5  # class purity of a map whose classes count as captured, and in part

GAIN = Measure("project", "project/purity/gain", "t-SNE purity minus PCA purity", "percent")


def maps(w: Writer) -> None:
    pca, tsne = (w.phrase(measure, FULL) for measure in (PCA_PURITY, TSNE_PURITY))
    gain = w.estimate(GAIN, FULL)
    if pca and tsne and gain:
        word = "Which map is the more useful is not decided"
        if not gain.interval:
            word += ", without an interval"
        elif gain.interval[0] > 0 or gain.interval[1] < 0:
            word = f"The {'t-SNE' if gain.value > 0 else 'PCA'} map is the more useful"
        w.conclude(f"{word}.")
        w.say(f"Of an image's 10 nearest {tsne} are of its class in the t-SNE map, {pca} in the PCA map.")
    purity = w.estimate(TSNE_PURITY, FULL)
    if purity:
        degree = "mostly" if purity.value >= MOSTLY else "in part" if purity.value >= PARTLY else "hardly"
        chance = number(1 / len(w.book.images.classes), "percent")
        w.conclude(
            f"VICReg captured the classes {degree} ({number(purity.value, 'percent')}; by chance about {chance})."
        )
    if w.has(UNTRAINED):
        w.versus("Class purity of the t-SNE map", TSNE_PURITY, FULL, UNTRAINED)
    pairs = w.value("probe", "probe/pairs", FULL)
    if pairs:
        most = [f"{one} and {other} ({number(rate, 'percent')})" for one, other, rate in pairs[:3]]
        w.say(f"The most entangled classes, by what the probe takes for each other: {series(most)}.")


CHAPTER = Chapter(
    2,
    "maps",
    "Maps",
    "The test images in two dimensions, by PCA and by t-SNE, colored by class. Which map is the more useful? Did"
    " VICReg capture the classes, and which are entangled?",
    (PCA, TSNE),
    (
        PCA_PURITY,
        TSNE_PURITY,
        Measure("project", "project/pca/explained", "Variance along the two PCA axes", "percents"),
        RANK,
    ),
    answer=maps,
    rule="The more useful map is the one with the higher class purity, where the interval of their difference excludes 0."
    f" The classes count as captured mostly from a t-SNE purity of {share(MOSTLY)} on, in part from {share(PARTLY)} on.",
)
