"""What the study compares: SimSiam, SimSiam with a part taken away, its width and its views changed, and the other methods."""

from eval.labbook.study import Representation

UNTRAINED, PATCHES = FLOORS = ("untrained", "patches")
VICREG, SIMSIAM, BYOL, BARLOW, DSSL, LEJEPA = METHODS = ("vicreg", "simsiam", "byol", "barlow", "dssl", "lejepa")
FREE, NONE = PEELS = ("simsiam-free", "simsiam-none")
NARROW, WIDE, WIDER = ("simsiam-output128", "simsiam-output2048", "simsiam-output4096")
BARLOW_NARROW, BARLOW_WIDE, BARLOW_LARGE = ("barlow-output128", "barlow-output2048", "barlow-batch_size256")
ALL, ALL_MOVING = ("dssl-all", "dssl-all-moving")
HARDER = "simsiam-brightness0.8-contrast0.8-saturation0.8-hue0.3-solarize0.3"
MOMENTS = "lejepa-moments"

_TRAIN = "train.pretrain --images {images} --method"

REPRESENTATIONS = (
    Representation(UNTRAINED, "train.pretrain --images {images} --epochs 0", "the untrained network"),
    Representation(PATCHES, "train.patches --images {images} --kind patches", "whitened patches", plural=True),
    Representation(VICREG, f"{_TRAIN} vicreg", "VICReg"),
    Representation(SIMSIAM, f"{_TRAIN} simsiam", "SimSiam"),
    Representation(FREE, f"{_TRAIN} simsiam --target free", "SimSiam without stop-gradient"),
    Representation(NONE, f"{_TRAIN} simsiam --predictor none", "SimSiam without predictor"),
    Representation(NARROW, f"{_TRAIN} simsiam --output-width 128", "SimSiam of 128 outputs"),
    Representation(WIDE, f"{_TRAIN} simsiam --output-width 2048", "SimSiam of 2,048 outputs"),
    Representation(WIDER, f"{_TRAIN} simsiam --output-width 4096", "SimSiam of 4,096 outputs"),
    Representation(
        HARDER,
        f"{_TRAIN} simsiam --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.3 --solarize 0.3",
        "SimSiam on strong colors",
    ),
    Representation(BYOL, f"{_TRAIN} byol", "BYOL"),
    Representation(BARLOW, f"{_TRAIN} barlow", "Barlow Twins", plural=True),
    Representation(BARLOW_NARROW, f"{_TRAIN} barlow --output-width 128", "Barlow Twins of 128 outputs", plural=True),
    Representation(BARLOW_WIDE, f"{_TRAIN} barlow --output-width 2048", "Barlow Twins of 2,048 outputs", plural=True),
    Representation(BARLOW_LARGE, f"{_TRAIN} barlow --batch-size 256", "Barlow Twins in batches of 256", plural=True),
    Representation(DSSL, f"{_TRAIN} dssl", "DSSL"),
    Representation(ALL, f"{_TRAIN} dssl --pairs all", "SimSiam on standard and harder views alike"),
    Representation(ALL_MOVING, f"{_TRAIN} dssl --pairs all --target moving", "BYOL on standard and harder views alike"),
    Representation(LEJEPA, f"{_TRAIN} lejepa", "LeJEPA"),
    Representation(MOMENTS, f"{_TRAIN} lejepa --test moments", "LeJEPA of two moments"),
)
