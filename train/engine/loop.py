"""The training loop: steps, what is measured once an epoch, checkpoints."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from train.data.images import Images
from train.data.neighbors import Partners
from train.data.scores import Scores
from train.data.views import batch, views
from train.engine import checkpoint
from train.engine.curves import TERMS, figures, rises
from train.engine.monitor import measure
from train.engine.optimizer import Muon
from train.engine.processes import Processes
from train.methods import vicreg
from train.methods.config import Config
from train.models.compact import parameter_count, projector
from train.models.encoder import Architecture, Encoder
from train.models.patches import fit, sample
from train.models.whitened import Stem
from train.tracking import Problem, Stage

CHECKPOINT_SECONDS = 120  # at most that much work is lost to a kill; a checkpoint takes a fraction of a second


class Training:
    """The loop. Every draw depends on the seed and the position alone, so that a checkpoint needs no generators, and several
    processes draw what one would.
    """

    def __init__(
        self,
        config: Config,
        images: Images,
        stage: Stage,
        partners: Partners | None = None,
        device: torch.device | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.images, self.stage, self.partners = config, images, stage, partners
        self.processes = processes or Processes()
        if config.batch_size % self.processes.count:
            raise Problem(
                f"--batch-size {config.batch_size} cannot be shared by {self.processes.count} processes; give a multiple"
            )
        self.augmentation = config.augmentation(images.size)
        self.device = device or device_of(config)
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and multiplies_bfloat16(self.device))
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext()
        self.mean, self.std = (torch.tensor(values, device=self.device) for values in (images.mean, images.std))

        torch.manual_seed(config.seed)
        head = (config.hidden, config.dimension)
        if config.backbone == "fourconv":  # it ends in a layer of its own
            head = (0, 0)
        architecture = Architecture(config.backbone, config.width, *head, images.size, images.mean, images.std)
        self.encoder = Encoder(architecture)
        for module in self.encoder.modules():
            if isinstance(module, Stem):
                random = np.random.default_rng(config.seed)
                drawn = sample(images.train, self.mean.cpu(), self.std.cpu(), random)
                module.bank.copy_(fit(drawn.numpy(), len(module.bank), random)[0])
        self.encoder.to(self.device)
        self.projector = projector(self.encoder.dimension, config.projector_width, config.projector_layers).to(
            self.device
        )
        self.modules: dict[str, nn.Module] = {"encoder": self.encoder, "projector": self.projector}
        self.project = torch.compile(self._project) if config.compile else self._project
        self.parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        self.optimizer = optimizer(config, self.parameters, self.device)

        self.epoch_steps = len(images.train) // config.batch_size  # the last, incomplete batch waits for another epoch
        self.steps = config.epochs * self.epoch_steps
        self.step = 0
        self.batches: list[dict[str, float]] = []  # the curves: one entry a step
        self.epochs: list[dict[str, float]] = []  # and one an epoch, with epoch 0 before the first step

    def run(self, path: Path) -> None:
        """Trains to the end, from the checkpoint at `path` where there is one."""
        self._resume(path)
        if not self.epochs:
            self._measure()
        saved = time.monotonic()
        with (
            interrupted(insistent=self.processes.count == 1) as stop,
            tqdm(
                total=self.steps * self.config.batch_size,
                initial=self.step * self.config.batch_size,
                unit="image",
                desc=f"{self.stage.variant}",
                disable=not self.processes.leads,
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
                stopping = self.processes.any(stop.is_set(), self.device)
                if at_end or stopping or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(path)
                    saved = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt

    def _project(self, pixels: Tensor) -> Tensor:
        return self.projector(self.encoder(pixels)[1])  # type: ignore[no-any-return]

    def _train_step(self) -> dict[str, float]:
        config = self.config
        rate = learning_rate(self.step, self.steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1.0)
        self._training_mode(True)
        epoch, position = divmod(self.step, self.epoch_steps)
        order = epoch_order(config.seed, epoch, len(self.images.train))
        chosen = np.sort(order[position * config.batch_size :][: config.batch_size])
        share = self.processes.share(len(chosen))
        z_vnd = self.processes.gather(self._project_views("train", chosen, generator(config.seed, self.step), share))
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
        self.processes.add_gradients(self.parameters)
        self.optimizer.step()
        self.step += 1
        entry = {
            "batch": self.step,
            "optimizer/learning_rate": rate,
            **{f"loss/{name}": number for name, number in numbers.items()},
        }
        self.batches.append(entry)
        self.stage.log(entry)
        return entry

    def _project_views(
        self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice = slice(None)
    ) -> Tensor:
        """Rows (n,) of a split -> projections of the views of their `share` (v, m, d), float32. All n are drawn for."""
        pixels, chosen = batch(getattr(self.images, split), rows), torch.arange(len(rows))[share]
        count, drawn = self.config.view_count, self.config.view_count
        size = len(chosen)
        if self.partners is not None:  # the two views are the image and its partner, each taken once
            partners = batch(self.images.train, self.partners.draw(split, rows, draws))
            pixels, chosen, drawn = torch.cat([pixels, partners]), torch.cat([chosen, len(rows) + chosen]), 1
        seen = views(pixels.to(self.device), drawn, self.augmentation, self.mean, self.std, draws, chosen)
        with self.autocast:
            z = self.project(seen.flatten(0, 1))
        return z.float().view(count, size, -1)

    def _training_mode(self, training: bool) -> None:
        if self.encoder.training != training:
            for module in self.modules.values():
                module.train(training)

    def _measure(self) -> None:
        """Once an epoch, in the first process: the same terms on the test set's projections, kNN accuracy and collapse."""
        if not self.processes.leads:
            return
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
        size = min(self.config.batch_size, len(self.images.test))
        sums = torch.zeros(4, dtype=torch.float64)
        count = len(self.images.test) // size
        for index in range(count):
            rows = np.arange(index * size, (index + 1) * size)
            terms = vicreg.terms(self._project_views("test", rows, generator(0, index)))
            sums += torch.stack([*terms, vicreg.total(terms, self.config.weights)]).cpu()
        return {f"test/{name}": value for name, value in zip(TERMS, (sums / count).tolist(), strict=True)}

    def _save(self, path: Path) -> None:
        if not self.processes.leads:
            return
        count = self.processes.count
        progress = {"step": self.step, "batches": self.batches, "epochs": self.epochs, "processes": count}
        checkpoint.save(path, self.modules, self.optimizer, progress)

    def _resume(self, path: Path) -> None:
        self.stage.axis("epoch", "test/*", "knn/*", "collapse/*")
        self.stage.axis("batch", "loss/*", "optimizer/*")
        with self.processes.file(path, self.device) as saved:
            progress = checkpoint.load(saved, self.modules, self.optimizer)
        if progress is None:
            return
        if (count := progress.get("processes", 1)) != self.processes.count:
            raise Problem(
                f"{self.processes.count} processes cannot go on with what {count} began; start as many, or remove {path}"
            )
        self.step, self.batches, self.epochs = progress["step"], progress["batches"], progress["epochs"]
        if self.processes.leads:
            print(f"going on from step {self.step} of {self.steps}")
        for entry in sorted([*self.batches, *self.epochs], key=lambda entry: entry["batch"]):
            self.stage.log(entry)

    def scores(self) -> Scores:
        """The curves and their last values."""
        last = self.epochs[-1]
        final: dict[str, Any] = {name: value for name, value in last.items() if name not in ("epoch", "batch")}
        for name in TERMS:
            recent = [entry[f"loss/{name}"] for entry in self.batches[-self.epoch_steps :]]
            if recent:
                final[f"loss/{name}"] = sum(recent) / len(recent)
        final |= rises(self.batches)
        final |= {
            "training/epochs": self.config.epochs,
            "training/batches": self.steps,
            "training/parameters": parameter_count(self.encoder),
            "training/processes": self.processes.count,
        }
        return Scores(final, figures(self.batches, self.epochs))


def device_of(config: Config) -> torch.device:
    """Where `config` has the networks. Of several processes on a machine each has a GPU of its own."""
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise Problem(f"--device {name} is not to be had here; take cpu or auto") from error


def optimizer(config: Config, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    options["fused"] = device.type != "mps"
    if config.optimizer == "muon":
        return Muon(parameters, config.muon_rate / config.learning_rate, **options)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    return torch.optim.AdamW(parameters, **options)


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Rises linearly over the warm-up, then stays, or falls to 0 along half a cosine."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@lru_cache(maxsize=1)
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
def interrupted(insistent: bool = True) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, so that a step is never cut in two; a second one ends at once,
    where `insistent`: torchrun passes one on several times."""
    event = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if event.is_set() and insistent:
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
