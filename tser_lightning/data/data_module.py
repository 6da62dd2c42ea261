"""The splits of an image set, as Lightning asks for them."""

from typing import Any

import lightning.pytorch as pl
import torch

from tser_lightning.data.image_data import ImageData, Split
from tser_lightning.data.open_files import workers_that_fit
from tser_lightning.operating_system import cores


class ImageDataModule(pl.LightningDataModule):
    """Batches of an image set for any Trainer, split over its processes and made where its device has room for them.

    The loaders split the order over the processes themselves; where there are several, Lightning must be kept from
    putting its own sampler there: `Trainer(use_distributed_sampler=False)`.

    Args:
        data: Where the batches come from.
        seed: Of the order of the data and of the augmentation.
        selection: The split that is followed during training, "val" or "test"; None for none.
        workers: Processes that load data. "auto": none for a set in memory, which goes to the device if that has room
            for it, else one per core, as far as
            the limit on open files allows.

    Examples:
        >>> from tser_lightning.data import Digits
        >>> digits = Digits(10, [1, 8, 8], mean=[0.3], std=[0.4])
        >>> module = ImageDataModule(digits, seed=1, workers=0)
        >>> next(iter(module.loader("test"))).images.shape
        torch.Size([360, 1, 8, 8])
    """

    def __init__(
        self, data: ImageData, *, seed: int = 1, selection: Split | None = "val", workers: int | str = "auto"
    ) -> None:
        super().__init__()
        self.data, self.seed, self.selection, self._workers = data, seed, selection, workers
        self._epoch, self._batch = 0, 0

    def resume_at(self, epoch: int, batch: int) -> None:
        """Let training begin in an epoch, from 0, at a batch of it: one that was interrupted goes on exactly."""
        self._epoch, self._batch = epoch, batch

    def loader(self, split: Split) -> Any:
        """Load a split for this process, or for one alone where no Trainer has taken this module."""
        trainer = self.trainer
        place = {} if trainer is None else {"rank": trainer.global_rank, "world_size": trainer.world_size}
        return self.data.loader(split, seed=self.seed, workers=self.workers, device=self._device, **place)

    @property
    def workers(self) -> int:
        """Processes that load data: none where it lies on the device."""
        if self._workers != "auto":
            return int(self._workers)
        return 0 if self.data.in_memory or self.is_on_device else workers_that_fit(cores())

    @property
    def is_on_device(self) -> bool:
        """Whether batches are made on the Trainer's device."""
        return self._device is not None and self.data.fits(self._device)

    @property
    def _device(self) -> torch.device | None:
        return self.trainer.strategy.root_device if self.trainer is not None and self._workers == "auto" else None

    def train_dataloader(self) -> Any:
        """Batches of the training split, shuffled and augmented, from the one that is next.

        The epoch is set here too because workers read ahead before Lightning sets it.
        """
        loader = self.loader("train")
        loader.sampler.set_epoch(self._epoch)
        loader.sampler.set_position(self._batch)
        return loader

    def val_dataloader(self) -> Any:
        """Batches of the split that the selection follows."""
        return self.loader(self.selection) if self.selection else []

    def test_dataloader(self) -> Any:
        """Batches of the test split, each image once."""
        return self.loader("test")
