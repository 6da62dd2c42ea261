"""Three epochs of distillation: CIFAR-10 from the prepared file CIFAR10=FILE, else noise of that shape.

Images per second, and the share of the time in which the training waits for its next batch.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch.optim import SGD

from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import ON_GPU, finished
from tser_lightning.data.image_data import ImageData
from tser_lightning.data.prepared import Prepared
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.losses import TSER
from tser_lightning.models import Student, resnet18, resnet34, resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, Teacher, fit

EPOCHS, STEPS = 3, 2
BATCH = 128 if ON_GPU else 16
WAITING = 5.0  # percent of the time, at most
AUGMENT = {"crop": 4, "flip": True, "cutout": 8}
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


class Clock(Callback):
    """Takes the time of every epoch's training steps, and of the gaps between two of them.

    Attributes:
        epochs: For each epoch its seconds, those of them between steps, its images, and its loss.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._begin = self._end_of_step = self._waited = self._stopped = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an epoch."""
        finished()
        self._begin = self._end_of_step = time.monotonic()
        self._waited, self._images = 0.0, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End a gap."""
        self._waited += time.monotonic() - self._end_of_step
        self._images += len(batch.labels)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin a gap, and keep when this step ended, because it may be the last one before a validation."""
        self._end_of_step = time.monotonic()
        if batch_idx + 1 == trainer.num_training_batches:
            finished()
            seconds = time.monotonic() - self._begin
            self.epochs.append({"seconds": seconds, "waited": self._waited, "images": float(self._images)})


def data() -> tuple[ImageData, str]:
    """The images, and what they are."""
    settings: dict[str, Any] = {"num_classes": 10, "shape": [3, 32, 32], "augment": AUGMENT, "batch_size": BATCH}
    if file := os.environ.get("CIFAR10"):
        return Prepared(file, mean=MEAN, std=STD, **settings), "CIFAR-10"
    train, test = (50_000, 10_000) if ON_GPU else (96, 32)
    return Synthetic(train_images=train, test_images=test, **settings), "noise"


def main(report: Report) -> None:
    """Train and report."""
    images, what = data()
    make, teacher = (resnet18, resnet34) if ON_GPU else (partial(resnet_small, widths=(4, 8)),) * 2
    clock, rows = Clock(), list[Any]()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            Student(make(10, 3, LIF), STEPS),
            TSER(),
            Teacher(teacher(10)),
            images,
            Path(folder, "checkpoints"),
            recipe=Recipe(
                epochs=EPOCHS,
                optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
                precision="bf16-mixed" if ON_GPU else "32-true",
                steps=None if ON_GPU else 3,
            ),
            machine=Machine(accelerator="gpu" if ON_GPU else "cpu", devices=1, checkpoint_every=None, runs_dir=folder),
            callbacks=[clock],
            record=rows.append,
        )
    told = f"{what}, ResNet-18, T={STEPS}, batch {BATCH}" if ON_GPU else f"{what}, a small ResNet, T={STEPS}"
    for at, epoch in enumerate(clock.epochs, 1):
        report.figure(f"{told}, epoch {at}", epoch["images"] / epoch["seconds"], "images/s")
    last = clock.epochs[-1]
    report.figure(f"{told}, waiting for data", 100 * last["waited"] / last["seconds"], "% of the time", most=WAITING)
    for name in ("train/loss", "val/acc"):
        values = " -> ".join(f"{row[name]:.3g}" for row in rows)
        finite = all(abs(row[name]) < float("inf") for row in rows)
        report.write(f"{told}, {name} of each epoch", "pass" if finite else "fail", values, "finite")
