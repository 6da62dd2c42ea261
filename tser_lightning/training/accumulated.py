"""Gradients of batches that wait for their optimiser step, through a checkpoint between two of them."""

from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from torch import Tensor, nn


class AccumulatedGradients:
    """Keeps the gradients of a group of accumulated batches that is not complete, so that it goes on exactly."""

    def __init__(self) -> None:
        self._held: Mapping[str, Tensor] = {}

    def of(self, module: pl.LightningModule) -> dict[str, Tensor]:
        """Give the gradients by parameter; those of several processes, which differ until the step, as [P, ...]."""
        trainer = module.trainer

        def whole(grad: Tensor) -> Tensor:
            if trainer.world_size == 1 or module.device_mesh is not None:  # divided ones are those of all already
                return grad
            gathered: Tensor = trainer.strategy.all_gather(grad.contiguous())  # it would mix up channels last
            return gathered.cpu()

        parameters = module.named_parameters()
        return {name: whole(parameter.grad) for name, parameter in parameters if parameter.grad is not None}

    def hold(self, grads: Mapping[str, Tensor]) -> None:
        """Take the gradients of a checkpoint, for `restore`."""
        self._held = grads

    def restore(self, module: pl.LightningModule) -> None:
        """Give the parameters their gradients back: this process its own, of another number of them the mean of all."""
        rank, processes = module.global_rank, module.trainer.world_size
        for name, parameter in module.named_parameters():
            if name in self._held:
                grad = _own(parameter, self._held[name], rank, processes)
                parameter.grad = torch.empty_like(parameter).copy_(grad)  # as it lies in memory
        self._held = {}


def _own(parameter: nn.Parameter, grad: Tensor, rank: int, processes: int) -> Tensor:
    if grad.ndim <= parameter.ndim:
        return grad
    return grad[rank] if len(grad) == processes else grad.mean(0)


def share_of_the_last(batch: int, batches: int, together: int) -> float:
    """Give the factor on the loss of a batch, whose gradient Lightning divides by the batches of a whole group.

    The last group of an epoch may have fewer, and is divided by those that it has.

    Args:
        batch: Number of the batch in its epoch, from 1.
        batches: Of an epoch.
        together: Batches of an optimiser step.
    """
    rest = batches % together
    return together / rest if rest and batch > batches - rest else 1.0
