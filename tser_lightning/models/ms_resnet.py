"""MS-ResNet (Hu et al., TNNLS 2024, arXiv 2112.08954): shortcuts carry membranes, and convolutions see spikes alone.

Checked against the public file of the networks for ImageNet (Ariande1/MS-ResNet, models/MS_ResNet.py): parameter counts
of all three, and logits of 18 and 104 for random weights in float64, equal to 2e-15. Its neuron is V = 0.25 V (1 - S) +
X with threshold 0.5 and a rectangular surrogate: neuron.decay=0.25 neuron.decay_input=false neuron.v_threshold=0.5
neuron.surrogate=rectangular neuron.detach_reset=true; it fires above the threshold, ours at it and above. Its norm
starts at the threshold, which is norm=tdbn norm.v_threshold=0.5. The stem for CIFAR is ours; the paper's networks for
CIFAR are others.

Max-ResNet-18 (Fang et al., NeurIPS 2025, arXiv 2505.18608) is of the same kind: where it halves the map, a max-pooling
of currents does, in place of the convolution's stride. Checked against its public file (bic-L/MaxFormer,
cifar10-100/max_resnet.py): parameter count, and equal logits. Its neuron is our default with neuron.detach_reset=true.
"""

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from tser_lightning.models.attention import parts_with
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.norms import joined
from tser_lightning.models.preact import PreActBlock, add_to_stream
from tser_lightning.models.resnet import ResNet, Stem

MembraneBlock = partial(PreActBlock, bias=False)


class PooledShortcutBlock(PreActBlock):
    """A block whose shortcut averages where it halves the map, of MS-ResNet-104; a map of odd sides is rounded up."""

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts) -> None:
        super().__init__(width_in, width, stride, parts, bias=False)
        if stride != 1:
            conv = nn.Conv2d(width_in, width, 1, bias=False)
            self.downsample = nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), conv, joined(parts.norm(width)))


class MaxBlock(PreActBlock):
    """A block that takes the largest of 3x3 currents before its second neuron where it halves the map."""

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts) -> None:
        super().__init__(width_in, width, stride, parts, bias=False)
        self.maxpool: nn.Module = nn.Identity()
        if stride != 1:
            self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, width, H/stride, W/stride]."""
        if isinstance(self.maxpool, nn.Identity):
            return super().forward(x)
        branch = self.maxpool(self.bn1(self.conv1(self.act1(x))))
        return add_to_stream(self.bn2(self.conv2(self.act2(branch))), self.downsample(x))


def ms_resnet(
    depths: tuple[int, ...], block: Any, num_classes: int, in_channels: int, parts: Parts, stem: Stem
) -> ResNet:
    """Make an MS-ResNet: no pooling in the stem, all four stages halve the map, residual branches start at 0."""
    strides = (2, 2, 2, 2) if stem == "imagenet" else (1, 2, 2, 2)
    net = ResNet(
        num_classes, in_channels, parts, block, depths, stem=stem, stem_fires=False, strides=strides, fires=True
    )
    net.maxpool = nn.Identity()
    for module in net.modules():
        if isinstance(module, PreActBlock):
            nn.init.zeros_(cast(Tensor, module.bn2.weight))
    return net


@architecture(parts_with)
def ms_resnet18(num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "imagenet") -> Network:
    """MS-ResNet-18: real-valued stream, four stages of two blocks. 1000 classes: 11,693,736 parameters.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, no pooling: all four stages halve the map).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        Hu et al., TNNLS 2024 (arXiv 2112.08954).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = ms_resnet18(1000, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        11693736
    """
    return ms_resnet((2, 2, 2, 2), MembraneBlock, num_classes, in_channels, parts, stem)


@architecture(parts_with)
def ms_resnet34(num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "imagenet") -> Network:
    """MS-ResNet-34: real-valued stream, four stages of 3, 4, 6 and 3 blocks. 1000 classes: 21,801,896 parameters.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, no pooling: all four stages halve the map).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        Hu et al., TNNLS 2024 (arXiv 2112.08954).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = ms_resnet34(1000, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        21801896
    """
    return ms_resnet((3, 4, 6, 3), MembraneBlock, num_classes, in_channels, parts, stem)


@architecture(parts_with)
def ms_resnet104(
    num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "imagenet", dropout: float = 0.2
) -> Network:
    """MS-ResNet-104: three convolutions as its stem, averaging shortcuts, dropout. 1000 classes: 77,350,504 parameters.

    Args:
        stem: "imagenet": 3x3 with stride 2, then 3x3 twice, with biases and nothing between them. "cifar": 3x3.
        dropout: Share of the pooled features that is dropped in training; each step draws its own, where the
            published network drops from the mean over steps.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        Hu et al., TNNLS 2024 (arXiv 2112.08954).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = ms_resnet104(1000, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        77350504
    """
    net = ms_resnet((3, 8, 32, 8), PooledShortcutBlock, num_classes, in_channels, parts, stem)
    return deep_stem(net, in_channels, stem, dropout)


def deep_stem(net: ResNet, in_channels: int, stem: Stem, dropout: float) -> ResNet:
    """Give a network MS-ResNet-104's first convolutions and its dropout."""
    if stem == "imagenet":
        widths, strides = (in_channels, 64, 64), (2, 1, 1)
        net.conv1 = nn.Sequential(
            *(nn.Conv2d(width, 64, 3, stride, padding=1) for width, stride in zip(widths, strides, strict=True))
        )
    net.fc1 = nn.Dropout(dropout)
    return net


@architecture(parts_with)
def max_resnet18(num_classes: int, in_channels: int, parts: Parts) -> Network:
    """Max-ResNet-18: three stages of 128, 256, 512 channels behind a stem of 64. 10 classes: 12,502,090 parameters.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        Fang et al., NeurIPS 2025 (arXiv 2505.18608).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = max_resnet18(10, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        12502090
    """
    return ResNet(
        num_classes,
        in_channels,
        parts,
        MaxBlock,
        (3, 3, 2),
        (128, 256, 512),
        stem_width=64,
        stem_fires=False,
        fires=True,
    )
