"""What the scores say of training and representations: the exercise's questions 1 to 7. Every word that judges is chosen
by a rule."""

from eval.labbook.chapter import (
    BACKGROUND,
    COLOR,
    DISTINCT,
    FIRST_AXIS,
    HUBNESS,
    PCA_PURITY,
    STD,
    TSNE_PURITY,
)
from eval.labbook.estimates import FEATURES, PRECISION, PROBE, RANK, Estimate, Measure, number
from eval.labbook.writing import EIGENMAPS, FLOORS, FULL, NAMES, NEIGHBORS, NO_VARIANCE, Writer, listed, told

ASKED = 0.6  # the probe's accuracy that the exercise asks for
MOSTLY, PARTLY = 0.8, 0.5  # class purity of a map whose classes count as captured, and in part
COLLAPSED = 0.5  # of the full rank at most, or of the variance on the first axis at least

GAIN = Measure("project", "project/purity/gain", "t-SNE purity minus PCA purity", "percent")
EPOCHS = Measure("training", "training/epochs", "Epochs", "count")
TERMS = ("invariance", "variance", "covariance")


def training(w: Writer) -> None:
    _terms(w, FULL)
    _ends(w)
    for method in (NO_VARIANCE, NEIGHBORS):
        if w.here(method):
            _terms(w, method)


def _terms(w: Writer, method: str) -> None:
    """How far each objective rose."""
    moves = []
    for term in TERMS:
        rise = w.estimate(Measure("training", f"training/{term}/rise", "", "scale"), method)
        if rise:
            moves.append(f"the {term} term {_move(rise)}")
    epochs = w.value("training", EPOCHS.path, method)
    over = f" over {number(epochs, 'count')} epoch{'s' if epochs != 1 else ''}" if epochs else ""
    if moves:
        w.say(f"{NAMES[method]}{over}: {listed(moves)}.")


def _ends(w: Writer) -> None:
    """Where VICReg's objectives and its representation end."""
    ends = []
    for term in TERMS:
        last, test = (w.estimate(Measure("training", f"{kind}/{term}", "", "scale"), FULL) for kind in ("loss", "test"))
        if last and test:
            ends.append(f"{number(test.value, 'scale')} for {term} ({number(last.value, 'scale')} in training)")
    if ends:
        w.say(f"On the test set VICReg's terms end at {listed(ends)}.")
    rank = w.estimate(Measure("training", "collapse/effective_rank", "", "tenth", compared=False), FULL)
    if rank:
        w.say(f"Its representation ends with an effective rank of {number(rank.value, 'tenth')}.")


def _move(rise: Estimate) -> str:
    if rise.value == 0 or (rise.spread is not None and abs(rise.value) < rise.spread):
        return "neither rises nor falls"
    return f"{'rises' if rise.value > 0 else 'falls'} by {number(abs(rise.value), 'scale')}"


def maps(w: Writer) -> None:
    pca, tsne = (w.told(measure, FULL) for measure in (PCA_PURITY, TSNE_PURITY))
    gain = w.estimate(GAIN, FULL)
    if pca and tsne and gain:
        word = "Which map is the more useful is not decided"
        if not gain.interval:
            word += ", without an interval"
        elif gain.interval[0] > 0 or gain.interval[1] < 0:
            word = f"The {'t-SNE' if gain.value > 0 else 'PCA'} map is the more useful"
        w.say(f"{word}: of an image's 10 nearest {tsne} are of its class in the t-SNE map, {pca} in the PCA map.")
    purity = w.estimate(TSNE_PURITY, FULL)
    if purity:
        degree = "mostly" if purity.value >= MOSTLY else "in part" if purity.value >= PARTLY else "hardly"
        chance = number(1 / len(w.book.images.classes), "percent")
        w.say(f"VICReg captured the classes {degree} ({number(purity.value, 'percent')}; by chance about {chance}).")
    if w.here("untrained"):
        w.versus("Class purity of the t-SNE map", TSNE_PURITY, FULL, "untrained")
    pairs = w.value("probe", "probe/pairs", FULL)
    if pairs:
        most = [f"{one} and {other} ({number(rate, 'percent')})" for one, other, rate in pairs[:3]]
        w.say(f"The most entangled classes, by what the probe takes for each other: {listed(most)}.")


