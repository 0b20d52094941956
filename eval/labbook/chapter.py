"""The questions of the lab book, which are those of the exercise that the project starts from, and what answers them."""

from dataclasses import dataclass
from typing import Literal

from eval.labbook.book import Book
from eval.labbook.estimates import AUC, CLASSES, CLUSTERS, FEATURES, KNN, PRECISION, PROBE, RANK, Measure


@dataclass(frozen=True)
class Panel:
    """A figure or picture of every variant, side by side; `overlay` puts the variants' curves into one figure.

    content: "queries" is a picture with a row for each query image, shown query by query. only: of an overlay, the name
    of the traces that it takes. thumbnails: pointing at a point shows the test image whose row the figure carries.
    note: how to read it.
    """

    artifact: str
    path: str
    label: str
    content: Literal["figure", "picture", "queries"] = "figure"
    overlay: bool = False
    only: str | None = None
    thumbnails: bool = False
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """number: the exercise's. methods: those that it is about, all where none is named.
    side_by_side: all panels of a variant stand in one row, instead of one panel of all variants.
    by_class: path in `probe` and title of a table with a column a class."""

    number: int
    anchor: str
    title: str
    question: str
    panels: tuple[Panel, ...]
    measures: tuple[Measure, ...]
    methods: tuple[str, ...] = ()
    side_by_side: bool = False
    by_class: tuple[str, str] | None = None

    def variants(self, book: Book) -> tuple[str, ...]:
        """Those that it shows, in the order of the book."""
        named = [book.variant(method) for method in self.methods]
        return tuple(variant for variant in book.variants if not named or variant in named)


PCA = Panel("project", "project/pca", "PCA", thumbnails=True)
TSNE = Panel("project", "project/tsne", "t-SNE", thumbnails=True)
PER_CLASS = Panel("probe", "probe/per_class", "Accuracy of the probe, by class", overlay=True, only="representation")
COLLAPSE = Panel("training", "training/collapse", "Effective rank during training", overlay=True, only="effective rank")

CURVES = "A plain line: training batches. With markers: the test set, once an epoch."

PCA_PURITY = Measure("project", "project/pca/purity", "Class purity, PCA", "percent", 1, None,
                     "Share of an image's 10 nearest in the map that have its class")  # fmt: skip
TSNE_PURITY = Measure("project", "project/tsne/purity", "Class purity, t-SNE", "percent", 1, None,
                      "Share of an image's 10 nearest in the map that have its class")  # fmt: skip
FIRST_AXIS = Measure("project", "project/pca/first", "Variance along the first PCA axis", "percent")
STD = Measure("project", "collapse/std", "Mean standard deviation of a dimension")
COLOR = Measure("retrieve", "retrieve/color", "Color distance", "decimal", 0, None,
                "Distance in mean color to the 5 nearest, over that to random images; 1: no closer than chance")  # fmt: skip
BACKGROUND = Measure("retrieve", "retrieve/background", "Background distance", "decimal", 0, None,
                     "The same with the mean color of the images' borders")  # fmt: skip
HUBNESS = Measure("retrieve", "retrieve/hubness", "Farthest among the 10 commonest", "percent", 0, None,
                  "Share of all images whose farthest image is one of the 10 that are so most often")  # fmt: skip
DISTINCT = Measure("retrieve", "retrieve/farthest_distinct", "Distinct farthest images", "count")
NMI = Measure("cluster", "cluster/nmi", "Mutual information", "decimal", 1, None,
              "Normalised mutual information of clusters and classes: 0 to 1")  # fmt: skip
ARI = Measure(
    "cluster", "cluster/ari", "Adjusted Rand index", "decimal", 1, 0.0, "Of clusters and classes: 0 by chance"
)
PURITY = Measure("cluster", "cluster/purity", "Cluster purity", "percent", 1, None,
                 "Share of images that belong to the most frequent class of their cluster")  # fmt: skip
