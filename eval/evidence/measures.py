"""The measures that reports show: where each stands in the scores, how it reads, which way is better."""

from dataclasses import dataclass

from eval.evidence.numbers import Form
from train.tracking.declarations import declaration


@dataclass(frozen=True)
class Measure:
    """path: in the scores of `artifact`; an interval is looked for at `path/interval`.

    better: 1 where more is better, -1 where less is, 0 where a number describes and does not rank.
    mark: path of the value that knowing nothing would give, or that value.
    compared: whether the path means the same in `compare`. noun: what sentences call it, where that is not its label.
    unlabeled: whether it is measured of unlabeled images alone.
    """

    artifact: str
    path: str
    label: str
    form: Form = "decimal"
    better: int = 0
    mark: str | float | None = None
    about: str = ""
    compared: bool = True
    noun: str = ""
    unlabeled: bool = False

    def applies(self, labeled: bool) -> bool:
        """Whether images have it that are labeled, or unlabeled."""
        return not labeled if self.unlabeled else labeled or not declaration(self.artifact).needs_labels(self.path)

    @property
    def words(self) -> str:
        """What sentences call it."""
        return self.noun or self.label[:1].lower() + self.label[1:]


PROBE = Measure("probe", "probe/top1", "Probe, representation", "percent", 1, "probe/chance",
                "Test accuracy of a linear probe on the representation, in percent", noun="the linear probe")  # fmt: skip
FEATURES = Measure("probe", "probe/features/top1", "Probe, features", "percent", 1, "probe/chance",
                   "Test accuracy of a linear probe on what the encoder's head reads, in percent",
                   noun="the linear probe on the features")  # fmt: skip
KNN = Measure("training", "knn/top1", "kNN", "percent", 1, None,
              "Accuracy of nearest neighbors on held-out training images at the end of training, in percent")  # fmt: skip
INSTANCES = Measure("training", "instances/reciprocal_rank", "Images told apart", "share", 1, None,
                    "Mean of 1 / rank of a view's own image among held-out ones, at the end of training: without labels the nearest to a probe",
                    noun="how well images are told apart", unlabeled=True)  # fmt: skip
AUC = Measure("anomaly", "anomaly/auc", "Anomaly AUC", "share", 1, 0.5,
              "Area under the ROC curve: how often an anomaly scores higher than a normal test image", noun="AUC")  # fmt: skip
CLUSTERS = Measure("cluster", "cluster/silhouette/clusters", "Silhouette, clusters", "decimal", 1, None,
                   "Silhouette of the k-means clusters in the representation", noun="silhouette of the clusters")  # fmt: skip
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

SUMMARY = (PROBE, FEATURES, KNN, INSTANCES, AUC, CLUSTERS, CLASSES, PRECISION, RANK)

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

KID = Measure("generate", "generate/kid", "Kernel distance", "decimal", -1, None,
              "KID of the samples to the test images in the features of the judge; 0: the same distribution")  # fmt: skip
FRECHET = Measure("generate", "generate/frechet", "Fréchet distance", "decimal", -1, None,
                  "Of the samples to the test images in the features of the judge; it grows as images get fewer")  # fmt: skip
SAMPLE_PRECISION = Measure("generate", "generate/precision", "Precision of samples", "percent", 1, None,
                           "Samples that lie among the test images, in percent; real images reach about 87")  # fmt: skip
SAMPLE_RECALL = Measure("generate", "generate/recall", "Recall of samples", "percent", 1, None,
                        "Test images that lie among the samples, in percent; real images reach about 87")  # fmt: skip
COVERAGE = Measure("generate", "generate/coverage", "Coverage", "percent", 1, None,
                   "Test images near which there is a sample, in percent")  # fmt: skip
ACCEPTED = Measure("generate", "generate/accepted", "Accepted by the judge", "percent", 1, None,
                   "Samples that the judge takes for some class with 0.9 or more, and not for spoiled, in percent")  # fmt: skip
SHARPNESS = Measure("generate", "generate/sharpness", "Sharpness", "decimal", 0, 1.0,
                    "Mean absolute Laplacian over ink, over that of the test images: below 1 blurry, above fragments")  # fmt: skip
BLURRY = Measure("generate", "generate/blurry", "Blurry samples", "percent", -1, 0.05,
                 "Samples less sharp than all but 5 % of the test images, in percent")  # fmt: skip
COPIES = Measure("generate", "generate/copies", "Copies", "percent", -1, 0.01,
                 "Samples as near to one training image as 1 % of the test images are, in percent")  # fmt: skip
BITS = Measure("generate", "generate/bits", "Bits per dimension", "decimal", -1, "generate/bits/pixels",
               "Bound on the bits that a test image's value takes; knowing nothing: a histogram of each pixel")  # fmt: skip

RECONSTRUCTION = Measure("decode", "decode/error", "Reconstruction error", "decimal", -1, "decode/pca",
                         "Mean squared error of test images' pixels in [0, 1]; beside as many principal components")  # fmt: skip
RECONSTRUCTED = Measure("decode", "decode/kept", "Class kept, reconstructed", "percent", 1, None,
                        "Reconstructions that the judge takes for their image's class, in percent")  # fmt: skip
