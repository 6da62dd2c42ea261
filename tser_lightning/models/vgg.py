"""VGG with average pooling, biased convolutions and one linear classifier.

The operation counts that the TSER paper prints for VGG-16 (Table 4) fit this network and neither max-pooling nor
convolutions without bias. Every network takes the attention settings of `parts_with`.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import Layers
from tser_lightning.models.initialisation import published_start
from tser_lightning.models.network import Network, Parts, architecture, four_stages, refuse_small


class VGG(Network):
    """Groups of conv3x3-norm-activation, each group followed by AvgPool2d(2); average pool; linear classifier.

    Convolutions are numbered as in torchvision's `vgg*_bn`.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        parts: Activation and norm of every layer, attention after every pooling.
        groups: Channels of the convolutions of each group.
    """

    def __init__(self, num_classes: int, in_channels: int, parts: Parts, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.attention0 = parts.input_attention(in_channels)
        self.features = Layers()
        group_ends = []
        width = in_channels
        for group in groups:
            for width_next in group:
                self.features.append(nn.Conv2d(width, width_next, 3, padding=1))
                self.features.append(parts.norm(width_next))
                self.features.append(parts.activation(width_next))
                width = width_next
            group_ends.append(f"features.{len(self.features) - 1}")
            self.features.append(nn.Sequential(nn.AvgPool2d(2), parts.attention(width)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        self.stages = four_stages("features.2", group_ends)
        self.smallest = 2 ** len(groups)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        side = self.smallest
        fix = f"vgg_small, or images of at least {side}x{side}"
        refuse_small(x, side, "this VGG", "every group of its convolutions halves them", fix)
        return cast(Tensor, self.fc(self.avgpool(self.features(self.attention0(x))).flatten(1)))


@architecture(parts_with)
def vgg11(num_classes: int, in_channels: int, parts: Parts) -> Network:
    """VGG-11: five groups of convolutions, eight in all. 10 classes: 9,231,114 parameters.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: When it is called: images below 32x32 pixels.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = vgg11(10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        9231114
    """
    groups = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    net = VGG(num_classes, in_channels, parts, groups)
    return published_start(net, parts.activation, ann=False)


@architecture(parts_with)
def vgg16(num_classes: int, in_channels: int, parts: Parts) -> Network:
    """VGG-16: five groups of convolutions, thirteen in all. 10 classes: 14,728,266 parameters.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: When it is called: images below 32x32 pixels.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = vgg16(10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        14728266
    """
    groups = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    net = VGG(num_classes, in_channels, parts, groups)
    return published_start(net, parts.activation, ann=False)


@architecture(parts_with)
def vgg_small(num_classes: int, in_channels: int, parts: Parts) -> Network:
    """VGG of three groups and five convolutions, for images of 8x8 to 28x28 pixels on a CPU.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: When it is called: images below 8x8 pixels.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(vgg_small(10, 1, activation=LIF), timesteps=4)
        >>> student(torch.rand(2, 1, 8, 8)).shape
        torch.Size([4, 2, 10])
    """
    return VGG(num_classes, in_channels, parts, ((16,), (32, 32), (64, 64)))
