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

from train.data.images import Images
from train.engine import checkpoint
from train.engine.devices import device_of
from train.engine.loop import Training
from train.engine.processes import process_group
from train.methods.barlow import Barlow
from train.methods.byol import BYOL
from train.methods.dssl import DSSL
from train.methods.lejepa import LeJEPA
from train.methods.partners import Partners
from train.methods.ranges import fit_default
from train.methods.siamese import Config, Siamese
from train.methods.simsiam import SimSiam
from train.methods.variants import baseline, neighbors_alias, variant_name
from train.methods.vicreg import VICReg
from train.tracking import Command, Problem, Stage
from train.tracking.command import choice
from train.tracking.store import home

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
        source = stage.fetch("images", config.images)
        stage.about(source)
        images = Images.load(source.folder)
        size = fit_default("batch-size", config.batch_size, baseline(config).batch_size, len(images.train))
        if size > len(images.train):
            raise Problem(
                f"--batch-size {size} is larger than the {len(images.train)} images of {images.name}; give {len(images.train)}"
                " or less"
            )
        partners = None
        if config.views == "neighbors":
            alias = config.neighbors or neighbors_alias(config, images.name, len(images.train), images.size)
            partners = Partners.load(stage.fetch("neighbors", alias).folder, images, config.nearest, alias)
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        path, device = home() / "checkpoints" / f"{stage.key}.safetensors", device_of(config.device)
        with process_group(device, config.patience) as processes:
            # Held until all is published: the next one that asks for it then finds what was made.
            ended = held.enter_context(checkpoint.lock(path, processes, device))
            if ended and processes.any(processes.leads and stage.made(), device):
                return
            method = METHODS[config.method](replace(config, batch_size=size), images, partners)
            training = Training(method, stage, device, processes)
            training.run(path)
            if processes.leads:
                scores = training.scores()
                scores.log(stage)
                stage.publish("encoder", method.encoder.save)
                stage.publish("training", scores.save)


COMMAND = Command(main, configured)

if __name__ == "__main__":
    COMMAND.launch()
