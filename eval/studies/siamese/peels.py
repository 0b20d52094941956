"""SimSiam with its parts taken away one by one: the stop-gradient, the predictor; and its output made wider."""

from eval.evidence.measures import FEATURES, KNN, PROBE, PROJECTION_RANK, SPREAD, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer
from eval.studies.siamese.representations import FREE, NARROW, NONE, SIMSIAM, UNTRAINED, WIDE, WIDER

COLLAPSED = 2  # dimensions of the projection at most
CURVES = (
    Panel(
        "training",
        "training/knn",
        "kNN accuracy during training",
        overlay=True,
        only="kNN on fewer images, in each tenth",
        note="Of 1,000 held-out training images among 4,000 others, or of a small set fewer.",
    ),
    Panel("training", "training/total", "Loss during training", overlay=True, only="training batches"),
    Panel(
        "training",
        "training/rank",
        "Rank of the projection during training",
        overlay=True,
        only="projection, which the loss sees",
        note="Vertical axis logarithmic. Two dimensions or fewer: collapsed.",
    ),
    Panel(
        "training",
        "training/spread",
        "Spread of the projection during training",
        overlay=True,
        only="projection, which the loss sees",
        note="1: over the sphere; 0: in one point.",
    ),
)
LOSS = Measure("training", "loss/total", "Loss, last epoch", "decimal")
WEIGHTS = tuple(
    Measure("training", f"anatomy/{part}/parameters", f"Weights of the {part}", "count")
    for part in ("projector", "predictor")
)
RULE = f"A projection counts as collapsed where it fills {COLLAPSED} dimensions or fewer, whatever loss and spread say."


def say_collapse(w: Writer, name: str) -> bool:
    """Says whether its projection has collapsed, by its rank, and what spread and loss would have said. Returns the first."""
    rank, spread, loss = (w.estimate(measure, name) for measure in (PROJECTION_RANK, SPREAD, LOSS))
    if rank is None:
        return False
    has = "have" if w.book.study.by_name[name].plural else "has"
    words = f"{has} collapsed" if rank.value <= COLLAPSED else f"{has} not collapsed"
    if rank.n > 1 and min(rank.seeds) <= COLLAPSED < max(rank.seeds):
        words = f"{has} collapsed with some seeds and not with others"
    beside = [f"spread {number(spread.value, SPREAD.form)}"] if spread else []
    beside += [f"loss {number(loss.value, LOSS.form)}"] if loss else []
    rest = f"; {', '.join(beside)}" if beside else ""
    w.say(f"{w.label(name)} {words}: the projection fills {number(rank.value, 'tenth')} dimensions{rest}.")
    return rank.value <= COLLAPSED


def stop_gradient(w: Writer) -> None:
    w.change("Without the stop-gradient the probe", PROBE, SIMSIAM, FREE)
    w.change("On the features it", FEATURES, SIMSIAM, FREE)
    for name in (SIMSIAM, FREE):
        say_collapse(w, name)
    w.versus("Against the untrained network, without stop-gradient", PROBE, FREE, UNTRAINED)


def predictor(w: Writer) -> None:
    w.change("With the identity in place of the predictor the probe", PROBE, SIMSIAM, NONE)
    w.change("On the features it", FEATURES, SIMSIAM, NONE)
    say_collapse(w, NONE)
    w.versus("Against the untrained network, without predictor", PROBE, NONE, UNTRAINED)
    w.say(
        "With the identity as predictor the stop-gradient halves the gradient and does no more; Adam and Muon do not see a"
        " factor, so that this is the training without both."
    )


def width(w: Writer) -> None:
    w.versus("4,096 outputs against 2,048", PROBE, WIDER, WIDE)
    w.versus("2,048 outputs against 128", PROBE, WIDE, NARROW)
    for name in (NARROW, WIDE, WIDER):
        say_collapse(w, name)


STOP_GRADIENT = Chapter(
    1,
    "stop-gradient",
    "Stop-gradient",
    "SimSiam compares a prediction with a projection that carries no gradient. What happens to accuracy, loss and collapse"
    " when that projection carries one?",
    CURVES,
    (PROBE, FEATURES, KNN, PROJECTION_RANK, SPREAD, LOSS),
    answer=stop_gradient,
    rule=RULE,
    representations=(SIMSIAM, FREE, UNTRAINED),
)

PREDICTOR = Chapter(
    2,
    "predictor",
    "Predictor",
    "What is lost when a projection is compared as it is, without the predictor?",
    CURVES,
    (
        PROBE,
        FEATURES,
        KNN,
        PROJECTION_RANK,
        SPREAD,
        LOSS,
        *WEIGHTS,
        Measure("training", "anatomy/predictor/layers", "Layers of the predictor", "count"),
    ),
    answer=predictor,
    rule=RULE,
    representations=(SIMSIAM, NONE, UNTRAINED),
)

WIDTH = Chapter(
    3,
    "width",
    "Width of the output",
    "The last layer of the projector, and the ends of the predictor, are made wider; all other widths stay. Is wider better?",
    CURVES[:3],
    (PROBE, FEATURES, KNN, PROJECTION_RANK),
    answer=width,
    rule=RULE,
    representations=(SIMSIAM, NARROW, WIDE, WIDER),
)
