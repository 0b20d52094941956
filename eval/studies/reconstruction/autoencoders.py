"""The autoencoder: how well it reconstructs, what lies between two codes, whether codes are redundant, what few labels read."""

from itertools import pairwise

from eval.evidence.measures import (
    ADVANTAGE_10,
    CORRELATION,
    MIDDLE_ACCEPTED,
    MIDDLE_FADE,
    MIDDLE_NEAREST,
    MIDDLE_THIRD,
    RANK_SHARE,
    RECONSTRUCTED,
    RECONSTRUCTION,
    TRANSFER_10,
    TRANSFER_160,
    UNEVENNESS,
    WHOLE_MATRIX,
)
from eval.labbook.chapter import Chapter, Panel
from eval.labbook.writing import Writer
from eval.studies.reconstruction.representations import AE, BLANK, LARGE, SHALLOW, SIZES, SMALL, VAE, VICREG


def reconstruction(w: Writer) -> None:
    gaps = [
        w.versus("Error of the test images", RECONSTRUCTION, larger, smaller) for smaller, larger in pairwise(SIZES)
    ]
    steps = [gap.word(RECONSTRUCTION) for gap in gaps if gap]
    if steps:
        w.conclude(f"The larger code reconstructs better at {steps.count('better')} of {len(steps)} steps of d.")
    w.versus("Three layers against two, with d = 14", RECONSTRUCTION, AE, SHALLOW)


def interpolation(w: Writer) -> None:
    w.versus("Error of the middle image to the cross-fade of the two images", MIDDLE_FADE, LARGE, SMALL)
    w.versus("Middle images that the judge accepts", MIDDLE_ACCEPTED, LARGE, SMALL)
    w.versus("The same", MIDDLE_ACCEPTED, VAE, LARGE)
    w.versus("Middle images of a third class", MIDDLE_THIRD, VAE, LARGE)


def decorrelation(w: Writer) -> None:
    w.versus("Mean correlation off the diagonal", CORRELATION, LARGE, SMALL)
    w.versus("The whole matrix, whose diagonal alone gives 1/d", WHOLE_MATRIX, LARGE, SMALL)
    w.versus("The same of d = 14, trained and untrained, off the diagonal", CORRELATION, AE, BLANK)
    w.versus("Share of its dimensions that a code fills", RANK_SHARE, LARGE, SMALL)
    w.say("The correlation is a property of the basis: a rotation of the codes changes it, and no information.")


def transfer(w: Writer) -> None:
    gain = w.phrase(ADVANTAGE_10, AE)
    if gain:
        w.say(f"With 10 labels the frozen encoder is ahead of the whole fine-tuned one by {gain}.")
    w.versus("A frozen encoder with 10 labels", TRANSFER_10, AE, SMALL)
    w.versus("The same with 160", TRANSFER_160, AE, SMALL)


AUTOENCODING = Chapter(
    1,
    "autoencoding",
    "Reconstruction",
    "How well does an autoencoder reconstruct test images with d numbers, beside principal components of as many, and do"
    " three convolutions beat two?",
    (
        Panel("decode", "decode/reconstructions", "Test images, and what is made of their codes", "picture"),
        Panel("training", "training/reconstructions", "The same by epoch"),
        Panel("decode", "decode/errors", "Error by image"),
    ),
    (RECONSTRUCTION, RECONSTRUCTED),
    answer=reconstruction,
    rule="The mark beside an error is that of principal components with as many dimensions.",
    representations=(*SIZES, SHALLOW, BLANK, VAE),
)

BETWEEN = Chapter(
    2,
    "interpolation",
    "Interpolation",
    "Are the images between two codes digits, or the cross-fade of the two images?",
    (Panel("decode", "decode/paths", "From one image to another; below each path the cross-fade", "picture"),),
    (MIDDLE_FADE, MIDDLE_ACCEPTED, MIDDLE_THIRD, MIDDLE_NEAREST, UNEVENNESS),
    answer=interpolation,
    representations=(*SIZES, VAE),
)

REDUNDANCY = Chapter(
    3,
    "decorrelation",
    "Decorrelation",
    "Do the dimensions of a code repeat one another, the less the more there are?",
    (Panel("latents", "latents/correlations", "Correlations of the dimensions"),),
    (CORRELATION, WHOLE_MATRIX, RANK_SHARE),
    answer=decorrelation,
    representations=(*SIZES, BLANK, VAE, VICREG),
)

FEW = Chapter(
    4,
    "transfer",
    "Few labels",
    "With tens of labels, is a frozen encoder worth more than the whole network fine-tuned, and from when on is it not?",
    (Panel("transfer", "transfer/accuracy", "Accuracy against labels"),),
    (TRANSFER_10, TRANSFER_160, ADVANTAGE_10),
    answer=transfer,
    representations=(SMALL, AE),
)
