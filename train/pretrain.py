"""Trains an encoder with VICReg on views of the training images, and publishes it with its curves."""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from train.data.images import Images, batch
from train.data.views import Augmentation, views
from train.models import checkpoint
from train.models.compact import parameter_count, projector
from train.models.encoder import Architecture, Encoder
from train.objectives import vicreg
from train.objectives.curves import figures
from train.objectives.monitor import measure
from train.tracking import MACHINE, Problem, Stage, launch
from train.tracking.scores import Scores
from train.tracking.stage import digest_of
from train.tracking.store import home

CHECKPOINT_SECONDS = 120  # at most that much work is lost to a kill; a checkpoint takes a fraction of a second
SMALL = 10_000  # training images below which `small` is the preset to take


@dataclass(frozen=True)
class Config:
    images: str
    """Alias of the images to learn from, as made by train.prepare."""
    preset: Literal["default", "small", "exercise"] = "default"
    """Where the other defaults come from: default (CIFAR-sized sets on a CPU), small (sets under 10,000 images),
    exercise (the course's recipe to the letter)."""
    seed: int = 0
    """Of the weights, the order of the images and the views."""
    epochs: int = 5
    """Passes over the training images; 0 publishes the untrained encoder."""
    batch_size: int = 64
    """Images a step; each gives `view_count` views."""

    view_count: int = 8
    """Views of an image in a step; the invariance term is averaged over their pairs."""
    view_size: int = 16
    """Side of a view in pixels."""
    crop_smallest: float = 0.25
    """Smallest area of a crop, as a share of the image."""
    crop_largest: float = 0.25
    """Largest area of a crop, as a share of the image."""
    crop_ratio: float = 1.0
    """Largest ratio of a crop's sides, either way."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: float = 0.8
    """Probability that brightness, contrast, saturation and hue are changed."""
    brightness: float = 0.4
    """Largest relative change of brightness."""
    contrast: float = 0.4
    """Largest relative change of contrast."""
    saturation: float = 0.4
    """Largest relative change of saturation."""
    hue: float = 0.1
    """Largest change of hue, in turns of the color wheel."""
    grayscale: float = 0.2
    """Probability that a view is gray."""
    blur: float = 0.0
    """Probability of a Gaussian blur over 3x3 pixels."""
    solarize: float = 0.0
    """Probability that a view is solarized."""

    backbone: Literal["compact", "resnet18"] = "compact"
    """compact (made for CPUs) or resnet18 (the exercise's)."""
    width: int = 32
    """Channels of the compact backbone's first stage."""
    hidden: int = 512
    """Width of the hidden layer between features and representation."""
    dimension: int = 128
    """Dimensions of the representation."""
    projector_width: int = 512
    """Width of the projector's layers: the dimensions that the loss sees."""
    projector_layers: int = 3
    """Linear layers of the projector."""

    invariance: float = 25.0
    """Weight of the invariance term."""
    variance: float = 25.0
    """Weight of the variance term; 0 takes it away."""
    covariance: float = 1.0
    """Weight of the covariance term."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """adamw, or adam with the weight decay in the gradient."""
    learning_rate: float = 1.5e-3
    """Largest learning rate."""
    weight_decay: float = 1e-4
    """Weight decay."""
    warmup: float = 0.15
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up: cosine falls to 0."""

    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks (autocast); auto is bfloat16 where the hardware multiplies it: cuda, CPUs with AMX or AVX512-BF16."""
    compile: Annotated[bool, MACHINE] = False
    """Compile the networks with torch.compile; resumed runs are then no longer equal to the last bit."""

    def __post_init__(self) -> None:
        probabilities = ("flip", "jitter", "grayscale", "blur", "solarize", "warmup")
        positive = ("batch_size", "view_size", "width", "hidden", "dimension", "projector_width", "projector_layers")
        not_negative = ("epochs", "seed", "invariance", "variance", "covariance", "weight_decay", "learning_rate")
        for names, low, high in ((probabilities, 0, 1), (positive, 1, math.inf), (not_negative, 0, math.inf)):
            for name in names:
                value = getattr(self, name)
                if not low <= value <= high:
                    limit = f"between {low} and {high}" if high < math.inf else f"at least {low}"
                    raise Problem(f"--{name.replace('_', '-')} {value:g} is not {limit}")
        if self.batch_size < 2:
            raise Problem("--batch-size 1: variance and covariance need at least 2 images")
        if self.view_count < 2:
            raise Problem(f"--view-count {self.view_count}: invariance needs at least 2 views")
        if self.view_size < 8:
            raise Problem(f"--view-size {self.view_size}: the networks need at least 8 pixels")
        if not 0 < self.crop_smallest <= self.crop_largest <= 1:
            raise Problem(
                f"--crop-smallest {self.crop_smallest:g} --crop-largest {self.crop_largest:g}: 0 < smallest <= largest <= 1"
            )
        if self.crop_ratio < 1:
            raise Problem(f"--crop-ratio {self.crop_ratio:g} is not at least 1")

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            size=self.view_size,
            scale=(self.crop_smallest, self.crop_largest),
            ratio=(1 / self.crop_ratio, self.crop_ratio),
            flip=self.flip,
            jitter=self.jitter,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
            grayscale=self.grayscale,
            blur=self.blur,
            solarize=self.solarize,
        )

    @property
    def weights(self) -> tuple[float, float, float]:
        return self.invariance, self.variance, self.covariance


_DEFAULT = Config(images="")
PRESETS = {
    "default": _DEFAULT,
    "small": dataclasses.replace(_DEFAULT, preset="small", epochs=15, width=16, view_count=4),
    "exercise": Config(
        images="",
        preset="exercise",
        epochs=10,
        batch_size=256,
        view_count=2,
        view_size=32,
        crop_smallest=0.2,
        crop_largest=1.0,
        crop_ratio=4 / 3,
        jitter=1.0,
        saturation=0.2,
        blur=0.5,
        backbone="resnet18",
        optimizer="adam",
        learning_rate=3e-4,
        weight_decay=1e-6,
        warmup=0.0,
        schedule="constant",
    ),
}
PEELED = (  # what the lab ablates, and how it is called in a variant's name
    "backbone", "invariance", "variance", "covariance",
    "flip", "jitter", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize", "projector_width",
)  # fmt: skip


def default_preset(count: int) -> str:
    """The preset for a set of `count` training images."""
    return "small" if count < SMALL else "default"


def variant_name(config: Config, dataset: str, count: int) -> str:
    """`cifar10-vicreg`, then what was peeled. count: training images.

    A preset that is not the one for a set of this size is named; any further setting adds a hash.
    """
    preset = PRESETS[config.preset]
    parts = [dataset, "vicreg" if config.epochs else "untrained"]
    if config.preset != default_preset(count):
        parts.append(config.preset)
    different = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(preset, field.name)
        and field.name not in ("images", "preset", "seed", "device", "compile")
    }
    if not config.epochs:  # without training only the network matters
        different = {
            name: value for name, value in different.items() if name in ("backbone", "width", "hidden", "dimension")
        }
    for name in PEELED:
        if name in different:
            value = different.pop(name)
            parts.append(str(value) if name == "backbone" else f"{name.removesuffix('_width')}{value:g}")
    if different:
        parts.append(digest_of(different)[:6])
    return "-".join(parts)


def main(config: Config) -> None:
    with Stage("train.pretrain", config) as stage:
        images = Images.load(stage.fetch("images", config.images))
        if config.batch_size > len(images.train):
            raise Problem(
                f"--batch-size {config.batch_size} is larger than the {len(images.train)} images of {images.name}"
            )
        stage.variant, stage.seed = variant_name(config, images.name, len(images.train)), config.seed
        path = home() / "checkpoints" / f"{stage.key}.safetensors"
        with checkpoint.locked(path):
            training = Training(config, images, stage)
            training.run(path)
            scores = training.scores()
            scores.log(stage)
            stage.publish("encoder", training.encoder.save)
            stage.publish("training", scores.save)
    checkpoint.remove(path)


class Training:
    """The loop. Every draw depends on the seed and the position alone, so that a checkpoint needs no generators."""

    def __init__(self, config: Config, images: Images, stage: Stage) -> None:
        self.config, self.images, self.stage = config, images, stage
        name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise Problem(f"--device {name} is not to be had here; take cpu or auto") from error
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and multiplies_bfloat16(self.device))
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext()
        self.mean, self.std = (torch.tensor(values, device=self.device) for values in (images.mean, images.std))

        torch.manual_seed(config.seed)
        architecture = Architecture(
            config.backbone, config.width, config.hidden, config.dimension, images.size, images.mean, images.std
        )
        self.encoder = Encoder(architecture).to(self.device)
        self.projector = projector(config.dimension, config.projector_width, config.projector_layers).to(self.device)
        self.modules: dict[str, nn.Module] = {"encoder": self.encoder, "projector": self.projector}
        self.project = torch.compile(self._project) if config.compile else self._project
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        self.parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        self.optimizer: torch.optim.Optimizer = kinds[config.optimizer](
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=self.device.type != "mps"
        )

        self.epoch_steps = len(images.train) // config.batch_size  # the last, incomplete batch waits for another epoch
        self.steps = config.epochs * self.epoch_steps
        self.step = 0
        self.batches: list[dict[str, float]] = []  # the curves: one entry a step
        self.epochs: list[dict[str, float]] = []  # and one an epoch, with epoch 0 before the first step

    def run(self, path: Any) -> None:
        """Trains to the end, from the checkpoint at `path` where there is one."""
        self._resume(path)
        if not self.epochs:
            self._measure()
        saved = time.monotonic()
        with (
            interrupted() as stop,
            tqdm(
                total=self.steps * self.config.batch_size,
                initial=self.step * self.config.batch_size,
                unit="image",
                desc=f"{self.stage.variant}",
            ) as progress,
        ):
            while self.step < self.steps:
                terms = self._train_step()
                progress.update(self.config.batch_size)
                at_end = self.step % self.epoch_steps == 0
                if self.step % 10 == 0 or at_end:
                    progress.set_postfix(epoch=f"{self.step / self.epoch_steps:.2f}", loss=f"{terms['loss/total']:.2f}")
                if at_end:
                    self._measure()
                if at_end or stop.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(path)
                    saved = time.monotonic()
                if stop.is_set():
                    raise KeyboardInterrupt

    def _project(self, pixels: Tensor) -> Tensor:
        return self.projector(self.encoder(pixels)[1])  # type: ignore[no-any-return]

    def _train_step(self) -> dict[str, float]:
        config = self.config
        rate = learning_rate(self.step, self.steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._training_mode(True)
        epoch, position = divmod(self.step, self.epoch_steps)
        order = epoch_order(config.seed, epoch, len(self.images.train))
        chosen = np.sort(order[position * config.batch_size :][: config.batch_size])
        z_vnd = self._project_views(batch(self.images.train, chosen), generator(config.seed, self.step))
        terms = vicreg.terms(z_vnd)
        total = vicreg.total(terms, config.weights)
        values = {
            "invariance": terms.invariance,
            "variance": terms.variance,
            "covariance": terms.covariance,
            "total": total,
        }
        numbers = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise Problem(
                    f"the {name} term is {number} in epoch {epoch + 1}, batch {position + 1}; nothing was published;"
                    f" try a --learning-rate below {config.learning_rate:g}"
                )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.step += 1
        entry = {
            "batch": self.step,
            "learning_rate": rate,
            **{f"loss/{name}": number for name, number in numbers.items()},
        }
        self.batches.append(entry)
        self.stage.log(entry)
        return entry

    def _project_views(self, pixels: Tensor, draws: torch.Generator) -> Tensor:
        """uint8 images (n, h, w, 3) -> projections of their views (v, n, d), float32."""
        count = self.config.view_count
        seen = views(pixels.to(self.device), count, self.config.augmentation, self.mean, self.std, draws)
        with self.autocast:
            z = self.project(seen.flatten(0, 1))
        return z.float().view(count, len(pixels), -1)

    def _training_mode(self, training: bool) -> None:
        if self.encoder.training != training:
            for module in self.modules.values():
                module.train(training)

    def _measure(self) -> None:
        """Once an epoch: the same terms on the test set's projections, kNN accuracy and collapse."""
        self._training_mode(False)
        entry = {"epoch": float(len(self.epochs)), "batch": float(self.step)}
        with self.autocast:
            entry |= measure(self.encoder, self.images)
        entry |= self._test_terms()
        self.epochs.append(entry)
        self.stage.log(entry)

    @torch.inference_mode()
    def _test_terms(self) -> dict[str, float]:
        """In batches of the training size, the same views at every epoch; an incomplete last batch is left out."""
        test, size = self.images.test, min(self.config.batch_size, len(self.images.test))
        sums = torch.zeros(4, dtype=torch.float64)
        count = len(test) // size
        for index in range(count):
            pixels = batch(test, slice(index * size, (index + 1) * size))
            terms = vicreg.terms(self._project_views(pixels, generator(0, index)))
            sums += torch.stack([*terms, vicreg.total(terms, self.config.weights)]).cpu()
        names = ("invariance", "variance", "covariance", "total")
        return {f"test/{name}": value for name, value in zip(names, (sums / count).tolist(), strict=True)}

    def _save(self, path: Any) -> None:
        progress = {"step": self.step, "batches": self.batches, "epochs": self.epochs}
        checkpoint.save(path, self.modules, self.optimizer, progress)

    def _resume(self, path: Any) -> None:
        self.stage.axis("epoch", "test/*", "knn/*", "collapse/*")
        self.stage.axis("batch", "loss/*", "learning_rate")
        progress = checkpoint.load(path, self.modules, self.optimizer)
        if progress is None:
            return
        self.step, self.batches, self.epochs = progress["step"], progress["batches"], progress["epochs"]
        print(f"going on from step {self.step} of {self.steps}")
        for entry in sorted([*self.batches, *self.epochs], key=lambda entry: entry["batch"]):
            self.stage.log(entry)

    def scores(self) -> Scores:
        """The curves and their last values."""
        last = self.epochs[-1]
        final: dict[str, Any] = {name: value for name, value in last.items() if name not in ("epoch", "batch")}
        for name in ("invariance", "variance", "covariance", "total"):
            recent = [entry[f"loss/{name}"] for entry in self.batches[-self.epoch_steps :]]
            if recent:
                final[f"loss/{name}"] = sum(recent) / len(recent)
        final |= {
            "training/epochs": self.config.epochs,
            "training/batches": self.steps,
            "training/parameters": parameter_count(self.encoder),
        }
        return Scores(final, figures(self.batches, self.epochs))


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Rises linearly over the warm-up, then stays, or falls to 0 along half a cosine."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The rows of the training images, shuffled anew for each epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the faster precision: elsewhere it is emulated, and slower than float32."""
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return device.type == "cuda"


def generator(seed: int, step: int) -> torch.Generator:
    """The draws of one step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1))


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, so that a step is never cut in two; a second one ends at once."""
    event = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    launch(main)
