"""ResNet-50 and its block. As a teacher it takes torchvision's weights, whose names it has."""

from torch import Tensor, nn

from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import norm_act
from tser_lightning.models.initialisation import published_start
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.norms import joined
from tser_lightning.models.resnet import ResNet, Stem, shortcut


class Bottleneck(nn.Module):
    """conv1x1, conv3x3 with the stride, conv1x1 to 4 x width; the activation after the addition, as in `BasicBlock`."""

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self.width_out = 4 * width
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1, self.act1 = parts.norm(width), parts.activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2, self.act2 = parts.norm(width), parts.activation(width)
        self.conv3 = nn.Conv2d(width, self.width_out, 1, bias=False)
        self.bn3 = joined(parts.norm(self.width_out))
        self.downsample = shortcut(width_in, self.width_out, stride, parts)
        self.act3 = parts.activation(self.width_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, 4 width, H/stride, W/stride]."""
        branch = norm_act(self.bn1, self.act1, self.conv1(x))
        branch = norm_act(self.bn2, self.act2, self.conv2(branch))
        return norm_act(self.bn3, self.act3, self.conv3(branch), self.downsample(x))


@architecture(parts_with)
def resnet50(num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "imagenet") -> Network:
    """ResNet-50: four stages of 3, 4, 6 and 3 bottlenecks. 1000 classes: 25,557,032 parameters, as torchvision's.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = resnet50(1000)
        >>> sum(parameter.numel() for parameter in net.parameters())
        25557032
    """
    net = ResNet(num_classes, in_channels, parts, Bottleneck, depths=(3, 4, 6, 3), stem=stem)
    return published_start(net, parts.activation)
