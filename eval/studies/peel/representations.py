"""What the study compares, from the floor up: VICReg, VICReg with a part taken away or put in the place of another, and the
floors, for which nothing was learned."""

from eval.labbook.study import Representation

FULL, NO_VARIANCE, NEIGHBORS, EIGENMAPS = "vicreg", "vicreg-variance0", "vicreg-neighbors", "eigenmaps"
FLOORS = UNTRAINED, PIXELS, PATCHES = "untrained", "pixels", "patches"

REPRESENTATIONS = (
    Representation(UNTRAINED, "train.pretrain --images {images} --epochs 0", "the untrained network"),
    Representation(PIXELS, "train.patches --images {images} --kind pixels", "raw pixels", plural=True, seedless=True),
    Representation(PATCHES, "train.patches --images {images} --kind patches", "whitened patches", plural=True),
    Representation(FULL, "train.pretrain --images {images}", "VICReg"),
    Representation(NO_VARIANCE, "train.pretrain --images {images} --variance 0", "VICReg without variance"),
    Representation(NEIGHBORS, "train.pretrain --images {images} --views neighbors", "the neighbor variant"),
    Representation(EIGENMAPS, "train.eigenmaps --embeddings {untrained}", "Laplacian Eigenmaps", plural=True),
)
