"""What stands at each path of the scores, by type: checked as they are read, since they may come from anywhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.evidence.numbers import Form
from train.tracking.contents import conform

Number = int | float
Interval = tuple[Number, Number]
Pairs = tuple[tuple[str | int, str | int, Number], ...]  # older versions name a class by its place
Kinds = tuple[tuple[str, Any], ...]  # patterns of paths, the first that fits, and what stands there


@dataclass(frozen=True)
class Most:
    """One of the most anomalous images, as far as the page reads it."""

    set: str


FORMS: Mapping[Form, Any] = {
    "percents": tuple[Number, ...],
    "text": str,
    "confused": Pairs,
    "most": tuple[Most, ...],
}  # every other form is that of a number

EVALUATION: Kinds = (
    (r".+/interval", Interval | None),
    (r"probe/classes", tuple[str, ...]),
    (r"probe/counts", tuple[int, ...]),
    (r"probe/per_class", tuple[Number | None, ...]),
    (r"probe/(pairs|confused)", Pairs),
    (r"retrieve/queries", tuple[int, ...]),
)
COMPARISON: Kinds = (
    (r"compare/dataset", str),
    (r"compare/anomalies", str | None),
    (r"compare/(variants|measures)", tuple[str, ...]),
    (r"compare/source/.+", tuple[str | None, ...]),
    (r"probe/classes/.+/seeds", tuple[tuple[str, ...], ...]),
    (r"probe/(counts|per_class)/.+/seeds", tuple[tuple[Number, ...], ...]),
    (r"probe/pairs/.+/seeds", tuple[Pairs, ...]),
    (r".+/seeds", tuple[Number, ...]),
    (r".+/interval", Interval | None),
    (r".+/(mean|difference)", Number),
    (r".+/spread", Number | None),
)
CLAIMS: Kinds = (
    (r"claims/ids", tuple[str, ...]),
    (r"claims/.+/(number|question)", int | None),
    (r"claims/.+/(text|who|measured|verdict|why)", str),
    (r"claims/.+/panels", tuple[str, ...]),
)
OF: Mapping[str, Kinds] = {"compare": COMPARISON, "claims": CLAIMS}  # and EVALUATION of all others


def check_kinds(values: Mapping[str, Any], artifact: str) -> None:
    """Raises ValueError, with the path, where one of an artifact's values is not of its kind."""
    kinds = OF.get(artifact, EVALUATION)
    for path, value in values.items():
        for pattern, kind in kinds:
            if re.fullmatch(pattern, path):
                check_kind(path, value, kind)
                break


def check_form(path: str, value: Any, form: Form) -> None:
    """Raises ValueError where a value is none of this form; what was not measured is None."""
    check_kind(path, value, FORMS.get(form, Number) | None)


def check_kind(path: str, value: Any, kind: Any) -> None:
    try:
        conform(value, kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
