"""Residual networks with the activation after the addition, so that every convolution of a student sees spikes.

Parameters are named as in torchvision, whose weights load into the ImageNet stem. Every network takes the attention
settings of `parts_with`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import norm_act
from tser_lightning.models.initialisation import published_start
from tser_lightning.models.network import Network, Parts, architecture, four_stages
from tser_lightning.models.norms import joined

Stem = Literal["cifar", "imagenet"]


class BasicBlock(nn.Module):
    """conv-norm-act-conv-norm, the shortcut added, then the second activation (He et al., 2016).

    Args:
        width_in: Channels that come in.
        width: Channels that go out.
        stride: Of the first convolution.
        parts: Activation and norm.
        norm_identity: Whether a shortcut that changes no shape has a norm too.
    """

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts, norm_identity: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = parts.norm(width)
        self.act1 = parts.activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = joined(parts.norm(width))
        self.downsample: nn.Module = shortcut(width_in, width, stride, parts)
        if norm_identity and isinstance(self.downsample, nn.Identity):
            self.downsample = joined(parts.norm(width))
        self.act2 = parts.activation(width)
        self.width_out = width

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, width, H/stride, W/stride]."""
        branch = norm_act(self.bn1, self.act1, self.conv1(x))
        return norm_act(self.bn2, self.act2, self.conv2(branch), self.downsample(x))


def shortcut(width_in: int, width_out: int, stride: int, parts: Parts, bias: bool = False) -> nn.Module:
    """The identity, or conv1x1-norm where the shape changes."""
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=bias), joined(parts.norm(width_out)))


class ResNet(Network):
    """Stem, three or four stages of residual blocks, average pool, linear classifier.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the images.
        parts: Activation and norm of every block, attention after every stage.
        block: Makes a residual block from (width_in, width, stride, parts); the block tells its `width_out`.
        depths: Blocks per stage.
        widths: Channels per stage.
        strides: Of the first block of each stage; by default every stage but the first halves the image.
        stem_width: Channels of the first convolution, `widths[0]` by default.
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).
        stem_fires: Whether the stem ends with an activation (before its pooling).
        bias: Whether the stem's convolution has a bias.
        hidden: Width of a hidden layer with an activation of its own before the classifier (ResNet-19); 0 for none.
        fires: Whether an activation comes before the average pool, as where a real-valued stream goes through all
            stages.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        parts: Parts,
        block: Callable[[int, int, int, Parts], nn.Module] = BasicBlock,
        depths: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] | None = None,
        stem_width: int | None = None,
        stem: Stem = "cifar",
        stem_fires: bool = True,
        bias: bool = False,
        hidden: int = 0,
        fires: bool = False,
    ) -> None:
        super().__init__()
        width = stem_width or widths[0]
        self.attention0 = parts.input_attention(in_channels)
        self.conv1: nn.Module
        self.conv1, self.maxpool = stem_layers(stem, in_channels, width, bias)
        self.bn1 = parts.norm(width)
        self.act1 = parts.activation(width) if stem_fires else nn.Identity()
        self.layers: list[str] = []
        strides = strides or (1, *[2] * (len(depths) - 1))
        for index, (depth, width_next, stride) in enumerate(zip(depths, widths, strides, strict=True), start=1):
            stage, width = _stage(block, width, width_next, depth, stride, parts)
            self.add_module(f"layer{index}", stage)
            self.add_module(f"attention{index}", parts.attention(width))
            self.layers.append(f"layer{index}")
        self.last_act = parts.activation(width) if fires else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1: nn.Module = Hidden(width, hidden, parts) if hidden else nn.Identity()
        self.fc = nn.Linear(hidden or width, num_classes)
        self.stages = four_stages("act1", self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        x = self.maxpool(norm_act(self.bn1, self.act1, self.conv1(self.attention0(x))))
        for index, layer in enumerate(self.layers, start=1):
            x = getattr(self, f"attention{index}")(getattr(self, layer)(x))
        return cast(Tensor, self.fc(self.fc1(self.avgpool(self.last_act(x))).flatten(1)))


class Hidden(nn.Module):
    """Linear, then an activation that sees its channels as a convolution's: [N, width_in, 1, 1] -> [N, width, 1, 1]."""

    def __init__(self, width_in: int, width: int, parts: Parts) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width)
        self.act = parts.activation(width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        return cast(Tensor, self.act(self.linear(x.flatten(1))[:, :, None, None]))


def stem_layers(stem: Stem, in_channels: int, width: int, bias: bool) -> tuple[nn.Conv2d, nn.Module]:
    """Make the first convolution and the pooling after its activation.

    Raises:
        UsageError: There is no such stem.
    """
    if stem == "cifar":
        return nn.Conv2d(in_channels, width, 3, padding=1, bias=bias), nn.Identity()
    if stem == "imagenet":
        return nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=bias), nn.MaxPool2d(3, 2, padding=1)
    raise UsageError(
        f"stem={stem!r} is not a stem",
        "a stem is cifar (3x3, stride 1) or imagenet (7x7, stride 2, max-pool)",
        "stem=cifar",
    )


