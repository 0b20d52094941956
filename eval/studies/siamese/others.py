"""The methods beside SimSiam: Barlow Twins, DSSL on harder views, BYOL; and why none of them collapses."""

from eval.evidence.measures import (
    CONTRAST,
    FARTHER,
    FEATURES,
    HARDER_DISTANCE,
    HARDER_MATCHING,
    KNN,
    MATCHING,
    PROBE,
    PROJECTION_RANK,
    SPREAD,
    Measure,
)
from eval.evidence.numbers import number
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer, series
from eval.studies.siamese.peels import CURVES, RULE, say_collapse
from eval.studies.siamese.representations import (
    ALL,
    ALL_MOVING,
    BARLOW,
    BARLOW_LARGE,
    BARLOW_NARROW,
    BARLOW_WIDE,
    BYOL,
    DSSL,
    FREE,
    HARDER,
    LEJEPA,
    MOMENTS,
    NONE,
    SIMSIAM,
    VICREG,
)

SEES_NONE = 1e-3  # relative change of the gradient at most
INTERACTION = Measure("training", "anatomy/interaction", "Gradient from other images", "decimal", 0, 0.0,
                      "How much the gradient at an image's outputs changes with those of other images, relative to its norm")  # fmt: skip


def barlow(w: Writer) -> None:
    w.versus("By the probe", PROBE, BARLOW, SIMSIAM)
    w.versus("In batches of 256", PROBE, BARLOW_LARGE, BARLOW)
    w.versus("2,048 outputs against 128", PROBE, BARLOW_WIDE, BARLOW_NARROW)
    say_collapse(w, BARLOW)


def harder(w: Writer) -> None:
    w.versus("Standard and harder views alike, against standard ones", PROBE, ALL, SIMSIAM)
    w.versus("The same with a moving target", PROBE, ALL_MOVING, BYOL)
    w.versus("Each harder view drawn to its standard one alone, against all pairs", PROBE, DSSL, ALL)
    w.versus("Against standard views alone", PROBE, DSSL, SIMSIAM)
    w.versus("Strong colors in all views, against the standard ones", PROBE, HARDER, SIMSIAM)
    far = w.phrase(FARTHER, SIMSIAM)
    if far:
        w.say(f"In SimSiam's representation a harder view lies beyond its standard view in {far} of the images.")
    w.versus("Distance of a harder view to its standard view", HARDER_DISTANCE, DSSL, SIMSIAM)


def byol(w: Writer) -> None:
    w.versus("By the probe", PROBE, BYOL, SIMSIAM)
    w.versus("Cosine of two views of an image, less that of two images", CONTRAST, BYOL, SIMSIAM)
    value = w.estimate(INTERACTION, BYOL)
    if value and value.value <= SEES_NONE:
        w.say(f"The loss of an image sees no other image: {w.label(BYOL)} has no negatives.")
    elif value:
        w.say(f"The loss of an image sees other images ({number(value.value, INTERACTION.form)}).")


def collapse(w: Writer) -> None:
    present = [name for name in WHY_NOT.representations if w.has(name)]
    fallen = [name for name in present if say_collapse(w, name)]
    if present:
        w.conclude(f"Collapsed: {series([w.label(name) for name in fallen])}." if fallen else "None has collapsed.")
    w.versus("The whole distribution against two moments, on the features", FEATURES, LEJEPA, MOMENTS)
    w.say("What is predicted is another view's projection and not the image: no method here reconstructs pixels.")


BARLOW_TWINS = Chapter(
    4,
    "barlow-twins",
    "Barlow Twins",
    "No predictor, no stop-gradient, no moving target: dimensions of two views are to correlate with themselves and with no"
    " other. Does that need a large batch, or many dimensions?",
    CURVES[::2],
    (PROBE, FEATURES, KNN, PROJECTION_RANK, SPREAD),
    answer=barlow,
    rule=RULE,
    representations=(SIMSIAM, BARLOW, BARLOW_NARROW, BARLOW_WIDE, BARLOW_LARGE),
)

HARDER_VIEWS = Chapter(
    5,
    "harder-views",
    "Harder views",
    "A harder view is RandAugment of a standard view. Do harder views help where each is drawn to its standard view alone"
    " (DSSL), and where all views are compared with each other?",
    (
        Panel("views", "views/examples", "An image, two standard views, and a harder one of each", "picture"),
        *CURVES[::2],
    ),
    (PROBE, FEATURES, KNN, PROJECTION_RANK, MATCHING, HARDER_MATCHING, HARDER_DISTANCE, FARTHER),
    answer=harder,
    representations=(SIMSIAM, HARDER, DSSL, ALL, BYOL, ALL_MOVING),
)

MOVING_TARGET = Chapter(
    6,
    "moving-target",
    "BYOL's moving target",
    "The target is an average of the network over the steps. Is that better than a target that is the network itself, held"
    " still? Is it contrastive, and is the representation more robust to transformations?",
    CURVES[::2],
    (PROBE, FEATURES, KNN, PROJECTION_RANK, CONTRAST, MATCHING, INTERACTION),
    answer=byol,
    representations=(SIMSIAM, BYOL, BARLOW, VICREG),
)

WHY_NOT = Chapter(
    7,
    "why-none-collapses",
    "Why none of them collapses",
    "Whose projection fills how many dimensions, and what keeps it from collapsing: asymmetry, variance and covariance, or"
    " the shape of the whole distribution?",
    CURVES[2:],
    (PROJECTION_RANK, SPREAD, PROBE, FEATURES),
    answer=collapse,
    rule=RULE,
    representations=(VICREG, SIMSIAM, FREE, NONE, BYOL, BARLOW, DSSL, LEJEPA, MOMENTS),
)
