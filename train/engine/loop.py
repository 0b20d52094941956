"""The training loop: steps, what is measured once an epoch, checkpoints. It knows no method."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.scores import Scores
from train.engine import checkpoint
from train.engine.anatomy import gradients, interaction, sizes
from train.engine.curves import course, extremes, figures, pace, rises
from train.engine.devices import autocast, device_of
from train.engine.monitor import CURVE, OLDER, glance, measure, unmeasured
from train.engine.optimizer import learning_rate, optimizer, set_rates
from train.engine.processes import Processes
from train.methods.method import Method
from train.tracking import Problem, Stage, threads
from train.tracking.problem import set_aside
from train.tracking.progress import Progress

EVERY = 10  # steps of a GPU between two readings of what it computed, as each reading waits for it
CHECKPOINT_SECONDS = 120  # at most that much work is lost to a kill; a checkpoint takes a fraction of a second


class Training:
    """The loop. Every draw depends on the seed and the position alone, so that a checkpoint needs no generators, and several
    processes draw what one would.
    """

    def __init__(
        self, method: Method, stage: Stage, device: torch.device | None = None, processes: Processes | None = None
    ) -> None:
        self.config, self.images, self.stage = method.config, method.images, stage
        self.processes = processes or Processes()
        config = self.config
        if config.batch_size % self.processes.count:
            raise Problem(
                f"--batch-size {config.batch_size} cannot be shared by {self.processes.count} processes; give a multiple"
            )
        self.device = device or device_of(config.device)
        self.autocast = autocast(config.precision, self.device)
        self.method = method.to(self.device)
        self.forward = torch.compile(self.method) if config.compile else self.method
        self.terms = (*method.terms, "total")
        groups = self.method.groups()
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = optimizer(config, groups, self.device)

        self.epoch_steps = (
            len(self.images.train) // config.batch_size
        )  # the last, incomplete batch waits for another epoch
        self.steps = config.epochs * self.epoch_steps
        self.step = 0
        self.pending: list[tuple[float, Tensor]] = []  # rate and terms of the last steps, on the device
        self.batches: list[dict[str, float]] = []  # the curves: one entry a step
        self.epochs: list[dict[str, float]] = []  # and one an epoch, with epoch 0 before the first step
        self.glances: list[dict[str, float]] = []  # and one in a tenth of the steps
        self.seconds: list[float] = []  # of the steps of each epoch, for the run and no artifact: results hold no clock
        self.moments = {round(tenth * self.steps / 10) for tenth in range(11)}  # steps after which a glance is due

    def run(self, path: Path) -> None:
        """Trains to the end, from the checkpoint at `path` where there is one."""
        self._resume(path)
        if not self.epochs:
            self._measure()
            self._glance()
        last = time.monotonic()  # checkpoint
        with (
            interruption(insistent=self.processes.count == 1) as stop,
            Progress(
                str(self.stage.variant),
                "image",
                self.steps * self.config.batch_size,
                initial=self.step * self.config.batch_size,
                silent=not self.processes.leads,
            ) as progress,
        ):
            while self.step < self.steps:
                started = time.monotonic()
                self._train_step()
                self._count(time.monotonic() - started)
                progress.update(self.config.batch_size)
                at_end = self.step % self.epoch_steps == 0
                if self.step % EVERY == 0 or at_end:
                    loss = self.batches[-1]["loss/total"]
                    progress.note(f"epoch {self.step / self.epoch_steps:.2f}, loss {loss:.2f}")
                if at_end:
                    self.method.after_epoch(self.step // self.epoch_steps)
                    self._measure()
                self._glance()
                stopping = self._due() and self.processes.any(stop.is_set(), self.device)
                if at_end or stopping or time.monotonic() - last > CHECKPOINT_SECONDS:
                    self._save(path)
                    last = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt
        if self.processes.leads and self.seconds:
            self.stage.panel("training/seconds", pace(self.seconds))

    def _count(self, seconds: float) -> None:
        """Adds what a step took to its epoch, and logs the epoch's sum when that has ended."""
        epoch = (self.step - 1) // self.epoch_steps
        self.seconds += [0.0] * (epoch + 1 - len(self.seconds))
        self.seconds[epoch] += seconds
        if self.step % self.epoch_steps == 0 and self.processes.leads:
            self.stage.log(self._pace(epoch))

    def _pace(self, epoch: int) -> dict[str, float]:
        return {"epoch": epoch + 1.0, "pace/seconds": self.seconds[epoch]}

    def _due(self) -> bool:
        """Whether this is a step after which one may wait for the device: of a CPU each, of a GPU one of EVERY."""
        return self.device.type == "cpu" or self.step % EVERY == 0 or self.step % self.epoch_steps == 0

    def _train_step(self) -> None:
        config = self.config
        rate = learning_rate(self.step, self.steps, config)
        set_rates(self.optimizer, rate, config.learning_rate)
        self._training_mode(True)
        epoch, position = divmod(self.step, self.epoch_steps)
        order = epoch_order(config.seed, epoch, len(self.images.train))
        rows = np.sort(order[position * config.batch_size :][: config.batch_size])
        total, values = self._loss("train", rows, generator(config.seed, self.step), self.processes.share(len(rows)))
        self.step += 1
        self.pending.append((rate, values))
        if self._due():
            self._read()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.processes.add_gradients(self.parameters)
        self.optimizer.step()
        self.method.after_step((self.step - 1) / self.steps)

    def _read(self) -> None:
        """Takes the terms of the last steps to the curves and the run. Of a GPU this waits until they are there."""
        if not self.pending:
            return
        rates, values = zip(*self.pending, strict=True)
        self.pending.clear()
        for rate, numbers in zip(rates, torch.stack(values).tolist(), strict=True):
            epoch, position = divmod(len(self.batches), self.epoch_steps)
            for name, number in zip(self.terms, numbers, strict=True):
                self._check_finite(f"the {name} term", number, f"in epoch {epoch + 1}, batch {position + 1}")
            terms = {f"loss/{name}": number for name, number in zip(self.terms, numbers, strict=True)}
            entry = {"batch": len(self.batches) + 1, "optimizer/learning_rate": rate, **terms}
            self.batches.append(entry)
            self.stage.log(entry)

    def _check_finite(self, what: str, number: float, when: str) -> None:
        if not math.isfinite(number):
            raise Problem(
                f"{what} is {number} {when}; nothing was published; try a --learning-rate below"
                f" {self.config.learning_rate:g}"
            )

    def _loss(
        self, split: str, rows: NDArray[np.int64], draws: torch.Generator, share: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of the rows of a split, and the values of `terms`. share: of the rows, where other processes have the
        others; this one has them all without it."""
        batch = self.method.batch(split, rows, draws, share or slice(None))
        with self.autocast:
            outputs = self.forward(batch)
        if share is not None:
            outputs = {name: self.processes.gather(value) for name, value in outputs.items()}
        total, terms = self.method.loss(outputs)
        return total, torch.stack([*terms, total]).detach()

    def _training_mode(self, training: bool) -> None:
        if self.method.training != training:
            self.method.train(training)

    def _measure(self) -> None:
        """Once an epoch, in the first process: the same terms on the test set's outputs, kNN accuracy and collapse."""
        if not self.processes.leads:
            return
        self._training_mode(False)
        entry = {"epoch": float(len(self.epochs)), "batch": float(self.step)}
        with self.autocast:
            entry |= measure(self.method, self.images)
        entry |= self._test_terms()
        for name, number in entry.items():
            self._check_finite(name, number, f"after epoch {len(self.epochs)}")
        self.epochs.append(entry)
        self.stage.log(entry)

    def _glance(self) -> None:
        """Once in a tenth of the steps, in the first process: kNN accuracy and collapse on fewer images."""
        if not self.processes.leads or self.step not in self.moments:
            return
        self._training_mode(False)
        with self.autocast:
            entry = {"batch": float(self.step), **glance(self.method, self.images)}
        for name, number in entry.items():
            self._check_finite(name, number, f"after step {self.step}")
        self.glances.append(entry)
        self.stage.log(entry)

    @torch.inference_mode()
    def _test_terms(self) -> dict[str, float]:
        """In batches of the training size, the same draws at every epoch; an incomplete last batch is left out."""
        size = min(self.config.batch_size, len(self.images.test))
        sums = torch.zeros(len(self.terms), dtype=torch.float64)
        count = len(self.images.test) // size
        for index in range(count):
            rows = np.arange(index * size, (index + 1) * size)
            sums += self._loss("test", rows, generator(0, index))[1].cpu()
        return {f"test/{name}": value for name, value in zip(self.terms, (sums / count).tolist(), strict=True)}

    def _save(self, path: Path) -> None:
        self._read()
        if not self.processes.leads:
            return
        for name, value in self.method.state_dict().items():
            if not value.isfinite().all():  # what has diverged stays so: the checkpoint before this one is worth more
                self._check_finite(name, math.nan, f"after step {self.step}")
        count = self.processes.count
        curves = tuple(self.batches), tuple(self.epochs), count, tuple(self.glances)
        place = threads.count(), self.stage.id
        progress = checkpoint.Progress(self.step, *curves, tuple(self.seconds), *place)
        checkpoint.save(path, self.method, self.optimizer, progress)

    def _resume(self, path: Path) -> None:
        with self.processes.file(path, self.device) as file:
            try:
                progress = checkpoint.load(file, self.method, self.optimizer, self._check)
            except checkpoint.Misfit as misfit:
                progress = None
                if self.processes.leads:
                    aside = set_aside(path)
                    print(
                        f"{path} does not fit this training ({misfit}); it is now {aside}, and the training starts over"
                    )
        if progress and self.processes.leads:
            self.stage.resume(progress.run)
        self._draw_axes()
        if progress is None:
            return
        if (count := progress.processes) != self.processes.count:
            raise Problem(
                f"{self.processes.count} processes cannot go on with what {count} began; start as many, or remove {path}"
            )
        self.step, self.batches, self.epochs = progress.step, list(progress.batches), list(progress.epochs)
        self.glances, self.seconds = list(progress.glances), list(progress.seconds)  # an older training has none
        threads.go_on_with(progress.threads)
        if self.processes.leads:
            print(f"going on from step {self.step} of {self.steps}")
        for row in self._rows():
            self.stage.log(row)

    def _draw_axes(self) -> None:
        """Of the last values the run's summary keeps those that say something of what is published."""
        self.stage.axis("epoch", "test/*", "knn/*", "instances/*", "collapse/*")
        self.stage.axis("batch", "loss/*", "curve/*")
        self.stage.axis("epoch", "pace/*", summary="none")
        self.stage.axis("batch", "optimizer/*", summary="none")

    def _rows(self) -> list[dict[str, float]]:
        """All that was logged so far, in the order in which it was."""
        ends = range(self.epoch_steps, self.step + 1, self.epoch_steps)
        paces = [(float(end), self._pace(epoch)) for epoch, end in enumerate(ends) if epoch < len(self.seconds)]
        parts = [[(entry["batch"], entry) for entry in part] for part in (self.batches, self.epochs, self.glances)]
        rows = [*parts[0], *paces, *parts[1], *parts[2]]
        return [row for _, row in sorted(rows, key=lambda row: row[0])]

    def extremes(self) -> dict[str, float]:
        """For the run's summary, beside the last values."""
        return extremes(self.batches, self.epochs, self.seconds)

    def _anatomy(self) -> dict[str, float]:
        """What the trained method is made of, and where its gradient goes, on the first batch of images and draws."""
        self._training_mode(False)
        rows = np.arange(min(self.config.batch_size, len(self.images.train)))
        batch = self.method.batch("train", rows, generator(self.config.seed, 0), slice(None))
        with self.autocast:
            outputs = self.method(batch)
        slopes = gradients(self.method, outputs)
        return {
            **sizes(self.method),
            **slopes,
            "anatomy/interaction": interaction(self.method, outputs),
            "anatomy/width": next((z.shape[-1] for z in outputs.values() if z.dim() == 3), 1),
            "anatomy/pixels": self.images.train[0].size,
        }

    def _check(self, progress: checkpoint.Progress) -> None:
        """Raises ValueError where this training cannot have come so far, so."""
        of_batches = {"batch", "optimizer/learning_rate", *(f"loss/{name}" for name in self.terms)}
        left_out = unmeasured(self.images)
        of_epochs = {"epoch", "batch", *(f"test/{name}" for name in self.terms), *OLDER} - left_out
        step, counts = progress.step, (len(progress.batches), len(progress.epochs))
        if step > self.steps or counts != (step, step // max(1, self.epoch_steps) + 1):
            raise ValueError(f"it is at step {step} of {self.steps}, with {counts[0]} batches and {counts[1]} epochs")
        of_glances = {"batch", *CURVE} - left_out
        for entries, names in (
            (progress.batches, of_batches),
            (progress.epochs, of_epochs),
            (progress.glances, of_glances),
        ):
            for entry in entries:
                if missing := names - entry.keys():
                    raise ValueError(f"it has no {', '.join(sorted(missing))} of an entry")

    def scores(self) -> Scores:
        """The curves and their last values, and what the method is made of."""
        last = self.epochs[-1]
        final: dict[str, Any] = {name: value for name, value in last.items() if name not in ("epoch", "batch")}
        for name in self.terms:
            recent = [entry[f"loss/{name}"] for entry in self.batches[-self.epoch_steps :]]
            if recent:
                final[f"loss/{name}"] = sum(recent) / len(recent)
        final |= rises(self.batches, self.terms)
        final |= course(self.batches, self.glances)
        final |= {name: value for name, value in self.glances[-1].items() if name != "batch"} if self.glances else {}
        final |= self._anatomy()
        final |= {
            "training/epochs": self.config.epochs,
            "training/batches": self.steps,
            "training/parameters": sum(parameter.numel() for parameter in self.method.encoder.parameters()),
            "training/processes": self.processes.count,
        }
        curves = figures(self.batches, self.epochs, self.glances, self.terms)
        return Scores(final, {**curves, **self.method.figures()})


@lru_cache(maxsize=1)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The rows of the training images, shuffled anew for each epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def generator(seed: int, step: int) -> torch.Generator:
    """The draws of one step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1))


@contextmanager
def interruption(insistent: bool = True) -> Iterator[threading.Event]:
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
