"""Learning rate schedules, in optimiser steps."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


class Schedule(Protocol):
    """Anything that makes a torch scheduler once the number of steps is known.

    Examples:
        >>> import torch
        >>> from torch.optim.lr_scheduler import StepLR
        >>> def halved_at_half(optimizer, *, epochs, steps_per_epoch):
        ...     return StepLR(optimizer, epochs * steps_per_epoch // 2, gamma=0.5)
        >>> schedule: Schedule = halved_at_half
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule(optimizer, epochs=4, steps_per_epoch=10).step_size
        20
    """

    def __call__(self, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> LRScheduler:
        """Make the scheduler; it is stepped after every optimiser step."""


def _warm_up(step: int, steps: int) -> float:
    return (step + 1) / (steps + 1) if step < steps else 1.0


@dataclass(frozen=True)
class Constant:
    """The optimiser's own learning rate throughout, after a linear warm-up.

    Args:
        warmup_epochs: Epochs over which the rate rises in a line from near 0.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = Constant(warmup_epochs=1)(optimizer, epochs=4, steps_per_epoch=4)
        >>> round(scheduler.get_last_lr()[0], 4)  # 1 / 5 of it at the first of four steps
        0.02
    """

    warmup_epochs: float = 0

    def __call__(self, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> LambdaLR:
        """Make the scheduler."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        return LambdaLR(optimizer, lambda step: _warm_up(step, warmup))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the optimiser's learning rate to `final_lr` at the last step, after a linear warm-up.

    Args:
        warmup_epochs: Epochs over which the rate rises in a line from near 0.
        final_lr: Learning rate at the end, the same for every parameter group.
        cooldown_epochs: Epochs at the end that have `final_lr` throughout; they are among the epochs of the training.
            timm's scripts (`cooldown_epochs`) add them to theirs: 300 there and 10 are 310 here.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = Cosine(final_lr=0.01)(optimizer, epochs=1, steps_per_epoch=2)
        >>> rates = [scheduler.get_last_lr()[0]]
        >>> for _ in range(2):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     rates += scheduler.get_last_lr()
        >>> [round(rate, 4) for rate in rates]
        [0.1, 0.055, 0.01]
    """

    warmup_epochs: float = 0
    final_lr: float = 0.0
    cooldown_epochs: float = 0

    def __call__(self, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> LambdaLR:
        """Make the scheduler."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        cooldown = round(self.cooldown_epochs * steps_per_epoch)
        falling = max(1, epochs * steps_per_epoch - warmup - cooldown)

        def factor(step: int, start_lr: float) -> float:
            if step < warmup:
                return _warm_up(step, warmup)
            share = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / falling)))
            final = self.final_lr / start_lr if start_lr else 1.0
            return final + (1 - final) * share

        rates = [group["lr"] for group in optimizer.param_groups]
        return LambdaLR(optimizer, [partial(factor, start_lr=rate) for rate in rates])


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine from a 25th of the optimiser's learning rate up to it, then half a cosine down to almost nothing.

    torch's OneCycleLR (Smith and Topin, arXiv 1708.07120), with momentum as the optimiser has it.

    Args:
        rising: Share of the steps in which the rate rises, in (0, 1).

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = OneCycle()(optimizer, epochs=4, steps_per_epoch=10)
        >>> round(scheduler.get_last_lr()[0], 4)  # a 25th
        0.004
    """

    rising: float = 0.3

    def __call__(self, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> LRScheduler:
        """Make the scheduler."""
        rates = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(
            optimizer,
            max_lr=rates,
            total_steps=max(1, epochs * steps_per_epoch),
            pct_start=self.rising,
            cycle_momentum=False,
        )
