"""What an evaluation found, in one sentence: its main numbers with their intervals, in the lab book's format."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.evidence.numbers import Form, bare

# By artifact: the path of a number, its form, and the words around it. {value}: without a unit. {ends}: its interval.
PARTS: Mapping[str, Sequence[tuple[str, Form, str]]] = {
    "probe": (
        ("probe/top1", "percent", "{value} %{ends} on the representation"),
        ("probe/features/top1", "percent", "{value} on the features"),
        ("probe/chance", "percent", "chance {value}"),
    ),
    "project": (
        ("project/tsne/purity", "percent", "{value} % of the 10 nearest in t-SNE have the image's class"),
        ("project/pca/purity", "percent", "{value} in PCA"),
        ("collapse/effective_rank", "tenth", "effective rank {value}"),
    ),
    "retrieve": (
        ("retrieve/precision@5", "percent", "{value} %{ends} of the 5 nearest images have the image's class"),
        ("retrieve/color", "decimal", "color distance {value} of chance"),
        ("retrieve/farthest_distinct", "count", "{value} distinct farthest images"),
    ),
    "anomaly": (
        ("anomaly/auc", "share", "AUC {value}{ends}"),
        ("anomaly/most/anomalies", "count", "anomalies among the most anomalous: {value}"),
    ),
    "cluster": (
        ("cluster/k", "count", "{value} clusters"),
        ("cluster/silhouette/clusters", "decimal", "silhouette {value}"),
        ("cluster/silhouette/classes", "decimal", "that of the classes {value}"),
        ("cluster/purity", "percent", "purity {value} %"),
        ("cluster/nmi", "decimal", "mutual information with the classes {value}"),
    ),
    "views": (
        ("views/matching", "percent", "{value} %{ends} of the views find the other view of their image"),
        ("views/harder/matching", "percent", "{value}{ends} of harder views"),
        ("views/chance", "percent", "chance {value}"),
    ),
    "generate": (
        ("generate/kid", "decimal", "kernel distance {value}{ends}"),
        ("generate/train/kid", "decimal", "that of training images {value}"),
        ("generate/precision", "percent", "precision {value} %"),
        ("generate/recall", "percent", "recall {value} %"),
        ("generate/accepted", "percent", "{value} % accepted by the judge"),
        ("generate/copies", "percent", "copies {value} %{ends}"),
    ),
    "decode": (
        ("decode/error", "decimal", "reconstruction error {value}{ends}"),
        ("decode/pca", "decimal", "that of as many principal components {value}"),
        ("decode/kept", "percent", "{value} % of the reconstructions keep their class"),
        ("decode/middle/accepted", "percent", "{value} % of the images half-way accepted by the judge"),
        ("decode/ancestral/kept/94", "percent", "{value} %{ends} keep their class when noised to alpha_bar 0.94"),
        ("decode/ancestral/kept/48", "percent", "{value}{ends} to 0.48"),
    ),
    "latents": (
        ("latents/dimensions", "count", "{value} dimensions"),
        ("latents/active", "count", "{value} active"),
        ("latents/correlation", "decimal", "correlation of units {value}"),
        ("latents/rotated", "decimal", "in random bases {value}"),
        ("latents/rank_share", "decimal", "effective rank per dimension {value}"),
    ),
}


def finding(artifact: str, subject: str, values: Mapping[str, Any]) -> str:
    """`probe of digits-vicreg: 95.0 % (92.8 to 97.0) on the representation, 96.4 on the features; chance 10.0`.

    subject: the variant and seed that were measured. values: of the scores; what was not measured is left out.
    """
    parts = PARTS[artifact] if artifact != "transfer" else _transfer(values)
    words = [
        template.format(value=bare(values[path], form), ends=_ends(values.get(f"{path}/interval"), form))
        for path, form, template in parts
        if values.get(path) is not None
    ]
    text = ", ".join(words).replace(", chance ", "; chance ")
    return f"{artifact} of {subject}: {text or 'nothing was measured'}"


def _ends(interval: Any, form: Form) -> str:
    return f" ({bare(interval[0], form)} to {bare(interval[1], form)})" if interval else ""


def _transfer(values: Mapping[str, Any]) -> Sequence[tuple[str, Form, str]]:
    """The frozen encoder, else the first way that was tried, with the fewest and the most labels."""
    counts = sorted(values["transfer/labels"])
    ways = [path.split("/")[1] for path in values if path.startswith("transfer/") and path.endswith(f"/{counts[0]}")]
    way = "frozen" if "frozen" in ways else ways[0]
    ends = [counts[0], counts[-1]] if len(counts) > 1 else counts
    first, *others = [(f"transfer/{way}/{count}", count) for count in ends]
    return (
        (first[0], "percent", f"{way}, {{value}} %{{ends}} with {first[1]} labels"),
        *((path, "percent", f"{{value}}{{ends}} with {count}") for path, count in others),
        ("transfer/chance", "percent", "chance {value}"),
    )
