"""What draws new images: the variational autoencoder and the diffusion; and what their codes are worth beside others."""

from eval.evidence.measures import (
    ACCEPTED,
    ACTIVE,
    BITS,
    BLURRY,
    CLASS_SHARE,
    COPIES,
    COVERAGE,
    FEATURES,
    FRECHET,
    KEPT_48,
    KEPT_94,
    KID,
    KNN,
    PROBE,
    RECONSTRUCTION,
    SAMPLE_PRECISION,
    SAMPLE_RECALL,
    SHARPNESS,
    UNIT_AGREEMENT,
)
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer
from eval.studies.reconstruction.representations import (
    AE,
    DDPM,
    DDPM_EARLY,
    LARGE,
    PATCHES,
    PIXELS,
    SUPERVISED,
    UNTRAINED,
    VAE,
    VAE_EARLY,
    VICREG,
)

SAMPLES = (
    Panel("generate", "generate/samples", "Samples", "picture"),
    Panel("generate", "generate/large", "Five samples", "picture"),
    Panel("training", "training/samples", "Samples from the same noise, by epoch"),
)
QUALITY = (KID, FRECHET, SAMPLE_PRECISION, SAMPLE_RECALL, COVERAGE, ACCEPTED, SHARPNESS, BLURRY, COPIES)
RULE = "The kernel distance (KID) decides which samples are nearer to real images; the mark beside it is that of training images."


def variational(w: Writer) -> None:
    w.versus("After all epochs against one, kernel distance of samples", KID, VAE, VAE_EARLY)
    w.versus("Error of the test images", RECONSTRUCTION, VAE, VAE_EARLY)
    share = w.phrase(ACCEPTED, VAE)
    if share:
        w.say(f"The judge takes {share} of its samples for an image of some class.")
    w.say("Units are exchangeable between trainings: that a class has unit 21 is no property of the method.")


def diffusion(w: Writer) -> None:
    w.versus("After all epochs against one, kernel distance of samples", KID, DDPM, DDPM_EARLY)
    for measure, level in ((KEPT_94, "0.94"), (KEPT_48, "0.48")):
        share = w.phrase(measure, DDPM)
        if share:
            w.say(f"Noised to alpha_bar {level} and restored, {share} of the images keep their class.")
    w.versus("Samples, kernel distance", KID, DDPM, VAE)
    w.versus("Samples among real images", SAMPLE_PRECISION, DDPM, VAE)


def codes(w: Writer) -> None:
    for name in (AE, VAE, DDPM):
        w.versus("By the probe", PROBE, name, VICREG)
        w.versus("Against pixels", PROBE, name, PIXELS)


VARIATIONAL = Chapter(
    5,
    "variational",
    "Variational autoencoder",
    "Do its samples and reconstructions get better by epoch, are they digits, are they blurry, and which units carry a class?",
    (
        *SAMPLES,
        Panel("training", "training/units", "What each unit costs"),
        Panel("latents", "latents/classes", "Class means by unit"),
    ),
    (*QUALITY, RECONSTRUCTION, ACTIVE, CLASS_SHARE, UNIT_AGREEMENT),
    answer=variational,
    rule=RULE,
    representations=(VAE, VAE_EARLY, LARGE),
)

DIFFUSION = Chapter(
    6,
    "diffusion",
    "Diffusion",
    "Do its samples get better by epoch, are they better than the variational autoencoder's of as many minutes, and does an image"
    " that was noised come back?",
    (
        *SAMPLES,
        Panel("generate", "generate/nearest", "Samples, each beside its nearest training image", "picture"),
        Panel("decode", "decode/restored", "Noised and restored", "picture"),
        Panel("decode", "decode/kept", "Share of images that keep their class"),
    ),
    (*QUALITY, BITS, KEPT_94, KEPT_48),
    answer=diffusion,
    rule=RULE,
    representations=(DDPM, DDPM_EARLY, VAE),
)

CODES = Chapter(
    7,
    "codes",
    "What the codes are worth",
    "What can a linear probe read from codes that were learned by reconstruction or denoising, beside those of comparing views?",
    (),
    (PROBE, FEATURES, KNN),
    answer=codes,
    representations=(SUPERVISED, VICREG, AE, LARGE, VAE, DDPM, UNTRAINED, PIXELS, PATCHES),
)
