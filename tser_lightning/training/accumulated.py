"""Accumulated gradients, kept in a checkpoint that is written between two optimiser steps."""

from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from torch import Tensor, nn


class AccumulatedGradients:
    """Keeps the gradients of an incomplete group of accumulated batches, so that a resumed training goes on exactly."""

    def __init__(self) -> None:
        self._held: Mapping[str, Tensor] = {}

    def of(self, module: pl.LightningModule) -> dict[str, Tensor]:
        """Collect the gradients by name of the parameter; of P processes, which differ until the step, as [P, ...]."""
        trainer = module.trainer

        def whole(grad: Tensor) -> Tensor:
            if trainer.world_size == 1 or module.device_mesh is not None:  # divided ones are those of all already
                return grad
            gathered: Tensor = trainer.strategy.all_gather(grad.contiguous())  # it would mix up channels last
            return gathered.cpu()

        parameters = module.named_parameters()
        return {name: whole(parameter.grad) for name, parameter in parameters if parameter.grad is not None}

    def hold(self, grads: Mapping[str, Tensor]) -> None:
        """Keep the gradients that a checkpoint holds until `restore`."""
        self._held = grads

    def restore(self, module: pl.LightningModule) -> None:
        """Set the parameters' gradients: each process its own; the mean of all if their number has changed."""
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
    """Compute the factor on the loss of a batch that makes up for Lightning's division by a whole group of batches.

    The last group of an epoch may have fewer, and is divided by those that it has.

    Args:
        batch: Number of the batch in its epoch, from 1.
        batches: Number of batches of an epoch.
        together: Batches of an optimiser step.
    """
    rest = batches % together
    return together / rest if rest and batch > batches - rest else 1.0
