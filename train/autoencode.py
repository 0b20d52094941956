"""Trains an autoencoder, or a variational one, and publishes its encoder, its decoder and the curves.

--kl 0 learns a code of --dimension numbers that the image can be made from again; above 0 the codes are held to a Gaussian
prior, so that new images can be drawn. The encoder's representation is the code (of a variational one its mean). An
autoencoder has no prior: its decoder draws codes from the Gaussian of the training images' codes.
"""

from contextlib import ExitStack
from dataclasses import replace

from train.engine.loop import Training
from train.engine.session import fetch_images, fit_batch, publish_encoder, train
from train.methods.autoencoder import Config, Reconstruction, autoencoder
from train.methods.variants import variant_name
from train.tracking import Command, Stage


def main(config: Config) -> None:
    with ExitStack() as held, Stage("train.autoencode", config) as stage:
        images = fetch_images(stage, config)
        fitted = replace(config, batch_size=fit_batch(config, images))
        stage.introduce(variant=variant_name(config, images.name, len(images.train), images.size), seed=config.seed)
        train(held, stage, config, lambda: autoencoder(fitted, images), publish)


def publish(stage: Stage, training: Training) -> None:
    method = training.method
    assert isinstance(method, Reconstruction)
    method.fit_prior()
    stage.publish("generator", method.decoder.save)
    publish_encoder(stage, training)


COMMAND = Command(main, Config.defaults)

if __name__ == "__main__":
    COMMAND.launch()
