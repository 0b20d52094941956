"""What the study compares: codes of autoencoders of several sizes, a variational one, a diffusion, and what stands beside them."""

from eval.labbook.study import Representation

UNTRAINED, PIXELS, PATCHES = FLOORS = ("untrained", "pixels", "patches")
SUPERVISED, VICREG = ("supervised", "vicreg")
SMALL, SIX, TEN, AE, LARGE = SIZES = ("ae-d2", "ae-d6", "ae-d10", "ae", "ae-d30")
SHALLOW, BLANK = ("ae-layers2", "ae-untrained")
VAE, VAE_EARLY = ("vae-bernoulli", "vae-bernoulli-epochs1")
DDPM, DDPM_EARLY = ("ddpm", "ddpm-epochs1")

_AE = "train.autoencode --images {images}"
_VAE = f"{_AE} --kl 1 --likelihood bernoulli"
_DDPM = "train.diffuse --images {images}"
# What is not taken of a representation because no chapter asks for it.
_SIZE = ("generate", "probe", "transfer")  # of codes that are there for their size
_FLOOR = ("latents", "transfer")
_EARLY = ("probe", "latents", "transfer")  # of what is there to be compared with the whole training

REPRESENTATIONS = (
    Representation(SUPERVISED, "train.supervise --images {images}", "the judge", labeled=True, without=("transfer",)),
    Representation(UNTRAINED, "train.pretrain --images {images} --epochs 0", "the untrained network", without=_FLOOR),
    Representation(PIXELS, "train.patches --images {images} --kind pixels", "pixels", True, True, without=_FLOOR),
    Representation(PATCHES, "train.patches --images {images} --kind patches", "whitened patches", True, without=_FLOOR),
    Representation(VICREG, "train.pretrain --images {images} --method vicreg", "VICReg", without=("transfer",)),
    Representation(
        SMALL,
        f"{_AE} --dimension 2",
        "the autoencoder with d = 2",
        without=("generate",),
        flags={"transfer": "--ways frozen probe pca"},
    ),
    Representation(SIX, f"{_AE} --dimension 6", "the autoencoder with d = 6", without=_SIZE),
    Representation(TEN, f"{_AE} --dimension 10", "the autoencoder with d = 10", without=_SIZE),
    Representation(
        AE,
        _AE,
        "the autoencoder with d = 14",
        without=("generate",),
        flags={
            "transfer": "--ways frozen full scratch probe nearest pixels pca"
        },  # a search of rates takes as long again
    ),
    Representation(LARGE, f"{_AE} --dimension 30", "the autoencoder with d = 30", without=("transfer",)),
    Representation(SHALLOW, f"{_AE} --layers 2", "the autoencoder of two layers", without=(*_SIZE, "latents")),
    Representation(BLANK, f"{_AE} --epochs 0", "the untrained autoencoder", without=_SIZE),
    Representation(VAE_EARLY, f"{_VAE} --epochs 1", "the variational autoencoder after one epoch", without=_EARLY),
    Representation(VAE, _VAE, "the variational autoencoder", without=("transfer",)),
    Representation(DDPM_EARLY, f"{_DDPM} --epochs 1", "the diffusion after one epoch", without=(*_EARLY, "decode")),
    Representation(DDPM, _DDPM, "the diffusion", without=("transfer",)),
)
