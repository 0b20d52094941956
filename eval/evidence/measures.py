"""The measures that reports show: where each stands in the scores, how it reads, which way is better."""

from dataclasses import dataclass

from eval.evidence.numbers import Form


@dataclass(frozen=True)
class Measure:
    """path: in the scores of `artifact`; an interval is looked for at `path/interval`.

    better: 1 where more is better, -1 where less is, 0 where a number describes and does not rank.
    mark: path of the value that knowing nothing would give, or that value.
    compared: whether the path means the same in `compare`.
    """

    artifact: str
    path: str
    label: str
    form: Form = "decimal"
    better: int = 0
    mark: str | float | None = None
    about: str = ""
    compared: bool = True


PROBE = Measure("probe", "probe/top1", "Probe, representation", "percent", 1, "probe/chance",
                "Test accuracy of a linear probe on the representation, in percent")  # fmt: skip
FEATURES = Measure("probe", "probe/features/top1", "Probe, features", "percent", 1, "probe/chance",
                   "Test accuracy of a linear probe on what the encoder's head reads, in percent")  # fmt: skip
KNN = Measure("training", "knn/top1", "kNN", "percent", 1, None,
              "Accuracy of nearest neighbors on held-out training images at the end of training, in percent")  # fmt: skip
AUC = Measure("anomaly", "anomaly/auc", "Anomaly AUC", "share", 1, 0.5,
              "Area under the ROC curve: how often an anomaly scores higher than a normal test image")  # fmt: skip
CLUSTERS = Measure("cluster", "cluster/silhouette/clusters", "Silhouette, clusters", "decimal", 1, None,
                   "Silhouette of the k-means clusters in the representation")  # fmt: skip
CLASSES = Measure("cluster", "cluster/silhouette/classes", "Silhouette, classes", "decimal", 1, None,
                  "Silhouette of the class labels in the representation")  # fmt: skip
PRECISION = Measure("retrieve", "retrieve/precision@5", "Precision@5", "percent", 1, "probe/chance",
                    "How many of the 5 nearest images are of the image's own class, in percent")  # fmt: skip
RANK = Measure("project", "collapse/effective_rank", "Effective rank", "tenth", 0, None,
               "How many dimensions the test representations fill; it describes and is not ranked")  # fmt: skip

PROJECTION_RANK = Measure("training", "curve/projection_rank", "Rank of the projection", "tenth", 0, None,
                          "How many dimensions of what the loss sees held-out images fill; 2 or fewer: collapsed")  # fmt: skip
SPREAD = Measure("training", "curve/projection_spread", "Spread of the projection", "decimal", 0, None,
                 "Deviation of its unit vectors times the square root of dimensions: 1 on a sphere, 0 in one point")  # fmt: skip
MATCHING = Measure("views", "views/matching", "Views matched", "percent", 1, "views/chance",
                   "How often a view's nearest among the other views of all images is its own image's, in percent")  # fmt: skip
HARDER_MATCHING = Measure("views", "views/harder/matching", "Harder views matched", "percent", 1, "views/chance",
                          "The same of two harder views")  # fmt: skip
CONTRAST = Measure("views", "views/contrast", "Contrast of views", "decimal", 1, 0.0,
                   "Cosine of two views of an image, less that of views of two images")  # fmt: skip
HARDER_DISTANCE = Measure("views", "views/harder/distance", "Distance of harder views", "decimal", -1, 1.0,
                          "Of a harder view to its standard view, over that of two images")  # fmt: skip
FARTHER = Measure("views", "views/harder/farther", "Harder views beyond", "percent", 0, None,
                  "How often a harder view lies farther from the mean of its image's views than its standard view")  # fmt: skip

SUMMARY = (PROBE, FEATURES, KNN, AUC, CLUSTERS, CLASSES, PRECISION, RANK)

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
              "Normalized mutual information of clusters and classes: 0 to 1")  # fmt: skip
ARI = Measure(
    "cluster", "cluster/ari", "Adjusted Rand index", "decimal", 1, 0.0, "Of clusters and classes: 0 by chance"
)
PURITY = Measure("cluster", "cluster/purity", "Cluster purity", "percent", 1, None,
                 "Share of images that belong to the most frequent class of their cluster")  # fmt: skip
MOST = Measure("anomaly", "anomaly/most", "Among the most anomalous", "most")
PIXEL_DISTANCE = Measure("anomaly", "anomaly/most/pixels", "Pixel distance to each other", "decimal", 0, None,
                 "Over that of random test images of the same sets; near 0: near-duplicates")  # fmt: skip
CONFUSED = Measure("probe", "probe/confused", "Most confused", "confused")
