"""The measures that chapters of several studies show: where each stands in the scores, and how it is written."""

from eval.labbook.estimates import Measure

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
PIXEL_DISTANCE = Measure("anomaly", "anomaly/most/pixels", "Pixel distance to each other", "decimal", 0, None,
                 "Over that of random test images of the same sets; near 0: near-duplicates")  # fmt: skip
CONFUSED = Measure("probe", "probe/confused", "Most confused", "confused")
