"""The claims file of a study: what is claimed, by whom, and the rule that decides it."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    StrictInt,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from eval.evidence.readings import score_names
from eval.evidence.rules import Rule, parse
from train.tracking.problem import Problem, one_line

# What is wrong, by pydantic's type of error; every other type in pydantic's own words.
ERRORS = {
    "missing": "is missing",
    "extra_forbidden": "is not a key; write one of {keys}",
    "string_type": "{value!r} is not a text; write some, in quotes where it looks like a number",
    "string_too_short": "{value!r} is empty; write some text",
    "int_type": "{value!r} is not an integer; give one",
    "model_type": "{value!r} is not an entry; give it the keys {keys}",
    "tuple_type": "{value!r} is not a list of claims; write one entry or more",
}


def _id(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text):
        raise ValueError(f"{text!r} is not an id; join words of small letters and digits by hyphens")
    return text


def _panel(text: object) -> tuple[str, str]:
    """Path and variant of `PATH of VARIANT`."""
    match = re.fullmatch(r"([\w/]+) of ([\w.-]+)", str(text))
    if match is None or match[1].partition("/")[0] not in score_names():
        raise ValueError(
            f"{text!r} is not a panel of {', '.join(score_names())}; write for instance: probe/confusion of vicreg"
        )
    return match[1], match[2]


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Panel = Annotated[tuple[str, str], PlainValidator(_panel)]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(Entry):
    """number: in the study's list of published claims, None where the claim is ours. question: the study's, which it
    belongs to. panels: where to look, (path, variant) of each."""

    id: Annotated[Text, AfterValidator(_id)]
    number: StrictInt | None = None
    question: StrictInt
    text: Text
    who: Text
    measured: Text
    rule: Annotated[Rule, PlainValidator(parse)]
    panels: Annotated[
        tuple[Panel, ...], BeforeValidator(lambda panels: panels if isinstance(panels, list) else [panels])
    ]


class Claims(Entry):
    """seedless: the variants and metric paths that depend on no seed."""

    seedless: frozenset[str] = frozenset()
    claims: tuple[Claim, ...]

    @classmethod
    def load(cls, path: Path, questions: Collection[int]) -> Self:
        """questions: the study's. Raises Problem, naming file, claim and key, where something is wrong."""
        try:
            content = yaml.safe_load(path.read_text())
        except OSError as error:
            raise Problem(f"the claims file {path} cannot be read ({error.strerror}); give another") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise Problem(f"{path.name} is not YAML: {one_line(error)}") from error
        try:
            claims = cls.model_validate(content)
        except ValidationError as error:
            raise Problem(f"{path.name}, {_line(error, content)}") from error
        ids = [claim.id for claim in claims.claims]
        for claim in claims.claims:
            if claim.question not in questions:
                raise Problem(
                    f"{path.name}, claim {claim.id!r}: question: the study has no question {claim.question};"
                    f" give one of {', '.join(map(str, sorted(questions)))}"
                )
            if ids.count(claim.id) > 1:
                raise Problem(f"{path.name}, claim {claim.id!r}: id: two entries have it; give each one of its own")
        return claims


def _line(error: ValidationError, content: Any) -> str:
    """What is wrong in the first wrong entry of the file, in one line."""
    errors = error.errors()
    first = errors[0]["loc"]
    if first[:1] != ("claims",) or len(first) < 2:
        return "; ".join(_part(entry, entry["loc"][:1], Claims) for entry in errors)
    claim = content["claims"][first[1]]
    name = repr(claim["id"]) if isinstance(claim, dict) and "id" in claim else f"{int(first[1]) + 1} of the list"
    parts = [_part(entry, entry["loc"][2:3], Claim) for entry in errors if entry["loc"][:2] == first[:2]]
    return f"claim {name}: {'; '.join(parts)}"


def _part(error: ErrorDetails, key: tuple[int | str, ...], entry: type[Entry]) -> str:
    """`KEY: what is wrong`; without the key where the whole entry is wrong."""
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    elif template := ERRORS.get(error["type"]):
        text = template.format(value=error["input"], keys=", ".join(entry.model_fields))
    else:
        text = one_line(error["msg"])
    return ": ".join([*map(str, key), text])
