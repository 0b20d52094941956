"""The numbers of the lab book: where each stands in the scores, how it is written, which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eval.labbook.book import Book

Form = Literal["percent", "share", "decimal", "tenth", "scale", "count", "percents", "text", "confused", "most"]
Interval = tuple[float, float]

# What `compare` says of a difference, and for a measure where more, or less, is better.
WORDS: Mapping[tuple[str, int], str] = {
    ("higher", 1): "better",
    ("lower", 1): "worse",
    ("higher", -1): "worse",
    ("lower", -1): "better",
}
MINUS = "\N{MINUS SIGN}"


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


@dataclass(frozen=True)
class Estimate:
    """Mean over n seeds. spread: standard deviation over them, None for one. interval: 95 %, None where not taken."""

    value: float
    spread: float | None
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """Of two variants. verdict: "higher", "lower", "no difference shown" (the interval includes 0) or "not decided" (there
    is no interval)."""

    value: float
    interval: Interval | None
    verdict: str

    @property
    def decided(self) -> bool:
        return self.verdict in ("higher", "lower")

    def word(self, measure: Measure) -> str:
        """The verdict, as "better" or "worse" where the measure ranks."""
        return WORDS.get((self.verdict, measure.better), self.verdict)


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

SUMMARY = (PROBE, FEATURES, KNN, AUC, CLUSTERS, CLASSES, PRECISION, RANK)


def number(value: Any, form: Form) -> str:
    """A value as text."""
    if form == "percents":
        return " and ".join(number(part, "percent") for part in value)
    if isinstance(value, str):
        return value
    if form == "percent":
        return f"{100 * value:z.1f} %".replace("-", MINUS)
    if form == "count":
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if form == "scale":
        return f"{value:.3g}".replace("-", MINUS)
    digits = 3 if form != "tenth" and abs(value) < 10 else 1
    return f"{value:z.{digits}f}".replace("-", MINUS)


def signed(value: float, form: Form) -> str:
    """A difference as text: with its sign, percents as points."""
    text = f"{number(value, form)} points".replace(" %", "") if form == "percent" else number(value, form)
    return text if value < 0 or not text.strip("0. points") else f"+{text}"


def span(ends: Interval, form: Form) -> str:
    """An interval as text, the unit once."""
    return " to ".join(number(end, form) for end in ends).replace(" % to", " to")


def estimate(book: Book, measure: Measure, variant: str) -> Estimate | None:
    """The mean over seeds that `compare` has found, else the value of the variant's own artifact; None without either."""
    own, ends = book.value(measure.artifact, variant, measure.path), _interval(book, measure, variant)
    if isinstance(mean := _compared(book, measure, f"{variant}/mean"), int | float):
        n, spread = (_compared(book, measure, f"{variant}/{part}") for part in ("n", "spread"))
        return Estimate(
            float(mean),
            float(spread) if isinstance(spread, int | float) else None,
            int(n) if isinstance(n, int | float) else 1,
            _ends(_compared(book, measure, f"{variant}/interval")) or (ends if n == 1 else None),
        )
    return Estimate(float(own), None, 1, ends) if isinstance(own, int | float) else None


def difference(book: Book, measure: Measure, first: str, second: str) -> Difference | None:
    """`first` minus `second`, as `compare` found it; without `compare` that of the values, on which nothing is decided."""
    opposite = {"higher": "lower", "lower": "higher"}
    for a, b, sign in ((first, second, 1), (second, first, -1)):
        value, ends, verdict = (
            _compared(book, measure, f"{a}-minus-{b}/{part}") for part in ("difference", "interval", "verdict")
        )
        if isinstance(value, int | float):
            low_high = _ends(ends)
            if sign < 0:
                low_high = low_high and (-low_high[1], -low_high[0])
                verdict = opposite.get(str(verdict), verdict)
            return Difference(sign * float(value), low_high, str(verdict))
    estimates = [estimate(book, measure, variant) for variant in (first, second)]
    if estimates[0] is None or estimates[1] is None:
        return None
    return Difference(estimates[0].value - estimates[1].value, None, "not decided")


def _compared(book: Book, measure: Measure, key: str) -> Any:
    """What `compare` says at `measure/key`: of this data set's variants, and of the same anomalies."""
    if book.compare is None or not measure.compared:
        return None
    values = book.compare.scores.values
    if measure.artifact == "anomaly" and values.get("compare/anomalies") != book.anomalies:
        return None
    return values.get(f"{measure.path}/{key}")


def _interval(book: Book, measure: Measure, variant: str) -> Interval | None:
    return _ends(book.value(measure.artifact, variant, f"{measure.path}/interval"))


def _ends(value: Any) -> Interval | None:
    return (float(value[0]), float(value[1])) if isinstance(value, list) and len(value) == 2 else None


def best(book: Book, measure: Measure) -> set[str]:
    """The variants with the best value, as it is written, and those that `compare` does not show to differ from them;
    none where there is no other to compare with."""
    found = {variant: estimate(book, measure, variant) for variant in book.variants}
    values = {variant: known.value for variant, known in found.items() if known is not None}
    if not measure.better or not values:
        return set()
    first = max(values, key=lambda variant: measure.better * values[variant])
    winners = {v for v, value in values.items() if number(value, measure.form) == number(values[first], measure.form)}
    for variant in values:
        apart = difference(book, measure, first, variant) if variant != first else None
        if apart and apart.verdict == "no difference shown":
            winners.add(variant)
    return winners if len(winners) < len(values) else set()
