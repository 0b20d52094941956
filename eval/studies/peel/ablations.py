"""What is lost where a part of VICReg is taken away, or the whole of it replaced by the neighbor graph alone."""

from eval.evidence.measures import COLOR, FEATURES, FIRST_AXIS, PCA_PURITY, PRECISION, PROBE, RANK, STD, TSNE_PURITY
from eval.evidence.numbers import number
from eval.labbook.chapter import COLLAPSE, PCA, PER_CLASS, TSNE, Chapter
from eval.labbook.writing import Writer, share
from eval.studies.peel.representations import EIGENMAPS, FULL, NEIGHBORS, NO_VARIANCE, UNTRAINED
from eval.studies.peel.retrieval import say_who_follows
from eval.studies.peel.training import EPOCHS

COLLAPSE_SHARE = 0.5  # of the full rank at most, or of the variance on the first axis at least


def no_variance(w: Writer) -> None:
    change = w.change("With the variance term removed the probe", PROBE, FULL, NO_VARIANCE)
    ranks = [w.estimate(RANK, name) for name in (FULL, NO_VARIANCE)]
    axes = [w.estimate(FIRST_AXIS, name) for name in (FULL, NO_VARIANCE)]
    stds = [w.estimate(STD, name) for name in (FULL, NO_VARIANCE)]
    for subject, pair, form in (
        ("The effective rank", ranks, RANK.form),
        ("The share of the variance on the first PCA axis", axes, FIRST_AXIS.form),
        ("The mean standard deviation of a dimension", stds, STD.form),
    ):
        if pair[0] and pair[1]:
            before, after = (number(mean.value, form) for mean in pair if mean)
            verb = "rises" if pair[1].value > pair[0].value else "falls"
            w.say(f"{subject} {verb} from {before} to {after}." if before != after else f"{subject} stays at {after}.")
    if change and ranks[0] and ranks[1]:
        narrow = ranks[1].value <= COLLAPSE_SHARE * ranks[0].value
        if axes[0] and axes[1]:
            narrow = narrow or axes[1].value >= COLLAPSE_SHARE > axes[0].value
        worse = change.verdict == "lower"
        if not change.decided and change.verdict != "no difference shown":
            w.conclude("Whether the picture explains the accuracy is not decided.")
        elif narrow and worse:
            w.conclude("The probe is worse and the representation has collapsed: the picture agrees with the accuracy.")
        elif narrow:
            w.conclude(
                "The representation has collapsed, and yet the probe is not shown to be worse: the picture does not explain the accuracy."
            )
        elif worse:
            w.conclude(
                "The representation has not collapsed, and yet the probe is worse: the picture does not explain the accuracy."
            )
        else:
            w.conclude(
                "The probe is not shown to be worse and the representation has not collapsed: the picture agrees with the"
                " accuracy."
            )
    w.look(
        (
            ("project", "project/pca", FULL, "the PCA map with the variance term"),
            ("project", "project/pca", NO_VARIANCE, "the PCA map without it"),
            ("training", "training/collapse", NO_VARIANCE, "the effective rank during training"),
            ("probe", "probe/confusion", NO_VARIANCE, "the probe's confusions"),
        )
    )


def no_generated_neighbors(w: Writer) -> None:
    change = w.change("With an image and its neighbor as views the probe", PROBE, FULL, NEIGHBORS)
    if change and change.decided:
        verb = "add" if change.value < 0 else "cost"
        w.conclude(f"The probe is not the same: generated neighbors {verb} {_points(change.value)} points.")
    elif change:
        w.conclude(f"Whether the probe is the same: {change.verdict}.")
    epochs = [w.value("training", EPOCHS.path, name) for name in (FULL, NEIGHBORS)]
    if all(epochs):
        w.say(
            f"The neighbor variant was trained for {number(epochs[1], 'count')} epoch{'s' if epochs[1] != 1 else ''}, VICReg for {number(epochs[0], 'count')}."
        )
    w.versus("Compared with no variance term, the probe", PROBE, NEIGHBORS, NO_VARIANCE)
    w.versus("Share of the 5 nearest that are of the image's class", PRECISION, FULL, NEIGHBORS)
    say_who_follows(w, COLOR, "color")


def _points(value: float) -> str:
    return number(abs(value), "percent").removesuffix(" %")


def eigenmaps(w: Writer) -> None:
    by_probe = w.versus("By the probe", PROBE, FULL, EIGENMAPS)
    by_map = w.versus("By the t-SNE map (class purity)", TSNE_PURITY, FULL, EIGENMAPS)
    if by_probe and by_map:
        if by_probe.decided and by_probe.verdict == by_map.verdict:
            better = FULL if by_probe.verdict == "higher" else EIGENMAPS
            verb = "serve" if w.book.study.by_name[better].plural else "serves"
            w.conclude(f"{w.label(better)} {verb} classification better, by map and by probe.")
        elif by_probe.decided and by_map.decided:
            w.conclude("Map and probe do not agree on which serves classification better.")
        else:
            w.conclude("Which serves classification better by both is not decided.")
    chance, accuracy = w.value("probe", "probe/chance", EIGENMAPS), w.estimate(PROBE, EIGENMAPS)
    if chance and accuracy:
        times = number(accuracy.value / chance, "tenth")
        w.say(f"The probe on Laplacian Eigenmaps reaches {times} times the accuracy of guessing.")
    classes = w.versus("Why: share of the 5 nearest that are of the image's class", PRECISION, FULL, EIGENMAPS)
    colors = w.versus("Distance in color to those, over that to random images", COLOR, FULL, EIGENMAPS)
    if classes and colors and classes.verdict == colors.verdict == "higher":
        w.say("The graph joins images of like color more than images of one class.")


NO_VARIANCE_TERM = Chapter(
    4,
    "no-variance",
    "No variance term",
    "The variance term has the weight 0. How do the PCA map and the linear probe change: better or worse, what looks"
    " different, and does the picture explain the accuracy?",
    (PCA, COLLAPSE, PER_CLASS),
    (PROBE, FEATURES, RANK, STD, FIRST_AXIS, PCA_PURITY),
    answer=no_variance,
    rule=f"The representation counts as collapsed where its effective rank is at most {share(COLLAPSE_SHARE)} of VICReg's, or where"
    f" its first PCA axis has {share(COLLAPSE_SHARE)} of the variance or more and VICReg's has less. The picture agrees where"
    " a collapse and a worse probe come together, or neither comes.",
    representations=(FULL, NO_VARIANCE),
)

NO_GENERATED_NEIGHBORS = Chapter(
    5,
    "no-generated-neighbors",
    "No generated neighbors",
    "The two views are an image and one of its 3 nearest training images in VICReg's representation, drawn anew at"
    " each step. Is the linear probe the same, and what do generated neighbors add?",
    (TSNE, PER_CLASS),
    (PROBE, FEATURES, TSNE_PURITY, PRECISION, COLOR, RANK),
    answer=no_generated_neighbors,
    representations=(FULL, NO_VARIANCE, NEIGHBORS),
)

EIGENMAPS_INSTEAD = Chapter(
    6,
    "eigenmaps",
    "Laplacian Eigenmaps",
    "The smallest eigenvectors of the neighbor graph's Laplacian, without any encoder. Which method serves"
    " classification better, by map and by probe, and why?",
    (TSNE, PER_CLASS),
    (PROBE, TSNE_PURITY, PCA_PURITY, PRECISION, COLOR, RANK),
    answer=eigenmaps,
    representations=(FULL, EIGENMAPS, UNTRAINED),
)
