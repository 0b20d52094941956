"""The origin of an artifact: the stage, data set, variant, seed and configuration that made it, and what from.

`Stage.publish` writes it into every artifact, and the stages after it read it there. Beside it stand the marks of
configuration fields, and the hashes by which two configurations count as the same.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from train.tracking.contents import read_json
from train.tracking.declarations import FILE, check_name
from train.tracking.problem import Problem, incident, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ORIGIN = "origin.json"


class Mark:
    """Stands beside the type of a configuration field: `device: Annotated[str, MACHINE]`."""


MACHINE = Mark()  # says how a machine works and not what comes out: no part of an identity
# Was added when results existed: at its default no part of an identity, so that those stay what they are.
LATER = Mark()


@dataclasses.dataclass(frozen=True)
class Origin:
    """The file in every artifact that says what it is. Later stages take data set, variant and seed from it.

    inputs: `name@digest` of each artifact that it was made from.
    """

    stage: str
    dataset: str | None
    variant: str | None
    seed: int | None
    config: Mapping[str, Any]
    inputs: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, file: str = ORIGIN) -> Self:
        """Raises Problem where it is no origin: aliases, and so commands, are made of it, wherever it comes from."""
        try:
            origin = read_json(folder / file, cls)
            for name in (origin.dataset, origin.variant):
                if name is not None:
                    check_name(name, "name in an origin")
            if origin.seed is not None and not 0 <= origin.seed < 2**32:  # scikit-learn takes no others
                raise ValueError(f"seed {origin.seed!r}")
            if strays := [entry for entry in origin.inputs if not re.fullmatch(r"[^@]+@\w+", entry)]:
                raise ValueError(f"input {strays[0]!r} is no NAME@DIGEST")
        except (OSError, ValueError, Problem) as error:
            raise incident(error) or Problem(
                f"{folder.name}/{file} is not an origin ({one_line(error)}); make the artifact again, or name another version"
            ) from error
        return origin

    def save(self, folder: Path) -> None:
        (folder / ORIGIN).write_text(json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True))

    @property
    def alias(self) -> str:
        """The alias of this variant and seed: where the stages beside this one have published."""
        return alias(str(self.variant), self.seed or 0)


def alias(variant: str, seed: int) -> str:
    return f"{variant}-s{seed}" if seed else variant


def identity(config: "DataclassInstance") -> dict[str, Any]:
    """The fields of a configuration that decide what comes out."""
    hints = get_type_hints(type(config), include_extras=True)
    values = dataclasses.asdict(config)
    fields = {}
    for field in dataclasses.fields(config):
        marks = getattr(hints[field.name], "__metadata__", ())
        value = values[field.name]
        if MACHINE not in marks and not (LATER in marks and value == field.default):
            fields[field.name] = value
    return fields


def settings(job: str, config: "DataclassInstance") -> str:
    """Hash of a stage and its resolved configuration. A configuration that names files outside the store has a
    method `fingerprint()` that changes when they do."""
    fingerprint = config.fingerprint() if hasattr(config, "fingerprint") else None
    return digest_of([job, identity(config), fingerprint])


def digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def revision() -> str:
    """The commit of this code, `-dirty` when changed since; `unknown` outside a checkout."""
    return _git("describe", "--always", "--dirty", "--abbrev=12").decode().strip() or "unknown"


def patch() -> bytes:
    """What was changed in this code since its commit, for `git apply`; nothing outside a checkout."""
    return _git("-C", str(FILE.parent), "diff", "HEAD", "--binary") if revision().endswith("-dirty") else b""


def _git(*words: str) -> bytes:
    """What git says of this checkout; nothing where there is no git, or no checkout."""
    with contextlib.suppress(OSError):
        return subprocess.run(["git", "-C", str(Path(__file__).parent), *words], capture_output=True).stdout
    return b""
