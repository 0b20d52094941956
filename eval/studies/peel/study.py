"""The exercise that the project starts from: VICReg, and what each part of it is for. Its questions are the chapters."""

from pathlib import Path

from eval.evidence.measures import AUC, CLUSTERS, INSTANCES, PRECISION, PROBE, PURITY, SUMMARY
from eval.labbook.chapter import Chapter
from eval.labbook.floors import against
from eval.labbook.study import Ablation, Study, Use
from eval.studies.peel import ablations, anomalies, clusters, maps, probe, retrieval, training
from eval.studies.peel.representations import (
    EIGENMAPS,
    FLOORS,
    FULL,
    NEIGHBORS,
    NO_VARIANCE,
    REPRESENTATIONS,
)

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
        answer=against((FULL,), FLOORS, (PROBE, INSTANCES, PRECISION, AUC)),
    ),
    ablations=(
        Ablation("without the variance term", FULL, NO_VARIANCE),
        Ablation("with an image and its neighbor as views", FULL, NEIGHBORS),
        Ablation("with Laplacian Eigenmaps instead", FULL, EIGENMAPS),
    ),
    uses=(Use("the anomaly detector", AUC), Use("the clusters", PURITY, plural=True, unlabeled=CLUSTERS)),
    claims=Path(__file__).with_name("claims.yaml"),
    sources={"A": "solution A", "B": "solution B", "ours": "our own question"},
    default=True,
)
