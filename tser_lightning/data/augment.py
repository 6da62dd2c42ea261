"""Augmentation and normalisation of a batch of raw images.

Legend: B image, C channel, H, W. Every random choice is a draw from the key of its image (`draws`), so an image of an
epoch is augmented alike in any batch, worker, process and on any device.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.data.draws import Stream, draw

T = TypeVar("T")


def crop_and_flip(images_BCHW: Tensor, keys_B: Tensor, padding: int, flip: bool) -> Tensor:
    """Pad with zeros, cut the old size at a random place and mirror half of the images left to right."""
    B, C, H, W = images_BCHW.shape
    across = torch.arange(W, device=images_BCHW.device).expand(B, W)
    if flip:
        across = torch.where(draw(keys_B, Stream.FLIP, 2)[:, None] == 1, W - 1 - across, across)
    rows_BH = draw(keys_B, Stream.CROP_ROW, 2 * padding + 1)[:, None] + torch.arange(H, device=images_BCHW.device)
    columns_BW = draw(keys_B, Stream.CROP_COLUMN, 2 * padding + 1)[:, None] + across
    # One gather over flat pixel numbers is the fastest of the ways without a loop over images.
    pixels_BHW = rows_BH[:, :, None] * (W + 2 * padding) + columns_BW[:, None, :]
    padded = F.pad(images_BCHW, (padding, padding, padding, padding)).reshape(B, C, -1)
    return padded.gather(2, pixels_BHW.view(B, 1, H * W).expand(B, C, H * W)).view(B, C, H, W)


def cutout(images_BCHW: Tensor, keys_B: Tensor, size: int) -> Tensor:
    """Set one square of each image to zero; its centre is anywhere, so it may reach over the border.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout", 2017.
    """
    H, W = images_BCHW.shape[-2:]

    def inside(stream: Stream, length: int) -> Tensor:
        first = draw(keys_B, stream, length)[:, None] - size // 2
        places = torch.arange(length, device=images_BCHW.device)
        return (places >= first) & (places < first + size)

    hole_BHW = inside(Stream.CUTOUT_ROW, H)[:, :, None] & inside(Stream.CUTOUT_COLUMN, W)[:, None, :]
    return images_BCHW.masked_fill(hole_BHW[:, None], 0)


def per_image(items: Iterable[T], keys_B: Tensor, stream: Stream, transform: Callable[[T], Tensor]) -> Tensor:
    """Apply one of torchvision's random transforms to B items, each with torch's generator seeded from its key.

    The generator is left as it was.
    """
    done = []
    with torch.random.fork_rng(devices=[]):
        for item, seed in zip(items, draw(keys_B, stream, 1 << 31).tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            done.append(transform(item))
    return torch.stack(done)


def _torchvision(name: str, *settings: Any) -> Callable[[Tensor], Tensor]:
    # torchvision takes seconds to import, and few sets need it.
    from torchvision.transforms import v2

    transform: Callable[[Tensor], Tensor] = getattr(v2, name)(*settings)
    return transform


def _auto_augment(policy: str) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import AutoAugmentPolicy

    policies = {known.value: known for known in AutoAugmentPolicy}
    if policy not in policies:
        raise ValueError(f"auto={policy!r} is no AutoAugment policy: choose one of {sorted(policies)} or null")
    return _torchvision("AutoAugment", policies[policy])


class Augment:
    """Raw training images to network input.

    The order is crop, flip, AutoAugment, RandAugment, to [0, 1], Cutout, normalise, random erasing. AutoAugment,
    RandAugment and random erasing are torchvision's and go through the images one by one, about 0.1 ms each.

    Args:
        mean: Of each channel, of images in [0, 1].
        std: Of each channel.
        crop: Pixels of zero padding before a random crop of the old size; 0 is no crop.
        flip: Mirror half of the images.
        auto: Policy of torchvision's AutoAugment, "cifar10", "imagenet" or "svhn"; None is none.
        rand_ops: Operations of torchvision's RandAugment per image; 0 is none.
        rand_magnitude: Its magnitude, 0 to 30 (timm's m9 is 9 of 10, so 27 here).
        cutout: Side of the square of zeros in pixels; 0 is none. It comes before the normalisation.
        erasing: Probability of torchvision's random erasing, whose rectangle has the colour of the mean; 0 is none.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        crop: int = 0,
        flip: bool = False,
        auto: str | None = None,
        rand_ops: int = 0,
        rand_magnitude: int = 9,
        cutout: int = 0,
        erasing: float = 0.0,
    ) -> None:
        if crop < 0 or cutout < 0:
            raise ValueError(f"crop={crop} and cutout={cutout} are pixels: give 0 for none")
        if rand_ops < 0 or not 0 <= rand_magnitude <= 30 or not 0 <= erasing <= 1:
            raise ValueError(
                f"give rand_ops={rand_ops} >= 0, rand_magnitude={rand_magnitude} of 0 to 30, "
                f"erasing={erasing} of 0 to 1"
            )
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean={list(mean)} and std={list(std)} must be as long as each other, std above 0")
        if (auto is not None or rand_ops) and len(mean) not in (1, 3):
            raise ValueError(
                f"auto and rand_ops must be null and 0: torchvision knows 1 or 3 channels, not {len(mean)}"
            )
        self.mean, self.std = list(mean), list(std)
        self.crop, self.flip, self.cutout = crop, flip, cutout
        # Each step with the stream of chance that seeds it.
        self._raw_steps, self._last_steps = [], []
        if auto is not None:
            self._raw_steps.append((Stream.AUTOAUGMENT, _auto_augment(auto)))
        if rand_ops:
            self._raw_steps.append((Stream.RAND_AUGMENT, _torchvision("RandAugment", rand_ops, rand_magnitude)))
        if erasing:
            self._last_steps.append((Stream.ERASING, _torchvision("RandomErasing", erasing)))

    def __call__(self, images_BCHW: Tensor, keys_B: Tensor | None) -> Tensor:
        """Turn uint8 images into normalised float32 ones of the same shape; without keys nothing else is done."""
        if keys_B is None:
            return normalise(to_unit(images_BCHW), self.mean, self.std)
        if self.crop or self.flip:
            images_BCHW = crop_and_flip(images_BCHW, keys_B, self.crop, self.flip)
        for stream, step in self._raw_steps:
            images_BCHW = per_image(images_BCHW, keys_B, stream, step)
        images_BCHW = to_unit(images_BCHW)
        if self.cutout:
            images_BCHW = cutout(images_BCHW, keys_B, self.cutout)
        images_BCHW = normalise(images_BCHW, self.mean, self.std)
        for stream, step in self._last_steps:
            images_BCHW = per_image(images_BCHW, keys_B, stream, step)
        return images_BCHW


def to_unit(images_BCHW: Tensor) -> Tensor:
    """Turn uint8 into float32 in [0, 1]."""
    return images_BCHW.float().div_(255)


def normalise(images_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation."""
    mean_C11, std_C11 = (images_BCHW.new_tensor(value)[:, None, None] for value in (list(mean), list(std)))
    return (images_BCHW - mean_C11).div_(std_C11)
