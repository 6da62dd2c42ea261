"""The guard over the loss of every step: it is read, logged, and stops a training where it is not finite."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.errors import RunError
from tser_lightning.models.student import timesteps_of
from tser_lightning.neurons.clock import OverTime
from tser_lightning.training.deferred_scalars import DeferredScalars

log = logging.getLogger("tser_lightning")


class LossGuard(Callback):
    """Reads the loss and its parts before every backward pass, on a GPU one step later so that nothing waits for it.

    What was read is what a progress bar shows (`Distiller.latest`) and what the loggers get every `log_every_n_steps`
    as `train_step/NAME`. A loss that is NaN or infinite ends the training; none gets into a checkpoint.
    """

    def __init__(self) -> None:
        self._deferred: DeferredScalars[tuple[int, list[str], Batch]] = DeferredScalars()
        self._warned_negative = False
        self._batch: Batch | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Note the batch that the next loss belongs to."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Queue the loss and its parts, and check those that can be read without waiting.

        Raises:
            RunError: A loss that is not finite; names the term and where numbers stop being finite.
        """
        values: Mapping[str, Tensor] = pl_module.values
        numbers = torch.stack([value.float() for value in values.values()])
        assert self._batch is not None
        for read in self._deferred.next(numbers, (trainer.global_step, list(values), self._batch)):
            self._take(trainer, pl_module, *read)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Check the losses that are still queued before the epoch is recorded."""
        self._read_rest(trainer, pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Check the losses that are still queued before a checkpoint is written."""
        self._read_rest(trainer, pl_module)

    def _read_rest(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for read in self._deferred.rest():
            self._take(trainer, pl_module, *read)

    def _take(
        self, trainer: pl.Trainer, pl_module: Any, numbers: list[float], of: tuple[int, list[str], Batch]
    ) -> None:
        step, names, batch = of
        values = dict(zip(names, numbers, strict=True))
        pl_module.latest = values
        self._check(pl_module, values, step, batch)
        if trainer.logger is not None and (step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            row = {f"train_step/{name}": value for name, value in values.items()}
            trainer.logger.log_metrics({**row, "epoch": trainer.current_epoch}, step=step)

    def _check(self, pl_module: Any, values: Mapping[str, float], step: int, batch: Batch) -> None:
        if not math.isfinite(values["loss"]):
            raise _not_finite(pl_module, values, step, batch)
        if values["loss"] < 0 and not self._warned_negative:
            self._warned_negative = True
            log.warning(
                "the total loss is negative: the reward for entropy is larger than all the rest, so the student is "
                "drawn to uniform answers; lower `lam`"
            )


def _not_finite(pl_module: Any, values: Mapping[str, float], step: int, batch: Batch) -> RunError:
    """Say what is not finite first, and what to do about that."""
    parts = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)]
    first = first_nonfinite(pl_module.student, batch.images)
    asked = pl_module.teacher if pl_module.teacher_inference.is_asked else None
    why = "the learning rate is too high for this precision"
    fix = "`lr` at a tenth, clip=1.0, precision=32-true"
    if first == "the images":
        why = "the data hold values that are NaN or infinite, or `std` has one that is 0"
        fix = "data whose values are all finite: numpy.isfinite(images).all() tells"
    elif first is None and asked is not None and not asked(batch.images).isfinite().all():
        first = "the teacher's logits"
        why = "the student's logits are finite: the teacher has no answer to some image of this batch"
        fix = "another teacher, or weights and operations of it that are finite for all images"
    elif first is None:
        first = "the loss itself"
        why = "logits of student and teacher are finite, what the loss makes of them is not"
        fix = "log_softmax in place of softmax and log, no division by what can be 0, or smaller weights of its terms"
    return RunError(
        what=f"the loss is {values['loss']} at epoch {pl_module.current_epoch}, step {step}; "
        f"its term {', '.join(parts) or 'sum'} is the cause; first not finite: {first}",
        why=why,
        fix=fix,
    )


@torch.no_grad()
def first_nonfinite(student: nn.Module, images: Tensor) -> str | None:
    """Name what first is NaN or infinite, in the order of computation.

    Args:
        student: Images to logits_TBC; run once more, in the mode that it is in.
        images: A batch, [B,C,H,W] or [T,B,C,H,W].

    Returns:
        E.g. "the images", "the weights of net.layer1.0.conv1" or "the output of net.layer2.0 at step 3 of 4"; None if
        everything up to the logits is finite.
    """
    if not images.isfinite().all():
        return "the images"
    for name, parameter in student.named_parameters():
        if not parameter.isfinite().all():
            return f"the parameter {name}"
    timesteps = timesteps_of(student)
    found: list[str] = []

    def listen(name: str, module: nn.Module) -> None:
        def look(_: nn.Module, inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of {name}{_step(output, timesteps, images)}")

        hooks.append(module.register_forward_hook(look))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in student.named_modules():
        if not any(module.children()) or isinstance(module, OverTime):
            listen(name, module)
    try:
        student(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _step(output: Tensor, timesteps: int, images: Tensor) -> str:
    """Name the first time step that is not finite of [T*B, ...]; before time begins there is none."""
    size = images.shape[-4]
    if timesteps == 1 or output.shape[0] != timesteps * size:
        return ""
    bad_T = ~output.reshape(timesteps, -1).isfinite().all(1)
    return f" at step {int(bad_T.nonzero()[0]) + 1} of {timesteps}"