def probe(w: Writer) -> None:
    known = w.estimate(PROBE, FULL)
    if known:
        w.say(f"The probe names {told(known, 'percent')} of the test images rightly: {_asked(known)}.")
    if features := w.told(FEATURES, FULL):
        w.say(f"On the features that the head reads: {features}.")
    confused = w.value("probe", "probe/confused", FULL)
    if confused:
        most = [f"{true} for {taken} ({number(rate, 'percent')})" for true, taken, rate in confused[:3]]
        w.say(f"It most often takes {listed(most)}.")
    for floor in FLOORS:
        if w.here(floor):
            w.versus(f"Against {NAMES[floor]}", PROBE, FULL, floor)


def _asked(known: Estimate) -> str:
    low, high = known.interval or (known.value, known.value)
    asked = number(ASKED, "percent").replace(".0", "")
    without = "" if known.interval else ", without an interval"
    if low >= ASKED:
        return f"at least the {asked} that the exercise asks for{without}"
    return (
        f"below the {asked} that the exercise asks for{without}"
        if high < ASKED
        else f"whether it reaches {asked} is not decided"
    )


def no_variance(w: Writer) -> None:
    found = w.change("With the variance term removed the probe", PROBE, FULL, NO_VARIANCE)
    ranks = [w.estimate(RANK, method) for method in (FULL, NO_VARIANCE)]
    axes = [w.estimate(FIRST_AXIS, method) for method in (FULL, NO_VARIANCE)]
    stds = [w.estimate(STD, method) for method in (FULL, NO_VARIANCE)]
    for subject, pair, form in (
        ("The effective rank", ranks, RANK.form),
        ("The share of the variance on the first PCA axis", axes, FIRST_AXIS.form),
        ("The mean standard deviation of a dimension", stds, STD.form),
    ):
        if pair[0] and pair[1]:
            before, after = (number(known.value, form) for known in pair if known)
            verb = "rises" if pair[1].value > pair[0].value else "falls"
            w.say(f"{subject} {verb} from {before} to {after}." if before != after else f"{subject} stays at {after}.")
    if found and ranks[0] and ranks[1]:
        narrow = ranks[1].value <= COLLAPSED * ranks[0].value
        if axes[0] and axes[1]:
            narrow = narrow or axes[1].value >= COLLAPSED > axes[0].value
        worse = found.verdict == "lower"
        if not found.decided and found.verdict != "no difference shown":
            w.say("Whether the picture explains the accuracy is not decided.")
        elif narrow and worse:
            w.say("The representation has collapsed: the picture agrees with the accuracy.")
        elif narrow:
            w.say(
                "The representation has collapsed, and yet the probe is not shown to be worse: the picture does not explain the accuracy."
            )
        elif worse:
            w.say(
                "The representation has not collapsed, and yet the probe is worse: the picture does not explain the accuracy."
            )
        else:
            w.say("The representation has not collapsed: the picture agrees with the accuracy.")
    w.look(
        (
            ("project", "project/pca", FULL, "the PCA map with the variance term"),
            ("project", "project/pca", NO_VARIANCE, "the PCA map without it"),
            ("training", "training/collapse", NO_VARIANCE, "the effective rank during training"),
            ("probe", "probe/confusion", NO_VARIANCE, "the probe's confusions"),
        )
    )


