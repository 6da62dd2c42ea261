"""A small convolutional network that learns in a minute on a processor."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import norm_act
from tser_lightning.models.network import Network, Parts, architecture, four_stages, refuse_small


class CNN(Network):
    """conv3x3-norm-activation for every width, with a max-pooling before the first activation and one after the second.

    The classifier sees where something is: maps are flattened, not averaged. The pooling before the first activation
    chooses among currents, that after the second keeps spikes binary.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        parts: Activation and norm of every layer, attention behind every activation.
        widths: Channels of the convolutions.
        grid: Height and width of the map that the classifier sees; larger maps are averaged down to it.
    """

    def __init__(self, num_classes: int, in_channels: int, parts: Parts, widths: Sequence[int], grid: int) -> None:
        super().__init__()
        self.depth = len(widths)
        self.attention0 = parts.input_attention(in_channels)
        for layer, (width_in, width) in enumerate(zip([in_channels, *widths], widths, strict=False), start=1):
            self.add_module(f"conv{layer}", nn.Conv2d(width_in, width, 3, padding=1, bias=False))
            self.add_module(f"bn{layer}", parts.norm(width))
            self.add_module(f"act{layer}", parts.activation(width))
            self.add_module(f"attention{layer}", parts.attention(width))
        self.pool = nn.MaxPool2d(2)
        self.grid = nn.AdaptiveAvgPool2d(grid)
        self.fc = nn.Linear(widths[-1] * grid * grid, num_classes)
        ends = [f"attention{layer}" for layer in range(1, self.depth + 1)]
        self.stages = four_stages(ends[0], ends)
        self.smallest = grid * 2 ** min(self.depth, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        who, fix = f"a grid of {self.grid.output_size}", f"grid={max(1, min(x.shape[-2:]) // 4)}"
        refuse_small(x, self.smallest, who, "the network halves them", fix)
        x = self.attention0(x)
        for layer in range(1, self.depth + 1):
            conv, bn, act, attention = (getattr(self, f"{name}{layer}") for name in ("conv", "bn", "act", "attention"))
            x = act(self.pool(bn(conv(x)))) if layer == 1 else norm_act(bn, act, conv(x))
            x = self.pool(attention(x)) if layer == 2 else attention(x)
        return cast(Tensor, self.fc(self.grid(x).flatten(1)))


@architecture(parts_with)
def cnn_small(
    num_classes: int, in_channels: int, parts: Parts, *, widths: Sequence[int] = (8, 16, 32), grid: int = 2
) -> Network:
    """Three convolutions and a linear classifier, for images from 8x8 to 32x32 pixels.

    10 classes, one channel, grid 7: 21,634 parameters.

    Args:
        widths: Channels of the convolutions, one for each.
        grid: Height and width in cells of the map that the classifier sees; larger maps are averaged down to it.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: When it is called: images smaller than 4 pixels for each cell of the grid.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4)
        >>> student(torch.rand(2, 1, 8, 8)).shape
        torch.Size([4, 2, 10])
    """
    return CNN(num_classes, in_channels, parts, widths, grid)