MOST = Measure("anomaly", "anomaly/most", "Among the most anomalous", "most")
ANOMALIES = Measure("anomaly", "anomaly/most/anomalies", "Of the other set", "count")
SHOWN = Measure("anomaly", "anomaly/most/count", "Images shown", "count")
PIXELS = Measure("anomaly", "anomaly/most/pixels", "Pixel distance to each other", "decimal", 0, None,
                 "Over that of random test images of the same sets; near 0: near-duplicates")  # fmt: skip
CONFUSED = Measure("probe", "probe/confused", "Most confused", "confused")


def _terms() -> tuple[Measure, ...]:
    """Training and test value of each objective, and how far it rose."""
    measures = []
    for term in ("invariance", "variance", "covariance"):
        name = term.capitalize()
        measures += [
            Measure("training", f"loss/{term}", f"{name}, last epoch", "scale"),
            Measure("training", f"test/{term}", f"{name}, test", "scale"),
            Measure("training", f"training/{term}/rise", f"{name}, rise", "scale", 0, None,
                    "Mean of the last tenth of the batches minus mean of the first tenth"),
        ]  # fmt: skip
    return tuple(measures)


CHAPTERS = (
    Chapter(
        1,
        "training",
        "Training",
        "How does each of the three objectives move over the training batches, and how does the same objective move on"
        " the test set? Does the representation stay spread out while it is learned?",
        (
            Panel("training", "training/invariance", "Invariance", overlay=True, note=CURVES),
            Panel("training", "training/variance", "Variance", overlay=True, note=CURVES),
            Panel("training", "training/covariance", "Covariance", overlay=True, note=CURVES),
            Panel("training", "training/total", "Total", overlay=True, note=CURVES),
            Panel("training", "training/knn", "kNN accuracy", overlay=True),
            COLLAPSE,
            Panel("training", "training/learning_rate", "Learning rate", overlay=True),
        ),
        (
            *_terms(),
            KNN,
            Measure("training", "collapse/effective_rank", "Effective rank", "tenth", compared=False),
            Measure("training", "training/epochs", "Epochs", "count"),
            Measure("training", "training/batches", "Batches", "count"),
            Measure("training", "training/parameters", "Parameters", "count"),
        ),
    ),
    Chapter(
        2,
        "maps",
        "Maps",
        "The test images in two dimensions, by PCA and by t-SNE, coloured by class. Which map is the more useful? Did"
        " VICReg capture the classes, and which are entangled?",
        (PCA, TSNE),
        (
            PCA_PURITY,
            TSNE_PURITY,
            Measure("project", "project/pca/explained", "Variance along the two PCA axes", "percents"),
            RANK,
        ),
    ),
    Chapter(
        3,
        "probe",
        "Linear probe",
        "One linear layer on the frozen encoder's representation, trained on the training set's labels: how many test"
        " images does it name rightly (at least 60 %?), and which classes does it take for each other?",
        (Panel("probe", "probe/confusion", "Confusion matrix"), PER_CLASS),
        (
            PROBE,
            FEATURES,
            Measure("probe", "probe/chance", "Chance", "percent"),
            Measure("probe", "probe/regularisation", "Regularisation", "scale"),
            CONFUSED,
        ),
        by_class=("probe/per_class", "Accuracy by class, in numbers"),
    ),
    Chapter(
        4,
        "no-variance",
        "No variance term",
        "The variance term weighs nothing. The PCA map and the linear probe again: better or worse, what looks"
        " different, and does the picture explain the accuracy?",
        (PCA, COLLAPSE, PER_CLASS),
        (PROBE, FEATURES, RANK, STD, FIRST_AXIS, PCA_PURITY),
        ("vicreg", "vicreg-variance0"),
    ),
    Chapter(
        5,
        "no-generated-neighbors",
        "No generated neighbors",
        "The two views are an image and one of its 3 nearest training images in VICReg's representation, drawn anew at"
        " each step. Is the linear probe the same, and what do generated neighbors add?",
        (TSNE, PER_CLASS),
        (PROBE, FEATURES, TSNE_PURITY, PRECISION, COLOR, RANK),
        ("vicreg", "vicreg-variance0", "vicreg-neighbors"),
    ),
    Chapter(
        6,
        "eigenmaps",
        "Laplacian Eigenmaps",
        "The smallest eigenvectors of the neighbor graph's Laplacian, without any encoder. Which method serves"
        " classification better, by map and by probe, and why?",
        (TSNE, PER_CLASS),
        (PROBE, TSNE_PURITY, PCA_PURITY, PRECISION, COLOR, RANK),
        ("vicreg", "eigenmaps", "untrained"),
    ),
    Chapter(
        7,
        "retrieval",
        "Retrieval",
        "One random training image a class, the same for every method, with its 5 nearest and its 5 most distant images."
        " What does each method attend to, which keeps close images together, which keeps distant ones apart?",
        (
            Panel("retrieve", "retrieve/nearest", "Nearest and most distant images of each query", "queries",
                  note="In a frame: of the query's class."),
        ),
        (PRECISION, COLOR, BACKGROUND, HUBNESS, DISTINCT),
    ),
    Chapter(
        8,
        "anomaly-detection",
        "Anomaly detection",
        "Normal is what the training set holds. Each test image (0) and each image of another set (1) is scored by its"
        " mean L2 distance to the 2 nearest training representations. How far apart do the scores of the two sets lie?",
        (Panel("anomaly", "anomaly/scores", "Scores of both sets"),),
        (
            AUC,
            Measure("anomaly", "anomaly/against", "Anomalies", "text"),
            Measure("anomaly", "anomaly/k", "Neighbors k", "count"),
        ),
    ),
    Chapter(
        9,
        "roc",
        "ROC",
        "The ROC curve of every method in one figure. Which is the better detector, and why?",
        (Panel("anomaly", "anomaly/roc", "ROC", overlay=True),),
        (AUC, COLOR, BACKGROUND, RANK),
    ),
    Chapter(
        10,
        "most-anomalous",
        "Most anomalous",
        "The 7 most anomalous images of each method, in rows. What did each find anomalous? Without being told what an"
        " anomaly is, is one better?",
        (
            Panel("anomaly", "anomaly/most", "The most anomalous images, the most anomalous first", "picture",
                  note="In a frame: of the other set."),
        ),
        (MOST, PIXELS, AUC),
    ),
    Chapter(
        11,
        "clustering",
        "Clustering",
        "k-means on the training representations, with as many clusters as there are classes. How much do the clusters"
        " know of the classes?",
        (),
        (NMI, ARI, PURITY, Measure("cluster", "cluster/k", "Clusters", "count")),
    ),
    Chapter(
        12,
        "cluster-maps",
        "Maps of the clusters",
        "t-SNE of the training representations, coloured by cluster and by class side by side, the centers in black."
        " Which method finds clusters, which separates classes?",
        (
            Panel("cluster", "cluster/clusters", "coloured by cluster"),
            Panel("cluster", "cluster/classes", "coloured by class"),
        ),
        (CLUSTERS, CLASSES, NMI, PURITY),
        side_by_side=True,
    ),
    Chapter(
        13,
        "silhouette",
        "Silhouette",
        "The silhouette of each method's clusters, in the original dimension. Does it agree with the eye?",
        (),
        (CLUSTERS, CLASSES, NMI, Measure("cluster", "cluster/silhouette/sample", "Images in the sample", "count")),
    ),
)  # fmt: skip


def shown(book: Book, artifact: str, variant: str, path: str) -> bool:
    """Whether a panel of a variant stands on the page."""
    evidence = book.evidence.get((artifact, variant))
    made = evidence and path in {*evidence.scores.figures, *evidence.scores.pictures}
    panels = (panel.path for chapter in CHAPTERS if variant in chapter.variants(book) for panel in chapter.panels)
    return bool(made) and path in {*panels, "retrieve/farthest"}  # which stands beside the nearest
