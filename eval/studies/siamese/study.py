"""SimSiam taken apart, beside the other ways to learn by comparing: same network, views, images, seeds, probes and floors."""

from itertools import pairwise
from pathlib import Path

from eval.evidence.measures import CONTRAST, FEATURES, INSTANCES, KNN, MATCHING, PROBE, PROJECTION_RANK, SPREAD, Measure
from eval.labbook.chapter import PER_CLASS, Chapter
from eval.labbook.floors import against
from eval.labbook.study import Ablation, Study, Use
from eval.labbook.writing import Writer
from eval.studies.siamese import others, peels
from eval.studies.siamese.representations import FLOORS, FREE, METHODS, NONE, REPRESENTATIONS, SIMSIAM

COST = (
    Measure("training", "anatomy/encoder/parameters", "Weights of the encoder", "count"),
    *peels.WEIGHTS,
    Measure("training", "anatomy/target/parameters", "Weights of the moving target", "count"),
)
SUMMARY = (PROBE, FEATURES, KNN, INSTANCES, PROJECTION_RANK, SPREAD, MATCHING, CONTRAST)


def league(w: Writer) -> None:
    ranking = [(w.estimate(FEATURES, name), name) for name in METHODS if w.has(name)]
    present = sorted(((mean.value, name) for mean, name in ranking if mean), reverse=True)
    if present:
        w.conclude(f"On the features the best of the methods: {w.leaders(FEATURES, [name for _, name in present])}.")
    for (_, first), (_, second) in pairwise(present):
        w.versus("On the features", FEATURES, first, second)


STUDY = Study(
    "siamese",
    "What keeps a siamese network from collapsing, and what does each way of comparing learn?",
    subject=SIMSIAM,
    representations=REPRESENTATIONS,
    evaluations=("probe", "views"),
    summary=SUMMARY,
    chapters=(
        peels.STOP_GRADIENT,
        peels.PREDICTOR,
        peels.WIDTH,
        others.BARLOW_TWINS,
        others.HARDER_VIEWS,
        others.MOVING_TARGET,
        others.WHY_NOT,
        Chapter(
            8,
            "league",
            "League",
            "All methods at equal images seen, each with its own few settings: who reads best, and are the gaps shown?",
            (PER_CLASS, peels.CURVES[0]),
            (PROBE, FEATURES, KNN, INSTANCES, PROJECTION_RANK, *COST),
            answer=league,
            representations=(*FLOORS, *METHODS),
        ),
    ),
    baselines=FLOORS,
    floors=Chapter(
        0,
        "floors",
        "Floors",
        "What does each method have over what nothing was learned for?",
        (),
        SUMMARY,
        answer=against(METHODS, FLOORS, (FEATURES, INSTANCES)),
    ),
    ablations=(
        Ablation("without the stop-gradient", SIMSIAM, FREE),
        Ablation("without the predictor", SIMSIAM, NONE),
    ),
    uses=(Use("the matching of an image's views", MATCHING),),
    claims=Path(__file__).with_name("claims.yaml"),
    sources={"report": "the report", "ours": "our own question"},
    sizes={"digits": 16},  # they are 8 pixels wide, and there are 18 trainings
)
