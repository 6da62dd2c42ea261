"""The base class of labelled image sets: splits, loaders, deterministic order."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tser_lightning.data.augment import Augment
from tser_lightning.data.batch import Batch
from tser_lightning.data.checks import check_channels
from tser_lightning.data.mixup import Mixup
from tser_lightning.data.open_files import make_room_for
from tser_lightning.data.order import BatchKey, Order
from tser_lightning.data.random_numbers import sample_keys
from tser_lightning.data.split import stratified
from tser_lightning.errors import UsageError

Part = Literal["train", "test"]
Split = Literal["train", "val", "test"]


class ImageData(ABC):
    """A labelled image set with a training and a test part.

    A new set says what its labels are, how images are read, what it holds (`fingerprint`) and how its files come to be
    (`prepare`); `ArrayData` does most of that for what fits into memory.

    Args:
        num_classes: Number of classes; labels go from 0.
        shape: (C, H, W) of an image.
        mean: Of each channel over the training images in [0, 1].
        std: Standard deviation of each channel, likewise.
        augment: Settings of `Augment` for training images; None is none.
        mixup: Settings of `Mixup` for training batches; None is none.
        validation: Fraction of the training part that is held out as "val", stratified by class, the same images
            whatever the seed; 0 trains on everything and leaves no "val".
        batch_size: Images of a training batch, all processes together; the default of `loader`.
        eval_batch_size: The same for "val" and "test".
        drop_last: Leave out an incomplete last training batch. Evaluation never drops or pads.

    Attributes:
        name: What the set is called in configs, results and messages.
        classes: Names of the classes, where they are known.
        in_memory: Whether reading an image is a copy and no work for processes of their own.

    Raises:
        UsageError: A random crop that would often show nothing of the image.
        ValueError: A shape, mean and std that do not fit each other, or a `validation` that is no fraction.

    Examples:
        >>> import torch
        >>> class Stripes(ImageData):
        ...     name = "stripes"
        ...
        ...     def labels(self, part):
        ...         return torch.arange(20) % 2
        ...
        ...     def read(self, part, indices_B, keys_B):
        ...         rows = torch.arange(8)[:, None] % 2 == indices_B[:, None, None, None] % 2
        ...         return (255 * rows.expand(-1, 1, 8, 8)).to(torch.uint8)
        ...
        ...     def fingerprint(self):
        ...         return "stripes 1"
        ...
        ...     def prepare(self):
        ...         return "nothing to prepare"
        >>> images = Stripes(2, [1, 8, 8], mean=[0.5], std=[0.5], batch_size=4)
        >>> batch = next(iter(images.loader("test")))
        >>> batch.images.shape, batch.images[0, 0, :2, 0].tolist()
        (torch.Size([20, 1, 8, 8]), [1.0, -1.0])
    """

    name: str
    classes: tuple[str, ...] | None = None
    in_memory = False

    def __init__(
        self,
        num_classes: int,
        shape: Sequence[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Mapping[str, Any] | None = None,
        mixup: Mapping[str, Any] | None = None,
        validation: float = 0.1,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        drop_last: bool = True,
    ) -> None:
        if len(shape) != 3:
            raise ValueError(f"shape={list(shape)} must be [C, H, W]")
        check_channels(shape, mean, std)
        if not 0 <= validation < 1:
            raise ValueError(f"validation={validation} is the fraction of train to hold out: 0 <= validation < 1")
        self.num_classes, self.shape = num_classes, (shape[0], shape[1], shape[2])
        self.validation, self.drop_last = validation, drop_last
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.augment = Augment(mean, std, **(augment or {}))
        if self.augment.crop >= min(shape[1:]):
            raise UsageError(
                f"crop={self.augment.crop} pads images of {shape[1]} x {shape[2]} pixels by a whole image",
                "a random crop of the old size would often show nothing of the image",
                f"crop={max(1, min(shape[1:]) // 8)}",
            )
        self.mixup = Mixup(num_classes, **(mixup or {}))

    @abstractmethod
    def labels(self, part: Part) -> Tensor:
        """Give the classes of all images of a part, int64 [N]."""

    @abstractmethod
    def read(self, part: Part, indices_B: Tensor, keys_B: Tensor | None) -> Tensor:
        """Read raw images, uint8 [B,C,H,W]; keys are given for training, if cutting out the right size is random."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash what the set holds, as hex; the same images and labels give the same on every machine."""

    def fingerprints(self) -> dict[Part, str]:
        """Hash each part by itself, so that a change of the test images alone is told apart; of a set that cannot, all.

        Returns:
            {"train": hex, "test": hex}.
        """
        whole = self.fingerprint()
        return {"train": whole, "test": whole}

    @abstractmethod
    def prepare(self) -> str:
        """Build or check the set's files and say what was done."""

    def fits(self, device: torch.device) -> bool:
        """Tell whether the images may lie on a device, so that batches are made there."""
        return False

    def transform(self) -> dict[str, Any]:
        """Give the settings that decide what a network sees of an image, but for the seed, as plain values."""
        return {"set": type(self).__name__, "shape": self.shape, **self.augment.settings, **vars(self.mixup)}

    def network_input(self, images_BCHW: Tensor, keys_B: Tensor | None) -> Tensor:
        """Turn raw images into what a network sees: augmented if there are keys, always normalised."""
        return self.augment(images_BCHW, keys_B)

    def check(self) -> None:
        """Raise a `UsageError` if the set's files are missing or damaged, or do not fit the settings."""
        self.labels("train")
        self.labels("test")

    def verify(self) -> None:
        """Raise a `UsageError` if an image cannot be read; sets in one file are read as a whole."""
        self.labels("train")

    def indices(self, split: Split) -> Tensor:
        """List the images of a split, int64 [N], by their place in the whole training (or test) part."""
        if split == "test":
            return torch.arange(len(self.labels("test")))
        if split not in ("train", "val"):
            raise ValueError(f"split={split!r} is not one of 'train', 'val', 'test'")
        if split == "val" and not self._held_out.any():
            count = len(self._held_out)
            raise UsageError(
                f"validation={self.validation:g} holds out none of the {count} training images of {self.name}",
                "selection=val chooses the epoch by the accuracy on them",
                f"selection=last, or validation={max(0.1, math.ceil(100 / max(count, 1)) / 100):g}",
            )
        if split == "train" and self._held_out.all():
            count = len(self._held_out)
            raise UsageError(
                f"validation={self.validation:g} holds out all of the {count} training images of {self.name}",
                "nothing is left to learn from",
                "validation=0.1" if count > 5 else "validation=0 selection=last, or more images",
            )
        return (self._held_out == (split == "val")).nonzero().flatten()

    @cached_property
    def _held_out(self) -> Tensor:
        labels = self.labels("train")
        return stratified(labels, round(len(labels) * self.validation))

    def loader(
        self,
        split: Split,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> DataLoader[Batch]:
        """Load the batches of a split: "train" shuffled and augmented, the others in file order and as they are.

        Call `loader.sampler.set_epoch(epoch)` before each epoch (Lightning does). Lightning must be kept from putting
        its own sampler there: `Trainer(use_distributed_sampler=False)`.

        Args:
            split: "train", "val" or "test".
            batch_size: Images of a batch, all processes together; None is the set's own.
            seed: Of order and augmentation.
            workers: Processes that read ahead; they change no bit.
            rank: Rank of this process, from 0.
            world_size: Number of processes.
            device: Where the batches are wanted. A set that fits there is kept there and augmented there, by this
                process; None makes them in the machine's memory.

        Raises:
            UsageError: Files are missing, damaged or do not fit the settings; no whole batch fits the split.
            ValueError: There is no such split.
        """
        training = split == "train"
        order = Order(
            self.indices(split),
            batch_size or (self.batch_size if training else self.eval_batch_size),
            shuffle=training,
            drop_last=training and self.drop_last,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        there = device is not None and self.fits(device)
        make_room_for(0 if there else workers)
        # batch_size=None: each "sample" that the loader asks for is a whole batch. Its generator is its own, because
        # the loader draws from torch's at every epoch, and the student's randomness must not depend on that.
        return DataLoader(
            Batches(self, "test" if split == "test" else "train", training, seed, device if there else None),
            batch_size=None,
            sampler=order,
            num_workers=0 if there else workers,
            persistent_workers=workers > 0 and not there,
            pin_memory=torch.cuda.is_available() and not there,
            generator=torch.Generator(),
        )


class Batches(Dataset[Batch]):
    """The batches of a set by their key, made from nothing but the key."""

    def __init__(
        self, data: ImageData, part: Part, training: bool, seed: int, device: torch.device | None = None
    ) -> None:
        self.data, self.part, self.training, self.seed = data, part, training, seed
        self.device = device or torch.device("cpu")
        self.labels = data.labels(part).to(self.device)

    def __getitem__(self, key: BatchKey) -> Batch:
        """Make one batch."""
        epoch, indices = key
        indices_B = torch.tensor(indices)
        # Keys stay with the processor: what is drawn from them decides which operations are called.
        keys_B = sample_keys(self.seed, epoch, indices_B) if self.training else None
        indices_B = indices_B.to(self.device, non_blocking=True)
        images_BCHW = self.data.read(self.part, indices_B, keys_B)
        # Contiguous, however they are stored: how maps lie in memory is then the network's own choice.
        images = self.data.network_input(images_BCHW, keys_B).contiguous()
        batch = Batch(images, self.labels[indices_B], indices_B)
        return batch if keys_B is None else self.data.mixup(batch, keys_B, epoch)
