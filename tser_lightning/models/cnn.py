"""A small convolutional network that learns in a minute on a processor."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from tser_lightning.mistake import Mistake
from tser_lightning.models.activation import relu
from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import Layers
from tser_lightning.models.network import Factory, Network, Parts, four_stages


class CNN(Network):
    """Three times conv3x3-norm-activation, with a max-pooling before the first activation and one after the second.

    The classifier sees where something is: maps are flattened, not averaged. The pooling before the first activation
    chooses among currents, that after the second keeps spikes binary.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        parts: Activation and norm of every layer, attention at the end of every stage.
        widths: Channels of the three convolutions.
        grid: Height and width of the map that the classifier sees; larger maps are averaged down to it.
    """

    def __init__(self, num_classes: int, in_channels: int, parts: Parts, widths: Sequence[int], grid: int) -> None:
        super().__init__()
        first, second, third = widths
        self.stage1 = Layers(
            nn.Conv2d(in_channels, first, 3, padding=1, bias=False),
            parts.norm(first),
            nn.MaxPool2d(2),
            parts.activation(first),
            parts.attention(first),
        )
        self.stage2 = Layers(
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            parts.norm(second),
            parts.activation(second),
            parts.attention(second),
        )
        self.pool = nn.MaxPool2d(2)
        self.stage3 = Layers(
            nn.Conv2d(second, third, 3, padding=1, bias=False),
            parts.norm(third),
            parts.activation(third),
            parts.attention(third),
        )
        self.grid = nn.AdaptiveAvgPool2d(grid)
        self.fc = nn.Linear(third * grid * grid, num_classes)
        self.stages = four_stages("stage1", ["stage1", "stage2", "stage3"])
        self.smallest = 4 * grid

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        if min(x.shape[-2:]) < self.smallest:
            raise Mistake(
                f"images of {x.shape[-2]}x{x.shape[-1]} pixels are too small for a grid of {self.grid.output_size}",
                f"the network halves them twice: it needs at least {self.smallest}x{self.smallest}",
                f"grid={max(1, min(x.shape[-2:]) // 4)}",
            )
        maps = self.stage3(self.pool(self.stage2(self.stage1(x))))
        return cast(Tensor, self.fc(self.grid(maps).flatten(1)))


def cnn_small(
    num_classes: int,
    in_channels: int = 3,
    activation: Factory = relu,
    norm: Factory = nn.BatchNorm2d,
    *,
    widths: Sequence[int] = (8, 16, 32),
    grid: int = 2,
    **attention: Any,
) -> Network:
    """Three convolutions, for images from 8x8 to 32x32 pixels. 10 classes, one channel, grid 7: 21,634 parameters."""
    return CNN(num_classes, in_channels, parts_with(activation, norm, **attention), widths, grid)
