"""What a teacher gives a loss for a batch: logits, computed or read from a file, and what hooks caught inside it.

Legend: B image, C class.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.image_data import ImageData
from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import needs_of, needs_teacher
from tser_lightning.models import Ensemble
from tser_lightning.models.memory_format import lay_out
from tser_lightning.training.feature_hooks import FeatureHooks
from tser_lightning.training.inference import for_inference
from tser_lightning.training.logit_cache import LogitCache, checksums, key_of
from tser_lightning.training.recipe import Machine
from tser_lightning.training.speed import compiled
from tser_lightning.training.teacher import Teacher


class TeacherOutputs(NamedTuple):
    """What a teacher gives for a batch.

    Attributes:
        logits: [B, C]; None for a loss that compares with no teacher.
        features: The outputs [B, ...] of the layers that the loss asks for, by name.
        teachers: The logits [B, C] of every member of an ensemble by name, if the loss asks for them; those of any
            other teacher under "teacher".
    """

    logits: Tensor | None
    features: dict[str, Tensor]
    teachers: dict[str, Tensor]


NO_TEACHER = TeacherOutputs(None, {}, {})


class TeacherHooks:
    """Catches features and members' logits inside a teacher by hooks, as a loss asks for them.

    Args:
        net: The teacher's network; hooks stay on it, and there are none for a loss that asks for nothing.
        loss: What asks, see `needs_of`; or None.

    Raises:
        UsageError: A layer that the teacher does not have.
    """

    def __init__(self, net: nn.Module, loss: nn.Module | None) -> None:
        needs = needs_of(loss)
        several = needs.teachers and isinstance(net, Ensemble)
        self._members = [f"members.{name}" for name in net.members] if several else []  # type: ignore[union-attr]
        self._layers = FeatureHooks(net, (*needs.teacher_features, *self._members), "teacher")
        self.looks_inside = bool(needs.teacher_features) or needs.teachers

    def take(self, logits_BC: Tensor | None) -> TeacherOutputs:
        """Return what was caught in the teacher's last call, which gave these logits, and drop it here."""
        caught = self._layers.take()
        teachers = {path.removeprefix("members."): caught[path] for path in self._members if path in caught}
        if not self._members and logits_BC is not None:
            teachers = {"teacher": logits_BC}
        return TeacherOutputs(logits_BC, caught, teachers)


class TeacherInference:
    """Gives what a loss compares with: the frozen teacher's logits and features, by one call per batch.

    At first the teacher itself computes them. After `prepare` it is a copy that is as fast as the machine allows, or a
    file that has the logits of the same images already; where a loss looks inside the teacher, it stays the teacher
    itself, which has the hooks.

        inference = TeacherInference(teacher, tl.build_loss("tser"))
        inference.prepare(ImageDataModule(data), Machine(teacher_cache=5), precision="32-true")
        logits_BC = inference(batch, epoch=0).logits

    Args:
        teacher: Left as it is, but for hooks; may be None for a loss that compares with no teacher.
        loss: What asks, see `Loss`.

    Attributes:
        teacher: As given.
        is_asked: Whether the loss compares with it.
        cache: The cached logits, where they are kept.

    Raises:
        UsageError: The loss needs a teacher, or a layer of it, that is not there.
    """

    def __init__(self, teacher: Teacher | None, loss: nn.Module) -> None:
        self.teacher, self.is_asked = teacher, needs_teacher(loss)
        if self.is_asked and teacher is None:
            raise UsageError(
                what="this loss compares with a teacher, and there is none",
                why="without one there is nothing to distil from",
                fix="a `Teacher`, or a loss without one, e.g. `TET`",
            )
        self._hooks = None if teacher is None else TeacherHooks(teacher.net, loss)
        self._fast: Teacher | None = None
        self._run: Callable[[Tensor], Tensor] | None = teacher
        self._images_BCHW = torch.empty(0)
        self._channels_last = True
        self.cache: LogitCache | None = None

    def prepare(self, images: ImageDataModule, machine: Machine, precision: str) -> None:
        """Make copies and the cache for a training.

        Args:
            images: The datamodule of the training.
            machine: Its `compile`, `channels_last`, and the epochs whose logits are kept (`teacher_cache`, under
                `runs_dir`).
            precision: Of the training; Lightning's name.
        """
        if self.teacher is None or self._hooks is None or not self.is_asked or self._hooks.looks_inside:
            return
        folder = Path(machine.runs_dir, "teachers", "logits")
        self.cache = cache_for(self.teacher, images.data, images.seed, machine.teacher_cache, folder, precision)
        device = next(self.teacher.parameters(), torch.empty(0)).device
        shape, source = images.data.shape, torch.Generator().manual_seed(0)
        self._images_BCHW, self._channels_last = (
            torch.randn(2, *shape, generator=source).to(device),
            machine.channels_last,
        )
        self._fast = Teacher(for_inference(self.teacher.net, self._images_BCHW, self._channels_last))
        self._run = compiled(self._fast, machine.compile)

    def to(self, device: torch.device) -> None:
        """Move the teacher to a device."""
        if self.teacher is not None:
            self.teacher.to(device)
        if self._fast is not None:
            self._fast.to(device)
            lay_out(self._fast, self._images_BCHW.to(device), device, self._channels_last)

    def __call__(self, batch: Batch, epoch: int) -> TeacherOutputs:
        """Give logits and features of the teacher for a batch of an epoch."""
        if not self.is_asked or self._run is None or self._hooks is None:
            return NO_TEACHER
        if self.cache is not None:
            return self._hooks.take(self.cache(batch, epoch, self._run))
        return self._hooks.take(self._run(batch.images))

    def report(self) -> None:
        """Log the time that the cache saved, if there is one."""
        if self.cache is not None:
            self.cache.report()


_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}


def cache_for(
    teacher: Teacher, data: ImageData, seed: int, epochs: int, folder: Path, precision: str = "32-true"
) -> LogitCache | None:
    """Make the cache of the teacher's logits for a training; None where it is off.

    The name of its file holds the teacher (its weights, the modules that compute with them, their precision), the data,
    what is done to an image (the settings, and how the first ones look after it), and the seed.

    Args:
        teacher: The teacher whose logits are kept.
        data: The data set whose training images it sees.
        seed: Of order and augmentation.
        epochs: Epochs whose logits are kept; 0 for none.
        folder: Folder of the file.
        precision: Of the teacher's computation; Lightning's name.
    """
    if not epochs:
        return None
    first: Batch = next(iter(data.loader("train", seed=seed)))
    views = [first.indices.tolist(), checksums(first.images).tolist()]
    settings = {"data": data.fingerprint(), "seed": seed, "transform": data.transform(), "views": views}
    key = key_of(teacher.net, net=repr(teacher.net), precision=precision, **settings)
    dtype = _DTYPES.get(precision.partition("-")[0], torch.float32)
    return LogitCache(folder, key, epochs, int(data.indices("train").max()) + 1, data.num_classes, dtype)
