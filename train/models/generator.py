"""Whatever makes images: the one place that reads an artifact `generator`."""

from pathlib import Path
from typing import Any

from train.models import decoder, diffuser
from train.models.decoder import Decoder
from train.models.diffuser import Diffuser
from train.tracking.contents import read_json
from train.tracking.problem import reading

Generator = Decoder | Diffuser

KINDS: dict[str, type[Decoder] | type[Diffuser]] = {decoder.Plan.kind: Decoder, diffuser.Plan.kind: Diffuser}


def load_generator(folder: Path) -> Generator:
    """Raises Problem where `folder` holds something else."""
    with reading(folder):
        kind = read_json(folder / "generator.json", dict[str, Any]).get("kind")
        if kind not in KINDS:
            raise ValueError(f"generator.json is of the kind {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[str(kind)].load(folder)
