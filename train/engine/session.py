"""What the stages that train have in common: from the images to what is published, in one process or several."""

from collections.abc import Callable
from contextlib import ExitStack

from train.data.images import Images
from train.engine import checkpoint
from train.engine.curves import finding
from train.engine.devices import device_of
from train.engine.loop import Training
from train.engine.processes import process_group
from train.methods.config import Config
from train.methods.method import Method
from train.methods.ranges import fit_default
from train.methods.variants import baseline
from train.tracking import Problem, Stage
from train.tracking.store import home


def fetch_images(stage: Stage, config: Config) -> Images:
    """The images to learn from, which the stage is about."""
    source = stage.fetch("images", config.images)
    stage.about(source)
    return Images.load(source.folder)


def fit_batch(config: Config, images: Images) -> int:
    """Images a step: all of a set that is smaller than the default. Raises Problem where more are asked for than there are."""
    size = fit_default("batch-size", config.batch_size, baseline(config).batch_size, len(images.train))
    if size > len(images.train):
        raise Problem(
            f"--batch-size {size} is larger than the {len(images.train)} images of {images.name}; give {len(images.train)}"
            " or less"
        )
    return size


def train(
    held: ExitStack,
    stage: Stage,
    config: Config,
    build: Callable[[], Method],
    publish: Callable[[Stage, Training], None] | None = None,
) -> None:
    """Trains what `build` makes, from its checkpoint where there is one, and publishes it: encoder and training, unless
    `publish` says so. Nothing is done where another process has made it meanwhile.

    held: closed when all is published. The next process that asks for it then finds what was made.
    """
    stage.register(config.registry)
    path, device = home() / "checkpoints" / f"{stage.key}.safetensors", device_of(config.device)
    with process_group(device, config.patience) as processes:
        ended = held.enter_context(checkpoint.lock(path, processes, device))
        if ended and processes.any(processes.leads and stage.made(), device):
            return
        training = Training(build(), stage, device, processes)
        training.run(path)
        if processes.leads:
            (publish or publish_encoder)(stage, training)


def publish_encoder(stage: Stage, training: Training) -> None:
    """The encoder, and the curves of its training."""
    scores = training.scores()
    scores.log(stage)
    stage.summarize(training.extremes())
    stage.finding = finding(stage.alias, scores.values, training.method.encoder.dimension)
    stage.publish("encoder", training.method.encoder.save)
    stage.publish("training", scores.save)
