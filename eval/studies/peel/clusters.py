"""What k-means finds in the representations, and how near that is to the classes."""

from eval.evidence.measures import ARI, CLASSES, CLUSTERS, NMI, PURITY, TSNE_PURITY, Measure
from eval.evidence.numbers import number, signed
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer
from eval.studies.peel.representations import FULL, NEIGHBORS

SILHOUETTE_GAIN = Measure("cluster", "cluster/silhouette/gain", "Silhouette of clusters minus that of classes")


def clustering(w: Writer) -> None:
    k = w.value("cluster", "cluster/k", FULL)
    if k:
        w.say(f"Clusters, by k-means: {number(k, 'count')}.")
    w.versus("Images in the most frequent class of their cluster", PURITY, FULL, NEIGHBORS)
    w.versus("Normalized mutual information with the classes", NMI, FULL, NEIGHBORS)


def cluster_maps(w: Writer) -> None:
    w.versus("Finds clusters (their silhouette)", CLUSTERS, FULL, NEIGHBORS)
    w.versus("Separates classes (silhouette of the classes)", CLASSES, FULL, NEIGHBORS)
    w.versus("Clusters that are classes (purity)", PURITY, FULL, NEIGHBORS)


def silhouette(w: Writer) -> None:
    gap = w.versus("Silhouette of the clusters", CLUSTERS, FULL, NEIGHBORS)
    eye = w.versus("What the eye sees (class purity of the t-SNE map)", TSNE_PURITY, FULL, NEIGHBORS)
    if gap and eye:
        if not (gap.decided and eye.decided):
            w.conclude("Whether the silhouette agrees with the eye is not decided.")
        else:
            agrees = gap.verdict == eye.verdict
            w.conclude(f"The silhouette {'agrees' if agrees else 'does not agree'} with the eye.")
    for name in (FULL, NEIGHBORS):
        gain = w.estimate(SILHOUETTE_GAIN, name)
        if gain:
            word = "above" if gain.value > 0 else "below"
            if not gain.interval or gain.interval[0] <= 0 <= gain.interval[1]:
                word = "not shown to differ from"
            w.say(
                f"For {w.label(name)} the clusters' silhouette is {word} that of the classes ({signed(gain.value, 'decimal')})."
            )


CLUSTERING = Chapter(
    11,
    "clustering",
    "Clustering",
    "k-means on the training representations, with as many clusters as there are classes. How much do the clusters"
    " know of the classes?",
    (),
    (NMI, ARI, PURITY, Measure("cluster", "cluster/k", "Clusters", "count")),
    answer=clustering,
)

CLUSTER_MAPS = Chapter(
    12,
    "cluster-maps",
    "Maps of the clusters",
    "t-SNE of the training representations, colored by cluster and by class side by side, the centers in black."
    " Which method finds clusters, which separates classes?",
    (
        Panel("cluster", "cluster/clusters", "colored by cluster"),
        Panel("cluster", "cluster/classes", "colored by class"),
    ),
    (CLUSTERS, CLASSES, NMI, PURITY),
    side_by_side=True,
    answer=cluster_maps,
)

SILHOUETTE = Chapter(
    13,
    "silhouette",
    "Silhouette",
    "The silhouette of each method's clusters, in the original dimension. Does it agree with the eye?",
    (),
    (CLUSTERS, CLASSES, NMI, Measure("cluster", "cluster/silhouette/sample", "Images in the sample", "count")),
    answer=silhouette,
    rule="It agrees where the silhouette and the class purity of the t-SNE map put the same method first.",
)
