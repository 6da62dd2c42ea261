"""Pre-activation ResNet: the residual stream is real-valued and never fires; every branch starts with an activation.

The ImageNet student of temporal-wise distillation (Yu et al., ICML 2025; public code of the same group).
"""

from typing import cast

from torch import Tensor, nn

from tser_lightning.models.attention import parts_with
from tser_lightning.models.fusing import norm_act
from tser_lightning.models.initialisation import kaiming
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.norms import joined
from tser_lightning.models.resnet import ResNet, Stem, shortcut


class PreActBlock(nn.Module):
    """Two times act-conv-norm, added to the stream.

    Args:
        width_in: Channels that come in.
        width: Channels that go out.
        stride: Stride of the first convolution and of the shortcut.
        parts: Activation and norm.
        bias: Whether convolutions have biases.
    """

    def __init__(self, width_in: int, width: int, stride: int, parts: Parts, bias: bool = True) -> None:
        super().__init__()
        self.act1 = parts.activation(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=bias)
        self.bn1 = parts.norm(width)
        self.act2 = parts.activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.bn2 = joined(parts.norm(width))
        self.downsample = shortcut(width_in, width, stride, parts, bias)
        self.width_out = width

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] -> [N, width, H/stride, W/stride]."""
        branch = self.conv1(self.act1(x))
        branch = self.bn2(self.conv2(norm_act(self.bn1, self.act2, branch)))
        return add_to_stream(branch, self.downsample(x))


def add_to_stream(branch: Tensor, stream: Tensor) -> Tensor:
    """Add [T*B, ...] to a stream of the same shape, or to one that is still the same for all steps, [B, ...].

    Args:
        branch: [T*B, ...], what a neuron or what comes after one gave.
        stream: [T*B, ...], or [B, ...] where it comes before the first neuron.

    Returns:
        [T*B, ...].

    Examples:
        >>> import torch
        >>> branch, stream = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([[10.0], [20.0]])  # T = 2, B = 2
        >>> add_to_stream(branch, stream).flatten().tolist()
        [11.0, 22.0, 13.0, 24.0]
    """
    return cast(Tensor, (branch.unflatten(0, (-1, len(stream))) + stream).flatten(0, 1))


@architecture(parts_with)
def preact_resnet34(num_classes: int, in_channels: int, parts: Parts, *, stem: Stem = "imagenet") -> Network:
    """Pre-activation ResNet-34; convolutions start as Kaiming normal, fan out. 1000 classes: 21,806,184 parameters.

    Takes the attention settings of `parts_with`; it makes the stream a ReLU's at the end of each stage.

    Args:
        stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, then max-pool 3x3, stride 2).

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Source:
        Yu et al., ICML 2025 (arXiv 2501.15925): its student for ImageNet.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = preact_resnet34(1000, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        21806184
    """
    return kaiming(
        ResNet(num_classes, in_channels, parts, PreActBlock, (3, 4, 6, 3), stem=stem, stem_fires=False, bias=True)
    )
