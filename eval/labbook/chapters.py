"""The questions of the lab book, in the order of the exercise that the project starts from, and what answers them."""

from dataclasses import dataclass
from typing import Literal

from eval.labbook.measures import Measure


@dataclass(frozen=True)
class Panel:
    """A figure or picture of every variant, side by side; `overlay` puts the variants' curves into one figure.

    thumbnails: pointing at a point shows the test image whose row the figure carries. note: how to read it.
    """

    path: str
    label: str
    content: Literal["figure", "picture"] = "figure"
    overlay: bool = False
    thumbnails: bool = False
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """questions: the exercise's numbers. cure: the command that makes what the chapter shows, for one VARIANT."""

    questions: str
    title: str
    question: str
    artifact: str
    cure: str
    panels: tuple[Panel, ...]
    measures: tuple[Measure, ...]
    by_class: tuple[str, str] | None = None

    @property
    def anchor(self) -> str:
        return self.artifact


CHAPTERS = (
    Chapter(
        "1",
        "Training",
        "How does each objective move over the training batches, and how does the same objective move on the test set?"
        " Does the representation stay spread out while it is learned?",
        "training",
        "python -m train.pretrain --images DATASET",
        (
            Panel("training/invariance", "Invariance"),
            Panel("training/variance", "Variance"),
            Panel("training/covariance", "Covariance"),
            Panel("training/total", "Total"),
            Panel("training/knn", "kNN accuracy"),
            Panel("training/collapse", "Collapse"),
            Panel("training/learning_rate", "Learning rate"),
        ),
        (
            Measure("training", "loss/invariance", "Invariance, last epoch", "scale"),
            Measure("training", "test/invariance", "Invariance, test", "scale"),
            Measure("training", "loss/variance", "Variance, last epoch", "scale"),
            Measure("training", "test/variance", "Variance, test", "scale"),
            Measure("training", "loss/covariance", "Covariance, last epoch", "scale"),
            Measure("training", "test/covariance", "Covariance, test", "scale"),
            Measure("training", "loss/total", "Total, last epoch", "scale"),
            Measure("training", "test/total", "Total, test", "scale"),
            Measure("training", "knn/top1", "kNN accuracy, held out", "percent", 1),
            Measure("training", "collapse/std", "Mean standard deviation of a dimension"),
            Measure("training", "collapse/effective_rank", "Effective rank", "tenth"),
            Measure("training", "training/epochs", "Epochs", "count"),
            Measure("training", "training/batches", "Batches", "count"),
            Measure("training", "training/parameters", "Parameters", "count"),
        ),
    ),
    Chapter(
        "2",
        "Maps",
        "The test images in two dimensions, by PCA and by t-SNE, coloured by class. Which map is the more useful?"
        " Were the classes captured, and which are entangled?",
        "project",
        "python -m eval.project --embeddings VARIANT",
        (
            Panel("project/pca", "PCA", thumbnails=True),
            Panel("project/tsne", "t-SNE", thumbnails=True),
        ),
        (
            Measure("project", "project/pca/purity", "Class purity of neighbors, PCA", "percent", 1),
            Measure("project", "project/tsne/purity", "Class purity of neighbors, t-SNE", "percent", 1),
            Measure("project", "project/pca/explained", "Variance along the two PCA axes", "percents"),
            Measure("project", "collapse/std", "Mean standard deviation of a dimension"),
            Measure("project", "collapse/effective_rank", "Effective rank", "tenth"),
        ),
    ),
    Chapter(
        "3",
        "Linear probe",
        "One linear layer on the frozen encoder, trained on the training set's labels: how many test images does it name"
        " rightly, and which classes does it take for each other?",
        "probe",
        "python -m eval.probe --embeddings VARIANT",
        (Panel("probe/confusion", "Confusion matrix"), Panel("probe/per_class", "Accuracy by class")),
        (
            Measure("probe", "probe/top1", "Representation", "percent", 1),
            Measure("probe", "probe/features/top1", "Features", "percent", 1),
            Measure("probe", "probe/chance", "Chance", "percent"),
            Measure("probe", "probe/regularisation", "Regularisation, representation", "scale"),
            Measure("probe", "probe/features/regularisation", "Regularisation, features", "scale"),
            Measure("probe", "probe/confused", "Most confused", "confused"),
        ),
        ("probe/per_class", "Accuracy by class, in numbers"),
    ),
    Chapter(
        "7",
        "Retrieval",
        "One random training image a class: which images are nearest to it, and which most distant? What does each"
        " method attend to, which keeps close images together, which keeps distant ones apart?",
        "retrieve",
        "python -m eval.retrieve --embeddings VARIANT",
        (
            Panel("retrieve/nearest", "Query and its nearest images", "picture",
                  note="In a frame: of the query's class."),
            Panel("retrieve/farthest", "Query and its most distant images", "picture",
                  note="In a frame: of the query's class."),
        ),
        (
            Measure("retrieve", "retrieve/precision@5", "Of the query's class among the 5 nearest", "percent", 1),
            Measure("retrieve", "retrieve/color", "Color distance of neighbors over that of random pairs", "decimal", 0,
                    None, "1: neighbors are no closer in mean color than random images"),
            Measure("retrieve", "retrieve/hubness", "Images whose farthest is one of the 10 commonest", "percent"),
            Measure("retrieve", "retrieve/farthest_distinct", "Distinct farthest images", "count"),
        ),
    ),
    Chapter(
        "8 – 10",
        "Anomaly detection",
        "Normal is what the training set holds; each test image and each image of another set is scored by its mean"
        " distance to the nearest training representations. Which method tells the two sets apart, and what does it"
        " find most anomalous?",
        "anomaly",
        "python -m eval.anomaly --embeddings VARIANT --anomalies VARIANT-on-IMAGES",
        (
            Panel("anomaly/roc", "ROC", overlay=True),
            Panel("anomaly/scores", "Scores of both sets"),
            Panel("anomaly/most", "The most anomalous images, the most anomalous first", "picture",
                  note="In a frame: of the other set."),
        ),
        (
            Measure("anomaly", "anomaly/auc", "AUC", "share", 1),
            Measure("anomaly", "anomaly/against", "Anomalies", "text"),
            Measure("anomaly", "anomaly/k", "Neighbors k", "count"),
            Measure("anomaly", "anomaly/most", "Among the most anomalous", "most"),
        ),
    ),
    Chapter(
        "11 – 13",
        "Clustering",
        "k-means with as many clusters as there are classes. Which method finds clusters, which separates classes, and"
        " does the silhouette in the original dimension agree with the eye?",
        "cluster",
        "python -m eval.cluster --embeddings VARIANT",
        (
            Panel("cluster/clusters", "t-SNE, coloured by cluster"),
            Panel("cluster/classes", "The same map, coloured by class"),
        ),
        (
            Measure("cluster", "cluster/silhouette/clusters", "Silhouette of the clusters", "decimal", 1),
            Measure("cluster", "cluster/silhouette/classes", "Silhouette of the classes", "decimal", 1),
            Measure("cluster", "cluster/silhouette/sample", "Images in the silhouette's sample", "count"),
            Measure("cluster", "cluster/nmi", "Normalised mutual information with the classes", "decimal", 1),
            Measure("cluster", "cluster/ari", "Adjusted Rand index with the classes", "decimal", 1),
            Measure("cluster", "cluster/k", "Clusters", "count"),
        ),
    ),
)  # fmt: skip
