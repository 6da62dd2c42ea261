"""Augmentation and normalisation of a batch of raw images.

Legend: B image, C channel, H, W, A attempt. Every random choice is a draw from the key of its image (`draws`), so an
image of an epoch is augmented alike in any batch, worker, process and on any device. Nothing here goes through the
images one by one but `per_image`, and nothing waits for a device.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.data.auto_augment import AutoAugment, RandAugment
from tser_lightning.data.random_numbers import Stream, branches, draw

T = TypeVar("T")


def crop_and_flip(images_BCHW: Tensor, keys_B: Tensor, padding: int, flip: bool) -> Tensor:
    """Pad with zeros, cut the old size at a random place and mirror half of the images left to right."""
    B, C, H, W = images_BCHW.shape
    across = torch.arange(W, device=keys_B.device).expand(B, W)
    if flip:
        across = torch.where(draw(keys_B, Stream.FLIP, 2)[:, None] == 1, W - 1 - across, across)
    rows_BH = draw(keys_B, Stream.CROP_ROW, 2 * padding + 1)[:, None] + torch.arange(H, device=keys_B.device)
    columns_BW = draw(keys_B, Stream.CROP_COLUMN, 2 * padding + 1)[:, None] + across
    rows_BH, columns_BW = beside(images_BCHW, rows_BH, columns_BW)
    # One gather over flat pixel numbers is the fastest of the ways without a loop over images.
    pixels_BHW = rows_BH[:, :, None] * (W + 2 * padding) + columns_BW[:, None, :]
    padded = F.pad(images_BCHW, (padding, padding, padding, padding)).reshape(B, C, -1)
    return padded.gather(2, pixels_BHW.view(B, 1, H * W).expand(B, C, H * W)).view(B, C, H, W)


def beside(images_BCHW: Tensor, *choices: Tensor) -> list[Tensor]:
    """Bring what was drawn to the images, without waiting for their device."""
    return [choice.to(images_BCHW.device, non_blocking=True) for choice in choices]


def cutout(images_BCHW: Tensor, keys_B: Tensor, size: int) -> Tensor:
    """Set one square of each image to zero; its centre is anywhere, so it may reach over the border.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout", 2017.
    """
    H, W = images_BCHW.shape[-2:]
    tops_B = draw(keys_B, Stream.CUTOUT_ROW, H) - size // 2
    lefts_B = draw(keys_B, Stream.CUTOUT_COLUMN, W) - size // 2
    return clear(images_BCHW, tops_B, lefts_B, tops_B + size, lefts_B + size)


def clear(images_BCHW: Tensor, tops_B: Tensor, lefts_B: Tensor, bottoms_B: Tensor, rights_B: Tensor) -> Tensor:
    """Set a rectangle of each image to zero; `bottoms_B` and `rights_B` are the first pixels behind it."""
    H, W = images_BCHW.shape[-2:]
    rows_H, columns_W = (torch.arange(length, device=tops_B.device) for length in (H, W))
    inside_BH = (rows_H >= tops_B[:, None]) & (rows_H < bottoms_B[:, None])
    inside_BW = (columns_W >= lefts_B[:, None]) & (columns_W < rights_B[:, None])
    inside_BH, inside_BW = beside(images_BCHW, inside_BH, inside_BW)
    return images_BCHW.masked_fill((inside_BH[:, :, None] & inside_BW[:, None, :])[:, None], 0)


_ATTEMPTS = 10  # timm gives up after so many rectangles that do not fit into the image


def erase(images_BCHW: Tensor, keys_B: Tensor, probability: float) -> Tensor:
    """Set a rectangle inside some images to zero, as timm's RandomErasing ("const") with its own defaults does.

    Its area is 2 % to a third of the image, its height over its width 0.3 to 1/0.3, in equal parts of the logarithm.
    Source: Zhong et al., "Random erasing data augmentation", AAAI 2020.
    """
    H, W = images_BCHW.shape[-2:]
    happens, *others = branches(keys_B, Stream.ERASING, 1 + 4 * _ATTEMPTS)
    area_AB, ratio_AB, top_AB, left_AB = (_uniform(keys) for keys in torch.stack(others).unflatten(0, (4, -1)))
    area_AB = H * W * (0.02 + (1 / 3 - 0.02) * area_AB)
    ratio_AB = torch.exp(math.log(0.3) * (1 - 2 * ratio_AB))
    height_AB, width_AB = (area_AB * ratio_AB).sqrt().round().long(), (area_AB / ratio_AB).sqrt().round().long()
    fits_AB = (height_AB < H) & (width_AB < W)
    first_1B = fits_AB.int().argmax(0, keepdim=True)
    chosen_B = (_uniform(happens) < probability) & fits_AB.any(0)
    height_B, width_B = (size_AB.gather(0, first_1B)[0] * chosen_B for size_AB in (height_AB, width_AB))
    top_B = (top_AB.gather(0, first_1B)[0] * (H - height_B + 1)).long()
    left_B = (left_AB.gather(0, first_1B)[0] * (W - width_B + 1)).long()
    return clear(images_BCHW, top_B, left_B, top_B + height_B, left_B + width_B)


def _uniform(keys: Tensor) -> Tensor:
    """A number of [0, 1) for each key, float64."""
    return draw(keys, Stream.ERASING, 1 << 31).double() / (1 << 31)


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


class Augment:
    """Raw training images to network input.

    The order is crop, flip, AutoAugment, RandAugment, to [0, 1], Cutout, normalise, random erasing. What the last four
    of these do is checked against the public code of the recipes: see `auto_augment` and `erase`.

    Args:
        mean: Of each channel, of images in [0, 1].
        std: Standard deviation of each channel, likewise.
        crop: Pixels of zero padding before a random crop of the old size; 0 is no crop.
        flip: Mirror half of the images.
        auto: Policy of AutoAugment, "cifar10", "imagenet" or "svhn"; None is none.
        rand_ops: Operations of timm's RandAugment per image, each of them with probability 0.5; 0 is none.
        rand_magnitude: Its magnitude, 0 to 30 (timm's m9 is 9 of 10, so 27 here).
        rand_from: List that it draws from: "timm" (15 operations) or "spikformer" (the 5 of its code for CIFAR).
        cutout: Side of the square of zeros in pixels; 0 is none. It comes before the normalisation.
        erasing: Probability of timm's random erasing, whose rectangle has the colour of the mean; 0 is none.

    Attributes:
        settings: All arguments by name.

    Raises:
        ValueError: A value out of its range, or operations that know only 1 or 3 channels.

    Examples:
        >>> import torch
        >>> from tser_lightning.data.random_numbers import sample_keys
        >>> augment = Augment([0.5], [0.5], flip=True)
        >>> images_BCHW = torch.tensor([0, 255], dtype=torch.uint8).expand(4, 1, 1, 2)
        >>> augment(images_BCHW, None)[0].flatten().tolist()  # (x - 0.5) / 0.5, and nothing else without keys
        [-1.0, 1.0]
        >>> keys_B = sample_keys(1, 0, torch.arange(4))  # of seed and epoch
        >>> torch.equal(augment(images_BCHW, keys_B), augment(images_BCHW, keys_B))  # the key says all
        True
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
        rand_from: str = "timm",
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
                f"auto and rand_ops must be null and 0: their operations know 1 or 3 channels, not {len(mean)}"
            )
        self.settings = {
            "mean": list(mean),
            "std": list(std),
            "crop": crop,
            "flip": flip,
            "auto": auto,
            "rand_ops": rand_ops,
            "rand_magnitude": rand_magnitude,
            "rand_from": rand_from,
            "cutout": cutout,
            "erasing": erasing,
        }
        self.mean, self.std = list(mean), list(std)
        self.crop, self.flip, self.cutout, self.erasing = crop, flip, cutout, erasing
        self._operations: list[Callable[[Tensor, Tensor], Tensor]] = []
        if auto is not None:
            self._operations.append(AutoAugment(auto))
        colour = [min(255, round(255 * value)) for value in self.mean]
        rand_augment = RandAugment(rand_ops, rand_magnitude, rand_from, colour)
        if rand_ops:
            self._operations.append(rand_augment)

    def __call__(self, images_BCHW: Tensor, keys_B: Tensor | None) -> Tensor:
        """Turn uint8 images into normalised float32 ones of the same shape; without keys nothing else is done."""
        if keys_B is None:
            return normalise(to_unit(images_BCHW), self.mean, self.std)
        if self.crop or self.flip:
            images_BCHW = crop_and_flip(images_BCHW, keys_B, self.crop, self.flip)
        for operations in self._operations:
            images_BCHW = operations(images_BCHW, keys_B)
        images_BCHW = to_unit(images_BCHW)
        if self.cutout:
            images_BCHW = cutout(images_BCHW, keys_B, self.cutout)
        images_BCHW = normalise(images_BCHW, self.mean, self.std)
        return erase(images_BCHW, keys_B, self.erasing) if self.erasing else images_BCHW


def to_unit(images_BCHW: Tensor) -> Tensor:
    """Turn uint8 into float32 in [0, 1]."""
    return images_BCHW.float().div_(255)


def normalise(images_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation."""
    mean_C11, std_C11 = beside(images_BCHW, *(torch.tensor(list(value))[:, None, None] for value in (mean, std)))
    return (images_BCHW - mean_C11).div_(std_C11)
