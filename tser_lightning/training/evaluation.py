"""The measurement of a trained student on a split, as a LightningModule.

Legend: T time step, B image, C class.
"""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from tser_lightning.data.batch import Batch
from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.image_data import Split
from tser_lightning.measure.energy import student_energy, teacher_energy
from tser_lightning.measure.firing import Firing, FiringRates
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.measure.student_measures import StudentMeasures
from tser_lightning.models.student import timesteps_of
from tser_lightning.training.teacher import SingleStep, Teacher

log = logging.getLogger("tser_lightning")


class Measurement:
    """Measures a student, and its teacher beside it, while the images of a split pass through them.

    Args:
        student: Images to logits_TBC.
        teacher: Frozen; None leaves out what compares with it.
        num_classes: C.
        device: Of the student; the teacher is moved to it.
    """

    def __init__(self, student: nn.Module, teacher: Teacher | None, num_classes: int, device: torch.device) -> None:
        self._student, self._teacher = student, None if teacher is None else teacher.to(device)
        self._measures = StudentMeasures(timesteps_of(student), num_classes).to(device)
        self._hooks = contextlib.ExitStack()
        self._rates: FiringRates | None = None
        self._counters = {} if teacher is None else {"teacher": OperationCounter(teacher.net)}
        if not isinstance(student, SingleStep):  # an ANN by itself has no spikes and no estimate of their energy
            self._rates = self._hooks.enter_context(FiringRates(student))
            self._counters["student"] = OperationCounter(student)
        for counter in self._counters.values():
            self._hooks.enter_context(counter)

    def update(self, batch: Batch) -> None:
        """Add a batch: both networks see its images."""
        teacher_BC = None if self._teacher is None else self._teacher(batch.images)
        self._measures.update(self._student(batch.images), teacher_BC, batch.labels)

    def compute(self, trainer: pl.Trainer) -> dict[str, float]:
        """Give all measures by name, without the split, those of all processes together; nothing is counted after it.

        Args:
            trainer: Says how many processes there are.
        """
        self._hooks.close()
        if trainer.world_size > 1:
            for counting in (self._rates, *self._counters.values()):
                if counting is not None:
                    counting.reduce()
        result = dict(self._measures.compute())
        if self._rates is not None:
            firing = self._rates.compute()
            result |= firing.measures()
            if trainer.is_global_zero:
                _warn(firing)
            result |= student_energy(self._counters["student"].compute())
        if self._teacher is not None:
            result |= teacher_energy(self._counters["teacher"].compute())
        return result


class Evaluation(pl.LightningModule):
    """Measures a student, and its teacher beside it, on one split.

    Args:
        student: Images to logits_TBC.
        teacher: Frozen; None leaves out what compares with it.
        images: Where the batches come from.
        split: "train", "val" or "test".
        answer: File for the result, where the evaluation is done by processes that end with it.

    Examples:
        >>> import lightning.pytorch as pl
        >>> import tser_lightning as tl
        >>> from tser_lightning.data import ImageDataModule, Synthetic
        >>> images = Synthetic(10, [1, 8, 8], train_images=40, test_images=20, batch_size=10)
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
        >>> module = Evaluation(student, None, ImageDataModule(images), "test")
        >>> names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        >>> quiet = dict.fromkeys(names, False)
        >>> _ = pl.Trainer(accelerator="cpu", **quiet).test(module, verbose=False)
        >>> 0 <= module.result["acc"] <= 100
        True
    """

    _measurement: Measurement

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | None,
        images: ImageDataModule,
        split: Split,
        answer: Path | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self._teacher = (teacher,)  # no submodule, which Lightning would move and wrap
        self.images, self.split = images, split
        self.answer, self.result = answer, dict[str, float]()

    def on_test_start(self) -> None:
        """Start counting spikes and operations."""
        self._measurement = Measurement(self.student, self._teacher[0], self.images.data.num_classes, self.device)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure student and teacher on a batch."""
        self._measurement.update(batch)

    def on_test_epoch_end(self) -> None:
        """Compute all measures by name, without the split, and write them to `answer` if there is one."""
        self.result = self._measurement.compute(self.trainer)
        if self.answer is not None and self.trainer.is_global_zero:
            self.answer.write_text(json.dumps(self.result))

    def test_dataloader(self) -> Any:
        """Load the split, each image once."""
        self.images.trainer = self.trainer
        return self.images.loader(self.split)


def _warn(firing: Firing) -> None:
    """Warn of layers whose neurons never fire, or nearly always do."""
    layers = firing.layers.items()
    dead = [path for path, layer in layers if layer.is_dead]
    full = [path for path, layer in layers if layer.is_saturated]
    if dead:
        log.warning(
            "no neuron of %s ever fired: nothing passes through; try a lower `v_threshold` or `lr`",
            ", ".join(dead),
        )
    if full:
        log.warning(
            "the neurons of %s fire nearly always and hardly tell images apart; try a higher `v_threshold`",
            ", ".join(full),
        )
