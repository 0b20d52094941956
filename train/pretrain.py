"""Trains an encoder with VICReg on views of the training images, and publishes it with its curves.

With --views neighbors the views of an image are the image itself and one of its nearest training images.
"""

from train.data.images import Images
from train.data.neighbors import Partners
from train.models import checkpoint
from train.objectives.recipe import OVERLAYS, PRESETS, Config, default_preset, neighbors_alias, variant_name
from train.objectives.training import Training
from train.tracking import Problem, Stage, launch
from train.tracking.store import home

__all__ = ["OVERLAYS", "PRESETS", "Config", "default_preset", "main"]


def main(config: Config) -> None:
    with Stage("train.pretrain", config) as stage:
        images = Images.load(stage.fetch("images", config.images))
        if config.batch_size > len(images.train):
            raise Problem(
                f"--batch-size {config.batch_size} is larger than the {len(images.train)} images of {images.name}"
            )
        partners = None
        if config.views == "neighbors":
            alias = config.neighbors or neighbors_alias(config, images.name, len(images.train))
            partners = Partners.load(stage.fetch("neighbors", alias), images, config.nearest, alias)
        stage.variant, stage.seed = variant_name(config, images.name, len(images.train)), config.seed
        path = home() / "checkpoints" / f"{stage.key}.safetensors"
        with checkpoint.locked(path):
            training = Training(config, images, stage, partners)
            training.run(path)
            scores = training.scores()
            scores.log(stage)
            stage.publish("encoder", training.encoder.save)
            stage.publish("training", scores.save)
    checkpoint.remove(path)


if __name__ == "__main__":
    launch(main)