MIDDLE_ACCEPTED = Measure("decode", "decode/middle/accepted", "Middles accepted", "percent", 1, "decode/fade/accepted",
                          "Images half-way between two codes that the judge accepts, in percent; beside cross-fades")  # fmt: skip
MIDDLE_THIRD = Measure("decode", "decode/middle/third", "Middles of a third class", "percent", -1, "decode/fade/third",
                       "Images half-way that the judge takes for neither's class, in percent; beside cross-fades")  # fmt: skip
MIDDLE_FADE = Measure("decode", "decode/middle/fade", "Middle to cross-fade", "decimal", 0, None,
                      "Mean squared error of the image half-way to the cross-fade of the two images")  # fmt: skip
MIDDLE_NEAREST = Measure("decode", "decode/middle/nearest", "Middle to training images", "decimal", 0, "decode/fade/nearest",
                         "L2 distance of the image half-way to the nearest training image; beside cross-fades")  # fmt: skip
UNEVENNESS = Measure("decode", "decode/unevenness", "Largest step of a path", "decimal", 0, 1.0,
                     "Over the mean of ten steps between two codes, in pixels; a cross-fade has 1")  # fmt: skip
KEPT_94, KEPT_48 = (
    Measure("decode", f"decode/ancestral/kept/{level}", f"Class kept, alpha_bar 0.{level}", "percent", 1, None,
            f"Test images that keep their class when noised to alpha_bar 0.{level} and restored by ancestral steps")
    for level in (94, 48)
)  # fmt: skip

CORRELATION = Measure("latents", "latents/correlation", "Correlation of units", "decimal", 0, "latents/rotated",
                      "Mean absolute r of two different units; beside the same codes in random bases")  # fmt: skip
WHOLE_MATRIX = Measure("latents", "latents/whole_matrix", "Whole correlation matrix", "decimal", 0, None,
                       "Mean absolute r with the ones on the diagonal: 1/d without any correlation")  # fmt: skip
RANK_SHARE = Measure("latents", "latents/rank_share", "Effective rank per dimension", "decimal", 0, 1.0,
                     "Effective rank of the correlation matrix over d; 1 without any correlation")  # fmt: skip
ACTIVE = Measure("latents", "latents/active", "Active units", "count", 0, None,
                 "Units of a variational code whose mean varies over the test images by more than 0.01")  # fmt: skip
CLASS_SHARE = Measure("latents", "latents/class_share", "Class in four units", "percent", 0, "latents/class_share/random",
                      "Share of a class's squared mean in its four largest units; beside random groups of images")  # fmt: skip
UNIT_AGREEMENT = Measure("latents", "latents/agreement", "Top units of two halves", "percent", 0, "latents/agreement/chance",
                         "Share of a class's three top units that two halves of its images have in common")  # fmt: skip

TRANSFER_10, TRANSFER_160 = (
    Measure("transfer", f"transfer/frozen/{count}", f"Frozen, {count} labels", "percent", 1, "transfer/chance",
            f"Test accuracy of a small network on the frozen codes with {count} labels, mean over draws, in percent")
    for count in (10, 160)
)  # fmt: skip
ADVANTAGE_10 = Measure("transfer", "transfer/advantage/10", "Frozen less fine-tuned, 10 labels", "points", 0, 0.0,
                       "Difference of the two accuracies on the same draws of 10 labels")  # fmt: skip

# What claims alone speak of.
CLAIMED = (
    Measure("project", "project/purity/gain", "Class purity of t-SNE less that of PCA", "points"),
    Measure("project", "project/pca/line", "Neighborhoods along one axis", "percent"),
    Measure("anomaly", "anomaly/most/anomalies", "Anomalies among the most anomalous", "count"),
    Measure("anomaly", "anomaly/most/count", "Most anomalous images", "count"),
    Measure("cluster", "cluster/silhouette/gain", "Silhouette of clusters less that of classes"),
    Measure("training", "curve/knn/steadiness", "Tenths in which kNN does not fall", "percent"),
    Measure("training", "curve/knn/gain", "Gain in kNN accuracy", "points"),
    Measure("training", "training/total/unrest", "Unrest of the loss", "scale"),
    Measure("training", "training/total/settling", "Share of the steps until the loss settles", "percent"),
    Measure("training", "anatomy/projector/gradient", "Gradient in the projector", "scale"),
    Measure("training", "anatomy/width", "Numbers in a prediction", "count"),
    Measure("training", "anatomy/pixels", "Numbers in an image", "count"),
    Measure("views", "views/harder/shared", "Operations in both policies", "count"),
    Measure("latents", "latents/distinct", "Distinct first units of the classes", "count"),
    Measure("decode", "decode/fade/accepted", "Cross-fades accepted", "percent"),
    Measure("transfer", "transfer/growth", "Gain from 20 labels to 160", "points"),
    Measure("transfer", "transfer/frozen/40", "Frozen, 40 labels", "percent"),
    *(
        Measure("transfer", f"transfer/advantage/{count}", f"Frozen less fine-tuned, {count} labels", "points")
        for count in (20, 40, 80, 160)
    ),
)
MEASURES = {
    measure.path: measure
    for measure in (*CLAIMED, *(value for value in globals().values() if isinstance(value, Measure)))
}
