"""Learning by reconstruction and by denoising: autoencoder, variational autoencoder and diffusion, by samples and by codes."""

from pathlib import Path

from eval.evidence.measures import ACCEPTED, FEATURES, KID, KNN, PROBE, RECONSTRUCTION, SAMPLE_PRECISION
from eval.labbook.chapter import Chapter
from eval.labbook.study import Study
from eval.labbook.writing import Writer, distance
from eval.studies.reconstruction import autoencoders, generators
from eval.studies.reconstruction.representations import AE, DDPM, FLOORS, REPRESENTATIONS, VAE

SUMMARY = (PROBE, FEATURES, KNN, RECONSTRUCTION, KID, SAMPLE_PRECISION, ACCEPTED)


def floors(w: Writer) -> None:
    for floor in FLOORS:
        verdicts = []
        for name in (AE, VAE, DDPM):
            if w.has(name) and (gap := w.difference(PROBE, name, floor)):
                verdicts.append(f"{w.label(name)} {gap.word(PROBE)} ({distance(gap, PROBE.form)})")
        if verdicts:
            w.say(f"By the probe, against {w.label(floor)}: {'; '.join(verdicts)}.")


STUDY = Study(
    "reconstruction",
    "What is learned by making images again, from a code or from noise?",
    subject=AE,
    baselines=FLOORS,
    representations=REPRESENTATIONS,
    evaluations=("probe", "generate", "decode", "latents", "transfer"),
    summary=SUMMARY,
    chapters=(
        autoencoders.AUTOENCODING,
        autoencoders.BETWEEN,
        autoencoders.REDUNDANCY,
        autoencoders.FEW,
        generators.VARIATIONAL,
        generators.DIFFUSION,
        generators.CODES,
    ),
    floors=Chapter(
        0,
        "floors",
        "Floors",
        "What do codes have over what nothing was learned for?",
        (),
        (PROBE, FEATURES),
        answer=floors,
    ),
    claims=Path(__file__).with_name("claims.yaml"),
    # As wide as they are, the digits twice: what is between pixels was interpolated, and a likelihood would count it.
    sizes={"digits": 16, "mnist": 28, "fashion-mnist": 28},
)