def _stage(
    block: Callable[[int, int, int, Parts], nn.Module], width_in: int, width: int, depth: int, stride: int, parts: Parts
) -> tuple[nn.Sequential, int]:
    """Stack `depth` blocks, the first of them with `stride`; also return the channels that come out."""
    stage = nn.Sequential()
    for index in range(depth):
        stage.append(block(width_in, width, stride if index == 0 else 1, parts))
        width_in = cast(int, stage[-1].width_out)
    return stage, width_in


@architecture(parts_with)
def resnet18(
    num_classes: int,
    in_channels: int,
    parts: Parts,
    *,
    stem: Stem = "cifar",
    variant: Literal["standard", "glif"] = "standard",
) -> Network:
    """ResNet-18: four stages of two basic blocks. CIFAR stem, 10 classes: 11,173,962 parameters.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).
        variant: "standard"; or "glif", that of GLIF (Yao et al., 2022, networks_for_CIFAR.py): a norm on every
            shortcut, the second stage as large as the first, and the classifier of its ResNet-19, without a bias (10
            classes: 11,304,512; 100 classes: 11,222,080).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: There is no such variant.

    Source:
        He et al., 2016.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = resnet18(10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        11173962
    """
    if variant not in ("standard", "glif"):
        raise UsageError(
            f"variant={variant!r} is not a ResNet-18",
            "it is the standard one, or that of GLIF",
            "variant=standard",
        )
    glif = variant == "glif"
    block = partial(BasicBlock, norm_identity=glif)
    net = ResNet(num_classes, in_channels, parts, block, strides=(1, 1, 2, 2) if glif else None, stem=stem)
    if glif:
        _glif_head(net, num_classes)
    return published_start(net, parts.activation)


@architecture(parts_with)
def resnet34(num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "cifar") -> Network:
    """ResNet-34: four stages of 3, 4, 6 and 3 basic blocks. CIFAR stem, 10 classes: 21,282,122 parameters.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        He et al., 2016.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = resnet34(10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        21282122
    """
    net = ResNet(num_classes, in_channels, parts, depths=(3, 4, 6, 3), stem=stem)
    return published_start(net, parts.activation)


@architecture(parts_with)
def resnet19(
    num_classes: int, in_channels: int, parts: Parts, *, variant: Literal["group", "tet", "mpbn", "glif"] = "group"
) -> Network:
    """ResNet-19: three stages of 128, 256, 512 channels. Four networks have been published under this name.

    Args:
        variant: "group", of TSER's authors: stem of 128 channels, 512 -> 256 -> activation -> classes (10 classes:
            12,697,994 parameters). "tet" (Deng et al., 2022): as before with a stem of 64 (12,630,858). "mpbn" (Guo et
            al., 2023): stem of 128, no hidden layer (12,569,226). "glif" (Yao et al., 2022): stem of 128, a norm on
            every shortcut, a classifier without bias, which is two linear layers, 512 -> 256 -> classes, for 50 classes
            or fewer (12,700,544; 100 classes: 12,618,112).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: There is no such variant.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = resnet19(10, variant="tet")
        >>> sum(parameter.numel() for parameter in net.parameters())
        12630858
    """
    stems_and_heads = {"group": (128, 256), "tet": (64, 256), "mpbn": (128, 0), "glif": (128, 0)}
    if variant not in stems_and_heads:
        raise UsageError(
            f"variant={variant!r} is not a ResNet-19",
            "four networks have been published as ResNet-19: group, tet, mpbn, glif",
            "variant=group",
        )
    stem_width, hidden = stems_and_heads[variant]
    block = partial(BasicBlock, norm_identity=variant == "glif")
    net = ResNet(num_classes, in_channels, parts, block, (3, 3, 2), (128, 256, 512), None, stem_width, hidden=hidden)
    if variant == "glif":
        _glif_head(net, num_classes)
    return published_start(net, parts.activation)


def _glif_head(net: ResNet, num_classes: int) -> None:
    """Exchange the classifier for GLIF's."""
    width = net.fc.in_features
    linear = [nn.Linear(width, num_classes, bias=False)]
    if num_classes <= 50:
        linear = [nn.Linear(width, 256, bias=False), nn.Linear(256, num_classes, bias=False)]
        net.fc1 = nn.Sequential(nn.Flatten(), linear[0])
    net.fc = linear[-1]
    for layer in linear:
        nn.init.normal_(layer.weight, 0, 0.01)


@architecture(parts_with)
def resnet_small(num_classes: int, in_channels: int, parts: Parts, *, widths: Sequence[int] = (16, 32, 64)) -> Network:
    """One block per stage, for images of 8x8 to 28x28 pixels on a CPU.

    Args:
        widths: Channels of the stages, as many as there are; every stage but the first halves the map.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(resnet_small(10, 1, activation=LIF, widths=[4, 8]), timesteps=4)
        >>> student(torch.rand(2, 1, 8, 8)).shape
        torch.Size([4, 2, 10])
    """
    return ResNet(num_classes, in_channels, parts, depths=[1] * len(widths), widths=widths)