def no_generated_neighbors(w: Writer) -> None:
    found = w.change("With an image and its neighbor as views the probe", PROBE, FULL, NEIGHBORS)
    if found and found.decided:
        verb = "add" if found.value < 0 else "cost"
        w.say(f"The probe is not the same: generated neighbors {verb} {_points(found.value)} points.")
    elif found:
        w.say(f"Whether the probe is the same: {found.verdict}.")
    epochs = [w.value("training", EPOCHS.path, method) for method in (FULL, NEIGHBORS)]
    if all(epochs):
        w.say(
            f"The neighbor variant was trained for {number(epochs[1], 'count')} epoch{'s' if epochs[1] != 1 else ''}, VICReg for {number(epochs[0], 'count')}."
        )
    w.versus("Compared with no variance term, the probe", PROBE, NEIGHBORS, NO_VARIANCE)
    w.versus("Share of the 5 nearest that are of the image's class", PRECISION, FULL, NEIGHBORS)
    _follows(w, COLOR, "color")


def _points(value: float) -> str:
    return number(abs(value), "percent").removesuffix(" %")


def _follows(w: Writer, measure: Measure, what: str) -> None:
    """Which of VICReg and the neighbor variant has neighbors that are more alike in a color: the smaller ratio."""
    found = w.difference(measure, FULL, NEIGHBORS)
    values = [w.estimate(measure, method) for method in (FULL, NEIGHBORS)]
    if not found or not values[0] or not values[1]:
        return
    texts = [number(known.value, measure.form) for known in values if known]
    if found.decided:
        nearer = NEIGHBORS if found.verdict == "higher" else FULL
        verdict = f"{NAMES[nearer]} follows {what} more"
    else:
        verdict = f"which follows {what} more: {found.verdict}"
    w.say(
        f"Distance in {what} to the 5 nearest, over that to random images: {texts[0]} for VICReg, {texts[1]} for the neighbor"
        f" variant; {verdict}."
    )


def eigenmaps(w: Writer) -> None:
    by_probe = w.versus("By the probe", PROBE, FULL, EIGENMAPS)
    by_map = w.versus("By the t-SNE map (class purity)", TSNE_PURITY, FULL, EIGENMAPS)
    if by_probe and by_map:
        if by_probe.decided and by_probe.verdict == by_map.verdict:
            w.say(
                f"{NAMES[FULL if by_probe.verdict == 'higher' else EIGENMAPS]} serves classification better, by map and by probe."
            )
        elif by_probe.decided and by_map.decided:
            w.say("Map and probe do not agree on which serves classification better.")
        else:
            w.say("Which serves classification better by both is not decided.")
    chance, known = w.value("probe", "probe/chance", EIGENMAPS), w.estimate(PROBE, EIGENMAPS)
    if chance and known:
        w.say(
            f"The probe on Laplacian Eigenmaps reaches {number(known.value / chance, 'tenth')} times the accuracy of guessing."
        )
    classes = w.versus("Why: share of the 5 nearest that are of the image's class", PRECISION, FULL, EIGENMAPS)
    colors = w.versus("Distance in color to those, over that to random images", COLOR, FULL, EIGENMAPS)
    if classes and colors and classes.verdict == colors.verdict == "higher":
        w.say("The graph joins images of like color more than images of one class.")


def retrieval(w: Writer) -> None:
    w.versus("Close images, by the share of the 5 nearest that are of the image's class", PRECISION, FULL, NEIGHBORS)
    _follows(w, COLOR, "color")
    _follows(w, BACKGROUND, "background")
    found = w.difference(HUBNESS, FULL, NEIGHBORS)
    values = [w.told(HUBNESS, method) for method in (FULL, NEIGHBORS)]
    if found and values[0] and values[1]:
        wider = FULL if found.verdict == "lower" else NEIGHBORS
        verdict = f"{NAMES[wider]} has the more varied distant images" if found.decided else found.verdict
        w.say(
            f"Distant images: the most distant one is one of the same ten for {values[0]} of all images with VICReg, for"
            f" {values[1]} with the neighbor variant: {verdict}."
        )
    counts = [w.told(DISTINCT, method) for method in (FULL, NEIGHBORS)]
    if counts[0] and counts[1]:
        w.say(
            f"In all {counts[0]} images are the most distant of some other with VICReg, {counts[1]} with the neighbor variant."
        )
