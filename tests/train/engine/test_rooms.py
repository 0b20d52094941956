"""What a room must not know: no word of a method stands in the engine, and no name of a method or a study in the lab book."""

import re
from pathlib import Path

import pytest

from eval.studies.all import STUDIES
from train.pretrain import METHODS

ROOT = Path(__file__).parents[3]

# Of methods that are here or may come, and of their terms; those of the table are added.
WORDS = {
    "vicreg", "simsiam", "byol", "barlow", "dssl", "lejepa", "eigenmaps", "autoencoder", "autoencode", "vae", "diffusion",
    "diffuse", "ddpm", "invariance", "variance", "covariance", "similarity", "reconstruction", "siamese", "projector",
}  # fmt: skip
WORDS |= {word for name, method in METHODS.items() for word in (name, *method.terms, *method.configuration.PEELED)}
WORDS -= {"test", "weight", "standard"}  # of methods, and everyone's words
# What a study compares, by the first word of its name. The lab book is Peel's, whatever the study, and images have pixels.
NAMES = {one.name.partition("-")[0] for study in STUDIES.values() for one in study.representations}
NAMES |= {*METHODS, *STUDIES, "simsiam", "byol", "barlow", "dssl", "lejepa", "autoencoder", "vae", "diffusion", "ddpm"}
ROOMS = [("train/engine", WORDS), ("eval/labbook", NAMES - {"peel", "pixels"})]


@pytest.mark.parametrize(("room", "words"), ROOMS, ids=[room for room, _ in ROOMS])
def test_no_file_of_the_room_names_a_method(room: str, words: set[str]) -> None:
    files = [file for file in (ROOT / room).rglob("*") if file.is_file() and file.suffix not in (".pyc", ".png")]
    assert len(files) > 5
    lines = [
        f"{file.relative_to(ROOT)}:{number}: {word}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for word in re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", line).lower() + " " + line.lower())
        if word in words
    ]
    assert lines == []
