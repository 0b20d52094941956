"""Learning by reconstruction and by denoising: autoencoder, variational autoencoder and diffusion, by samples and by codes."""

from pathlib import Path

from eval.evidence.measures import ACCEPTED, FEATURES, INSTANCES, KID, KNN, PROBE, RECONSTRUCTION, SAMPLE_PRECISION
from eval.labbook.chapter import Chapter
from eval.labbook.floors import against
from eval.labbook.study import Ablation, Study, Use
from eval.studies.reconstruction import autoencoders, generators
from eval.studies.reconstruction.representations import (
    AE,
    BLANK,
    DDPM,
    FLOORS,
    LARGE,
    REPRESENTATIONS,
    SHALLOW,
    SMALL,
    VAE,
)

SUMMARY = (PROBE, FEATURES, KNN, INSTANCES, RECONSTRUCTION, KID, SAMPLE_PRECISION, ACCEPTED)


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
        (PROBE, FEATURES, INSTANCES),
        answer=against((AE, VAE, DDPM), FLOORS, (PROBE, INSTANCES)),
    ),
    ablations=(
        Ablation("with 2 numbers an image in place of 14", AE, SMALL),
        Ablation("with two layers in place of three", AE, SHALLOW, RECONSTRUCTION),
    ),
    uses=(
        Use("reconstruction", RECONSTRUCTION, (AE, LARGE, VAE), (BLANK,)),
        Use("the samples", KID, (DDPM,), (VAE,), plural=True),
    ),
    claims=Path(__file__).with_name("claims.yaml"),
    sources={"report": "the reports"},
    # As wide as they are, the digits twice: what is between pixels was interpolated, and a likelihood would count it.
    sizes={"digits": 16, "mnist": 28, "fashion-mnist": 28},
)
