"""The state of the training loop: what a checkpoint between two batches needs besides weights and optimiser."""

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class LoopState:
    """Epoch, batch and the sums of the loss and its parts over the epoch so far.

    Attributes:
        epoch: The epoch to resume in, from 0.
        batch: How many of its batches are done.
        sums: Sums of loss and parts over these batches, by name; of this process.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self.sums: dict[str, Tensor] = {}

    def add(self, epoch: int, batch: int, values: Mapping[str, Tensor]) -> None:
        """Add the loss and its parts of a batch (counted from 0) to the sums of the epoch."""
        self.epoch, self.batch = epoch, batch + 1
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()

    def next_epoch(self, epoch: int) -> None:
        """Reset batch and sums for the beginning of an epoch."""
        self.epoch, self.batch, self.sums = epoch, 0, {}

    def state(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Give the state as plain containers, for a checkpoint.

        Args:
            gather: Makes one tensor of those of all processes, whose sums differ; the first alone writes checkpoints.
        """
        sums = {name: gather(value).reshape(-1) for name, value in self.sums.items()}
        return {"epoch": self.epoch, "batch": self.batch, "sums": sums}

    def load(self, state: Mapping[str, Any], device: torch.device, rank: int, world_size: int) -> None:
        """Restore a state; if the number of processes has changed, each takes the mean of the sums."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self.sums = {
            name: (values[rank] if len(values) == world_size else values.mean()).to(device)
            for name, values in state["sums"].items()
        }


def seed_step(seed: int, epoch: int, batch: int, rank: int, device: torch.device) -> None:
    """Seed torch's random numbers from the seed, epoch, batch and rank of a training step.

    No state of a generator has to be kept then, for any number of processes, and none that a user's own loss draws from
    is forgotten: Python's, NumPy's, torch's on the processor and on the device.
    """
    digest = hashlib.blake2b(f"{seed} {epoch} {batch} {rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> 1
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 - what other people's code draws from
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)
