"""Checks of student, teacher and loss before a training, by calling them on a few images.

Legend: T time step, B image, C class.
"""

import torch
from torch import nn

from tser_lightning.data.batch import Batch
from tser_lightning.data.image_data import ImageData
from tser_lightning.losses import Heads
from tser_lightning.losses.contract import needs_of, needs_teacher
from tser_lightning.models.student import timesteps_of
from tser_lightning.training.loss_context import heads_of
from tser_lightning.training.preserve_state import borrowed, own_random_numbers
from tser_lightning.training.probe_loss import LossCalls, probe_loss
from tser_lightning.training.probe_network import probed_student, probed_teacher
from tser_lightning.training.recipe import Machine
from tser_lightning.training.teacher import Teacher
from tser_lightning.training.teacher_inference import NO_TEACHER


def probe(
    student: nn.Module,
    loss: nn.Module,
    teacher: Teacher | None,
    data: ImageData,
    *,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    seed: int = 1,
    through_time: bool = True,
) -> None:
    """Call student, teacher and loss on a few training images, and refuse what a training would take without a word.

    Nothing is changed: the calls go to copies, on the processor, and random numbers are put back.

    Args:
        student: Images to logits_TBC.
        loss: The loss, called as a training calls it.
        teacher: The frozen teacher; None where there is none.
        data: Where the images come from.
        machine: Its `channels_last` is how maps will lie in memory.
        seed: Of order and augmentation.
        through_time: False: the loss must be the sum over time steps that it says it is.

    Raises:
        UsageError: A part that fails; that gives something else than finite logits of the right shape, or
            probabilities; that keeps state from one call to the next, mixes the images of a batch in eval mode or
            changes its input; a student that cannot learn; a loss that gives no finite scalar with a gradient.
    """
    classes = data.num_classes
    with own_random_numbers(), borrowed(loss) as loss_copy:
        batch = _few(data, seed, timesteps_of(student))
        student_TBC, seen = probed_student(student, batch, loss, classes, machine)
        asked = teacher is not None and needs_teacher(loss)
        teacher_outputs = probed_teacher(teacher, batch, loss, classes, machine) if asked and teacher else NO_TEACHER
        heads = heads_of(student, teacher) if needs_of(loss).heads else None
        with borrowed(heads) as heads_copy:
            calls = LossCalls(loss_copy, student_TBC, seen, teacher_outputs, batch, _on_cpu(heads_copy, heads))
            probe_loss(calls, through_time)


def probe_teacher(teacher: Teacher, data: ImageData, name: str, machine: Machine) -> None:
    """Check a teacher alone on a few training images, as `probe` does.

    Args:
        teacher: The frozen teacher; None where there is none.
        data: Where the images come from.
        name: What it is called besides, e.g. its file of weights.
        machine: Its `channels_last` is how maps will lie in memory.

    Raises:
        UsageError: See `probe`.
    """
    with own_random_numbers():
        probed_teacher(teacher, _few(data, 1, 1), None, data.num_classes, machine, f" ({name})")


def _few(data: ImageData, seed: int, steps: int) -> Batch:
    """Load a few training images, so many that B is neither T nor C: a shape then tells which axis is which."""
    most = min(6, len(data.indices("train")))
    batch: Batch = next(iter(data.loader("train", seed=seed, batch_size=most)))
    steps = len(batch.images) if batch.images.ndim == 5 else steps
    size = next((n for n in (4, 5, 6) if n <= most and n not in (steps, data.num_classes)), most)
    images = batch.images[:, :size] if batch.images.ndim == 5 else batch.images[:size]
    # A copy has the strides of a contiguous tensor, also with a single channel.
    return Batch(images.clone(memory_format=torch.contiguous_format), batch.labels[:size], batch.indices[:size])


def _on_cpu(heads: Heads | None, own: Heads | None) -> Heads | None:
    """Move copies of classifiers to the processor, where the features are; what could not be copied stays."""
    for head in heads or ():
        if heads is not own and isinstance(head, nn.Module):
            head.cpu()
    return heads
