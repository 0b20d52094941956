"""The exercise that the project starts from: VICReg, and what each part of it is for. Its questions are the chapters."""

from pathlib import Path

from eval.evidence.measures import AUC, PRECISION, PROBE, SUMMARY
from eval.labbook.chapter import Chapter
from eval.labbook.study import Study
from eval.labbook.writing import Writer, distance
from eval.studies.peel import ablations, anomalies, clusters, maps, probe, retrieval, training
from eval.studies.peel.representations import FLOORS, FULL, REPRESENTATIONS


def floors(w: Writer) -> None:
    for floor in FLOORS:
        verdicts = []
        for measure, name in ((PROBE, "the probe"), (PRECISION, "precision@5"), (AUC, "the anomaly AUC")):
            gap = w.difference(measure, FULL, floor)
            if gap:
                verdicts.append(f"{name} {gap.word(measure)} ({distance(gap, measure.form)})")
        if verdicts:
            w.say(f"VICReg against {w.label(floor)}: {'; '.join(verdicts)}.")


STUDY = Study(
    "peel",
    "What is each part of VICReg for?",
    subject=FULL,
    representations=REPRESENTATIONS,
    evaluations=("probe", "project", "retrieve", "cluster", "anomaly"),
    summary=SUMMARY,
    chapters=(
        training.CHAPTER,
        maps.CHAPTER,
        probe.CHAPTER,
        ablations.NO_VARIANCE_TERM,
        ablations.NO_GENERATED_NEIGHBORS,
        ablations.EIGENMAPS_INSTEAD,
        retrieval.CHAPTER,
        anomalies.DETECTION,
        anomalies.ROC,
        anomalies.MOST_ANOMALOUS,
        clusters.CLUSTERING,
        clusters.CLUSTER_MAPS,
        clusters.SILHOUETTE,
    ),
    baselines=FLOORS,
    floors=Chapter(
        0,
        "floors",
        "Floors",
        "What does VICReg have over each other variant, and above all over those that nothing was learned for?",
        (),
        SUMMARY,
        answer=floors,
    ),
    claims=Path(__file__).with_name("claims.yaml"),
    default=True,
)
