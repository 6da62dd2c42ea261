"""Learning rate schedules, in optimiser steps."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


class Schedule(Protocol):
    """Anything that makes a torch scheduler once the number of steps is known."""

    def __call__(self, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> LRScheduler:
        """Make the scheduler; it is stepped after every optimiser step."""


def _warm_up(step: int, steps: int) -> float:
    return (step + 1) / (steps + 1) if step < steps else 1.0


@dataclass(frozen=True)
class Constant:
    """The optimiser's own learning rate throughout, after a linear warm-up.

    Args:
        warmup_epochs: Epochs over which the rate rises in a line from near 0.
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
