"""Trains an encoder on views of the training images, and publishes it with its curves.

--method says what is learned, and has flags of its own: vicreg (VICReg, the default), simsiam (SimSiam), byol (BYOL), barlow
(Barlow Twins), dssl (DSSL) or lejepa (LeJEPA). With --views neighbors the views of an image are the image itself and one of
its nearest training images. Several processes share the batches where torchrun starts them:
torchrun --nproc-per-node 2 -m train.pretrain ...
"""

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from train.engine.session import fetch_images, fit_batch, train
from train.methods.barlow import Barlow
from train.methods.byol import BYOL
from train.methods.dssl import DSSL
from train.methods.lejepa import LeJEPA
from train.methods.partners import Partners
from train.methods.siamese import Config, Siamese
from train.methods.simsiam import SimSiam
from train.methods.variants import neighbors_alias, variant_name
from train.methods.vicreg import VICReg
from train.tracking import Command, Problem, Stage
from train.tracking.command import choice

METHODS: dict[str, type[Siamese]] = {
    "vicreg": VICReg, "simsiam": SimSiam, "byol": BYOL, "barlow": Barlow, "dssl": DSSL, "lejepa": LeJEPA,
}  # the first is the default  # fmt: skip


def configured(flags: Mapping[str, str]) -> Config:
    """What stands before any other flag: the method chooses the class, and that its defaults. Raises Problem for a flag that
    other methods have."""
    name = choice(flags, "method", list(METHODS))
    fields = {
        method: {field.name for field in dataclasses.fields(kind.configuration)} for method, kind in METHODS.items()
    }
    for flag in flags.keys() - fields[name]:
        if owners := [method for method in METHODS if flag in fields[method]]:
            raise Problem(
                f"--{flag.replace('_', '-')} is a flag of --method {' or '.join(owners)}, not of {name}; leave it out"
            )
    return METHODS[name].configuration.defaults(flags)


def main(config: Config) -> None:
    with ExitStack() as held, Stage("train.pretrain", config) as stage:
        images = fetch_images(stage, config)
        fitted = replace(config, batch_size=fit_batch(config, images))
        partners = None
        if config.views == "neighbors":
            alias = config.neighbors or neighbors_alias(config, images.name, len(images.train), images.size)
            partners = Partners.load(stage.fetch("neighbors", alias).folder, images, config.nearest, alias)
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        train(held, stage, config, lambda: METHODS[config.method](fitted, images, partners))


COMMAND = Command(main, configured)

if __name__ == "__main__":
    COMMAND.launch()
