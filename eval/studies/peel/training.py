"""How the objectives move while VICReg trains, and where its representation ends."""

from eval.evidence.comparison import Estimate
from eval.evidence.measures import KNN, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import COLLAPSE, Chapter, Panel
from eval.labbook.writing import Writer, series
from eval.studies.peel.representations import FULL, NEIGHBORS, NO_VARIANCE

EPOCHS = Measure("training", "training/epochs", "Epochs", "count")
TERMS = ("invariance", "variance", "covariance")

NOTE = "A plain line shows training batches. A line with markers shows the test set, once an epoch."  # on the curves


def training(w: Writer) -> None:
    rises = {term: w.estimate(_rise(term), FULL) for term in TERMS}
    if words := [f"{term} {_direction(rise)}" for term, rise in rises.items() if rise]:
        w.conclude(f"While {w.label(FULL)} trains, {series(words)}.")
    _moves(w, FULL)
    _ends(w)
    for name in (NO_VARIANCE, NEIGHBORS):
        if w.has(name):
            _moves(w, name)


def _moves(w: Writer, name: str) -> None:
    """How far each objective rose."""
    moves = []
    for term in TERMS:
        rise = w.estimate(_rise(term), name)
        if rise:
            moves.append(f"the {term} term {_direction(rise)}{_distance(rise)}")
    epochs = w.value("training", EPOCHS.path, name)
    over = f" over {number(epochs, 'count')} epoch{'s' if epochs != 1 else ''}" if epochs else ""
    if moves:
        w.say(f"{w.label(name)}{over}: {series(moves)}.")


def _ends(w: Writer) -> None:
    """Where VICReg's objectives and its representation end."""
    ends = []
    for term in TERMS:
        last, test = (w.estimate(Measure("training", f"{kind}/{term}", "", "scale"), FULL) for kind in ("loss", "test"))
        if last and test:
            ends.append(f"{number(test.value, 'scale')} for {term} ({number(last.value, 'scale')} in training)")
    if ends:
        w.say(f"On the test set VICReg's terms end at {series(ends)}.")
    rank = w.estimate(Measure("training", "collapse/effective_rank", "", "tenth", compared=False), FULL)
    if rank:
        w.say(f"Its representation ends with an effective rank of {number(rank.value, 'tenth')}.")


def _rise(term: str) -> Measure:
    return Measure("training", f"training/{term}/rise", "", "scale")


def _direction(rise: Estimate) -> str:
    if rise.value == 0 or (rise.spread is not None and abs(rise.value) < rise.spread):
        return "neither rises nor falls"
    return "rises" if rise.value > 0 else "falls"


def _distance(rise: Estimate) -> str:
    return f" by {number(abs(rise.value), 'scale')}" if _direction(rise) in ("rises", "falls") else ""


def _measures() -> tuple[Measure, ...]:
    """Training and test value of each objective, and how far it rose."""
    measures = []
    for term in TERMS:
        name = term.capitalize()
        measures += [
            Measure("training", f"loss/{term}", f"{name}, last epoch", "scale"),
            Measure("training", f"test/{term}", f"{name}, test", "scale"),
            Measure("training", f"training/{term}/rise", f"{name}, rise", "scale", 0, None,
                    "Mean of the last tenth of the batches minus mean of the first tenth"),
        ]  # fmt: skip
    return tuple(measures)


CHAPTER = Chapter(
    1,
    "training",
    "Training",
    "How does each of the three objectives move over the training batches, and how does the same objective move on"
    " the test set? Does the representation stay spread out while it is learned?",
    (
        Panel("training", "training/invariance", "Invariance", overlay=True, note=NOTE),
        Panel("training", "training/variance", "Variance", overlay=True, note=NOTE),
        Panel("training", "training/covariance", "Covariance", overlay=True, note=NOTE),
        Panel("training", "training/total", "Total", overlay=True, note=NOTE),
        Panel("training", "training/knn", "kNN accuracy", overlay=True),
        COLLAPSE,
        Panel("training", "training/learning_rate", "Learning rate", overlay=True),
    ),
    (
        *_measures(),
        KNN,
        Measure("training", "collapse/effective_rank", "Effective rank", "tenth", compared=False),
        EPOCHS,
        Measure("training", "training/batches", "Batches", "count"),
        Measure("training", "training/parameters", "Parameters", "count"),
    ),
    answer=training,
    rule="A term rises or falls by its mean over the last tenth of the batches minus its mean over the first tenth. Over"
    " several seeds it must move by more than their standard deviation.",
)
