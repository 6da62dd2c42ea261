"""Spike-element-wise ResNets (Fang et al., NeurIPS 2021): spikes are combined with spikes, after both have fired.

Sums of the ADD connection are integers, not spikes: a convolution may see 2 and 3. Every network takes the attention
settings of `parts_with`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import Layers, norm_act
from tser_lightning.models.initialisation import kaiming
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.resnet import ResNet, Stem

Connect = Literal["add", "and", "iand"]

CONNECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda branch, identity: branch + identity,
    "and": lambda branch, identity: branch * identity,
    "iand": lambda branch, identity: (1 - branch) * identity,
}


class SEWBlock(nn.Module):
    """Two times conv-norm-act, then the element-wise connection with the shortcut (Eq. 5 of the paper).

    Args:
        width_in: Channels that come in.
        width: Channels of the convolutions.
        stride: Of the first convolution.
        parts: Activation and norm.
        connect: "add", "and" (branch * shortcut) or "iand" ((1 - branch) * shortcut).
    """

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts, connect: Connect) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1, self.act1 = parts.norm(width), parts.activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2, self.act2 = parts.norm(width), parts.activation(width)
        self.downsample = firing_shortcut(width_in, width, stride, parts)
        self.connect = CONNECTIONS[connect]
        self.width_out = width

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, width, H/stride, W/stride]."""
        branch = norm_act(self.bn1, self.act1, self.conv1(x))
        branch = norm_act(self.bn2, self.act2, self.conv2(branch))
        return self.connect(branch, self.downsample(x))


class SEWBottleneck(nn.Module):
    """Three times conv-norm-act (1x1, 3x3 with the stride, 1x1 to 4 x width), then the connection; see `SEWBlock`."""

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts, connect: Connect) -> None:
        super().__init__()
        self.width_out = 4 * width
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1, self.act1 = parts.norm(width), parts.activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2, self.act2 = parts.norm(width), parts.activation(width)
        self.conv3 = nn.Conv2d(width, self.width_out, 1, bias=False)
        self.bn3, self.act3 = parts.norm(self.width_out), parts.activation(self.width_out)
        self.downsample = firing_shortcut(width_in, self.width_out, stride, parts)
        self.connect = CONNECTIONS[connect]

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, 4 width, H/stride, W/stride]."""
        branch = norm_act(self.bn1, self.act1, self.conv1(x))
        branch = norm_act(self.bn2, self.act2, self.conv2(branch))
        branch = norm_act(self.bn3, self.act3, self.conv3(branch))
        return self.connect(branch, self.downsample(x))


def firing_shortcut(width_in: int, width_out: int, stride: int, parts: Parts) -> nn.Module:
    """The identity, or conv1x1-norm-act where the shape changes."""
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    conv = nn.Conv2d(width_in, width_out, 1, stride, bias=False)
    return Layers(conv, parts.norm(width_out), parts.activation(width_out))


def _sew_resnet(
    depths: tuple[int, ...],
    block: type[SEWBlock] | type[SEWBottleneck],
    num_classes: int,
    in_channels: int,
    parts: Parts,
    connect: Connect,
    stem: Stem,
) -> Network:
    if connect not in CONNECTIONS:
        raise UsageError(f"connect={connect!r} does not combine spikes", "it is add, and or iand", "connect=add")
    return kaiming(ResNet(num_classes, in_channels, parts, partial(block, connect=connect), depths, stem=stem))


@architecture(parts_with)
def sew_resnet18(
    num_classes: int, in_channels: int, parts: Parts, *, connect: Connect = "add", stem: Stem = "imagenet"
) -> Network:
    """SEW-ResNet-18: four stages of two blocks. 1000 classes: 11,689,512 parameters, as torchvision's ResNet-18.

    Args:
        connect: What joins branch and shortcut: "add", "and" (branch * shortcut) or "iand" ((1 - branch) * shortcut).
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: There is no such connection or stem.

    Source:
        Fang et al., NeurIPS 2021.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import IF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = sew_resnet18(1000, activation=IF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        11689512
    """
    return _sew_resnet((2, 2, 2, 2), SEWBlock, num_classes, in_channels, parts, connect, stem)


@architecture(parts_with)
def sew_resnet34(
    num_classes: int, in_channels: int, parts: Parts, *, connect: Connect = "add", stem: Stem = "imagenet"
) -> Network:
    """SEW-ResNet-34: four stages of 3, 4, 6 and 3 blocks.

    1000 classes: 21,797,672 parameters, as torchvision's ResNet-34.

    Args:
        connect: What joins branch and shortcut: "add", "and" (branch * shortcut) or "iand" ((1 - branch) * shortcut).
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: There is no such connection or stem.

    Source:
        Fang et al., NeurIPS 2021.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import IF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = sew_resnet34(1000, activation=IF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        21797672
    """
    return _sew_resnet((3, 4, 6, 3), SEWBlock, num_classes, in_channels, parts, connect, stem)


@architecture(parts_with)
def sew_resnet50(
    num_classes: int, in_channels: int, parts: Parts, *, connect: Connect = "add", stem: Stem = "imagenet"
) -> Network:
    """SEW-ResNet-50: four stages of 3, 4, 6 and 3 bottlenecks.

    1000 classes: 25,557,032 parameters, as torchvision's ResNet-50.

    Args:
        connect: What joins branch and shortcut: "add", "and" (branch * shortcut) or "iand" ((1 - branch) * shortcut).
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: There is no such connection or stem.

    Source:
        Fang et al., NeurIPS 2021.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import IF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = sew_resnet50(1000, activation=IF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        25557032
    """
    return _sew_resnet((3, 4, 6, 3), SEWBottleneck, num_classes, in_channels, parts, connect, stem)
