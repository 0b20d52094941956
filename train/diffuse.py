"""Trains a denoising diffusion model, and publishes its sampler, its curves, and its middle map as an encoder.

What is published is the running average of the weights. The encoder adds one fixed noise to an image, down to --alpha-bar,
and reads the middle map's mean and quadrants.
"""

from contextlib import ExitStack
from dataclasses import replace

from train.engine.loop import Training
from train.engine.session import fetch_images, fit_batch, publish_encoder, train
from train.methods.diffusion import Config, Diffusion
from train.methods.variants import variant_name
from train.tracking import Command, Stage


def main(config: Config) -> None:
    with ExitStack() as held, Stage("train.diffuse", config) as stage:
        images = fetch_images(stage, config)
        fitted = replace(config, batch_size=fit_batch(config, images))
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        train(held, stage, config, lambda: Diffusion(fitted, images), publish)


def publish(stage: Stage, training: Training) -> None:
    method = training.method
    assert isinstance(method, Diffusion)
    stage.publish("generator", method.average.save)
    publish_encoder(stage, training)


COMMAND = Command(main, Config.defaults)

if __name__ == "__main__":
    COMMAND.launch()
