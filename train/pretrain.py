"""Trains an encoder with VICReg on views of the training images, and publishes it with its curves.

With --views neighbors the views of an image are the image itself and one of its nearest training images. Several
processes share the batches where torchrun starts them: torchrun --nproc-per-node 2 -m train.pretrain ...
"""

from contextlib import nullcontext

from train.data.images import Images
from train.data.neighbors import Partners
from train.engine import checkpoint
from train.engine.loop import Training, device_of
from train.engine.processes import joined
from train.methods.config import Config, configured, neighbors_alias, variant_name
from train.tracking import Command, Problem, Stage
from train.tracking.store import home


def main(config: Config) -> None:
    with Stage("train.pretrain", config) as stage:
        source = stage.fetch("images", config.images)
        stage.about(source)
        images = Images.load(source.folder)
        if config.batch_size > len(images.train):
            raise Problem(
                f"--batch-size {config.batch_size} is larger than the {len(images.train)} images of {images.name}"
            )
        partners = None
        if config.views == "neighbors":
            alias = config.neighbors or neighbors_alias(config, images.name, len(images.train))
            partners = Partners.load(stage.fetch("neighbors", alias).folder, images, config.nearest, alias)
        stage.variant, stage.seed = variant_name(config, images.name, len(images.train)), config.seed
        path, device = home() / "checkpoints" / f"{stage.key}.safetensors", device_of(config)
        with joined(device) as processes, checkpoint.locked(path) if processes.leads else nullcontext():
            training = Training(config, images, stage, partners, device, processes)
            training.run(path)
            if processes.leads:
                scores = training.scores()
                scores.log(stage)
                stage.publish("encoder", training.encoder.save)
                stage.publish("training", scores.save)
    if processes.leads:
        checkpoint.remove(path)


COMMAND = Command(main, configured)

if __name__ == "__main__":
    COMMAND.launch()
