"""The order of images and batches in an epoch, a function of seed and epoch."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from tser_lightning.data.random_numbers import sample_keys
from tser_lightning.errors import UsageError

BatchKey = tuple[int, list[int]]
"""The epoch and the image indices of a batch: all that a worker, which may outlive an epoch, needs to make it."""


class Order(Sampler[BatchKey]):
    """The batches of one process, in order.

    Batch number i of all `world_size` processes together is batch i of a single process; each takes every
    `world_size`-th image of it. Nothing is padded, so with fewer images than processes in the last batch of an
    evaluation some processes have one batch less.

    Args:
        indices: The images of the split, int64 [N].
        batch_size: Images of a batch, all processes together.
        shuffle: Whether each (seed, epoch) has an order of its own.
        drop_last: Leave out an incomplete last batch.
        seed: Seed of the order.
        rank: Rank of this process, from 0.
        world_size: Number of processes.

    Raises:
        UsageError: No batch is left, or the processes' shares of a shuffled batch would differ in size.
    """

    def __init__(
        self,
        indices: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size={batch_size} and 0 <= rank={rank} < world_size={world_size} cannot both hold")
        self.indices, self.batch_size, self.shuffle, self.drop_last = indices, batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self._position = 0
        self._check(len(indices))

    def _check(self, images: int) -> None:
        if self.drop_last and images < self.batch_size:
            raise UsageError(
                f"batch_size={self.batch_size} is above the {images} images to train on",
                "an incomplete batch is dropped, so there would be no batch at all",
                f"batch_size={max(1, images // 2)}, or drop_last=False",
            )
        sizes = {self.batch_size, self.batch_size if self.drop_last else images % self.batch_size}
        if self.shuffle and any(size % self.world_size for size in sizes):
            raise UsageError(
                f"batch_size={self.batch_size} does not give {self.world_size} processes equal shares",
                "gradients are averaged over processes, so each must have as many images as the others",
                f"drop_last=True and a `batch_size` that {self.world_size} divides",
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls this before each."""
        self.epoch = epoch

    def set_position(self, batch: int) -> None:
        """Let the next iteration, and only that, begin at a batch: an epoch that was interrupted goes on exactly."""
        self._position = batch

    def __len__(self) -> int:
        """Count the batches of this process in a whole epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (not self.drop_last and rest > self.rank)

    def __iter__(self) -> Iterator[BatchKey]:
        first, self._position = self._position, 0
        epoch, indices = self.epoch, self._ordered()
        for number in range(first, len(self)):
            batch = indices[number * self.batch_size : (number + 1) * self.batch_size]
            yield epoch, batch[self.rank :: self.world_size].tolist()

    def _ordered(self) -> Tensor:
        if not self.shuffle:
            return self.indices
        # Sorting by random keys is a random order, and one that no version of a library can change. The epoch is
        # counted from below 0 here: these keys must not be those that the augmentation of an image starts from.
        keys = sample_keys(self.seed, -1 - self.epoch, self.indices)
        return self.indices[torch.argsort(keys, stable=True)]
