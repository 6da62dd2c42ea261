"""A training that is stopped and goes on ends with the bits of one that was not; so does one process under DDP.

Torch is told to compute deterministically, so that what differs is ours. DDP may round otherwise: it has an allowance.
"""

import copy
import dataclasses
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import SGD

from benchmarks.gpu_check.comparison import gap
from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import ON_GPU
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.losses import TSER
from tser_lightning.models import Student, resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, Teacher, fit

WIDTHS = (32, 64) if ON_GPU else (4, 8)
BATCH, STEPS_OF_EPOCH = (128, 8) if ON_GPU else (16, 3)
PRECISIONS = ("32-true", "bf16-mixed") if ON_GPU else ("32-true",)


class Stop(Callback):
    """Ends a training within its second epoch, as Ctrl-C does."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after its second batch."""
        if (trainer.current_epoch, batch_idx) == (1, 1):
            raise KeyboardInterrupt


def trained(folder: Path, recipe: Recipe, machine: Machine, callbacks: Sequence[Callback] = ()) -> dict[str, Tensor]:
    """Train in a folder, going on from what lies there, and give the weights of the end."""
    torch.manual_seed(0)
    student = Student(resnet_small(10, 3, LIF, widths=WIDTHS), 2)
    teacher = Teacher(resnet_small(10, 3, widths=WIDTHS))
    images = Synthetic(
        10,
        [3, 16, 16],
        train_images=BATCH * STEPS_OF_EPOCH,
        test_images=BATCH,
        validation=0.0,
        augment={"crop": 2, "flip": True},
        batch_size=BATCH,
    )
    fit(student, TSER(), teacher, images, folder, recipe=recipe, machine=machine, selection="last", callbacks=callbacks)
    return copy.deepcopy({name: value.cpu() for name, value in student.state_dict().items()})


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference of two sets of weights, relative; 0 where all bits are the same."""
    return max(0.0 if torch.equal(value, second[name]) else gap(second[name], value) for name, value in first.items())


def main(report: Report) -> None:
    """Train, compare and report."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    for precision in PRECISIONS:
        recipe = Recipe(epochs=3, optimizer=partial(SGD, lr=0.05, momentum=0.9), precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            machine = Machine(
                accelerator="gpu" if ON_GPU else "cpu", devices=1, workers=0, checkpoint_every=1, runs_dir=folder
            )
            whole = trained(here / "whole", recipe, machine)
            again = difference(whole, trained(here / "again", recipe, machine))
            report.equal(f"the same training twice, {precision}", again, 0.0)
            try:
                trained(here / "stopped", recipe, machine, [Stop()])
            except KeyboardInterrupt:
                resumed = difference(whole, trained(here / "stopped", recipe, machine))
                report.equal(f"stopped within an epoch and resumed, {precision}", resumed, 0.0)
            else:
                report.write(f"stopped within an epoch and resumed, {precision}", "fail", note="it did not stop")
            ddp = difference(whole, trained(here / "ddp", recipe, dataclasses.replace(machine, strategy="ddp")))
            report.equal(f"DDP with one device, {precision}", ddp, 1e-2 if precision == "32-true" else 3e-2)
