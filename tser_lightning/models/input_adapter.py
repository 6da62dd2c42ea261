"""Conversion of a data set's images to the size and normalisation of a network that was trained on others.

Legend: B image, C channel, H, W.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InputAdapter(nn.Module):
    """Brings images to the size and the normalisation that a network expects.

    Teacher and student see the same batch, normalised for the student. What the student's normalisation did is undone
    and the teacher's is done, in one step: raw = x std_data + mean_data, then (raw - mean) / std. Only then the images
    are resized, bilinearly, as BKDSNN does for its ViT (32 -> 224 pixels).

    Args:
        in_channels: C of the images.
        size: H = W that the network expects.
        mean: Of each channel of raw images in [0, 1], as the network expects; their average if it is not C numbers.
        std: Standard deviation of each channel, in the same units; likewise averaged.

    Examples:
        >>> import torch
        >>> adapter = InputAdapter(1, size=4, mean=[0.5], std=[0.25])
        >>> adapter.images_have(mean=[0.0], std=[1.0])  # raw pixels
        >>> images_BCHW = adapter(torch.full((2, 1, 2, 2), 0.75))
        >>> images_BCHW.shape, images_BCHW[0, 0, 0, 0].item()  # (0.75 - 0.5) / 0.25
        (torch.Size([2, 1, 4, 4]), 1.0)
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, in_channels: int, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.mean, self.std = (
            list(values) if len(values) == in_channels else [fmean(values)] * in_channels for values in (mean, std)
        )
        # Not kept with the weights: they belong to the data.
        self.register_buffer("scale", torch.ones(in_channels, 1, 1), persistent=False)
        self.register_buffer("shift", torch.zeros(in_channels, 1, 1), persistent=False)

    def images_have(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the normalisation of the images that come; until then they are taken to be as the network expects."""
        own_mean, own_std = self.scale.new_tensor(self.mean), self.scale.new_tensor(self.std)
        self.scale = (self.scale.new_tensor(std) / own_std)[:, None, None]
        self.shift = ((self.scale.new_tensor(mean) - own_mean) / own_std)[:, None, None]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Convert and resize [B, C, H, W]."""
        images_BCHW = images_BCHW * self.scale + self.shift
        if images_BCHW.shape[-2:] == (self.size, self.size):
            return images_BCHW
        return F.interpolate(images_BCHW, size=(self.size, self.size), mode="bilinear", align_corners=False)


def adapt_input(net: nn.Module, in_channels: int, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Put an `InputAdapter` before a network, as `net.input_adapter`.

    It is a hook and not a module around the network, so that weights and stages keep the names they have in the zoo.
    """
    net.input_adapter = InputAdapter(in_channels, size, mean, std)
    net.register_forward_pre_hook(_adapted)


def _adapted(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    assert isinstance(net.input_adapter, InputAdapter)
    return (net.input_adapter(inputs[0]), *inputs[1:])
