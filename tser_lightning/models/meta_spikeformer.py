"""Meta-SpikeFormer (Yao et al., ICLR 2024, arXiv 2404.03663): a pyramid of convolutions, then attention.

It is the Spike-driven Transformer V2; its stream is real-valued. Checked against the public file (BICLab/ Spike-Driven-
Transformer-V2, classification/models.py as it is now, with a neuron before the head): parameter counts of 31M and 55M,
and equal logits of 31M for random weights in float64. That file has no 15M; its widths are those of the authors' code
for segmentation, its count the paper's 15.1 M. Its neuron is our default with neuron.detach_reset=true. Queries, keys,
values and the projection are three convolutions in a row with norms alone between them: they could be merged into one
of 3x3 that sees spikes alone; here they are computed, and counted, as they are trained. The second head, for a
teacher's class token, is left out.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tser_lightning.models.fusing import Layers
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.preact import add_to_stream
from tser_lightning.models.transformer import (
    Pyramid,
    SelfAttention,
    TransformerBlock,
    check_heads,
    conv_norm,
    preact_mlp,
    start_small,
)


class NormAndPad(nn.Module):
    """A norm, then one pixel around the map of what it makes of 0, so that a convolution can be merged with it.

    The border comes from running statistics, also in training, and has no gradient, as published.
    """

    def __init__(self, dim: int, parts: Parts) -> None:
        super().__init__()
        self.norm = parts.norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H + 2, W + 2]."""
        normed, training = self.norm(x), self.norm.training
        try:
            with torch.no_grad():
                border = self.norm.eval()(torch.zeros_like(x[..., :1, :1])).to(normed.dtype)
        finally:
            self.norm.train(training)
        padded: Tensor = border.repeat(1, 1, x.shape[2] + 2, x.shape[3] + 2)
        padded[..., 1:-1, 1:-1] = normed
        return padded


def rep_conv(dim: int, parts: Parts) -> Layers:
    """conv1x1, norm and border, depthwise conv3x3, conv1x1, norm, and the norm behind it."""
    return Layers(
        nn.Conv2d(dim, dim, 1, bias=False),
        NormAndPad(dim, parts),
        nn.Conv2d(dim, dim, 3, groups=dim, bias=False),
        nn.Conv2d(dim, dim, 1, bias=False),
        parts.norm(dim),
        parts.norm(dim),
    )


class RepAttention(SelfAttention):
    """Self-attention whose projections are `rep_conv`."""

    def __init__(self, dim: int, heads: int, parts: Parts) -> None:
        super().__init__(dim, heads, parts, preact=True)
        self.q, self.k, self.v = (rep_conv(dim, parts).append(parts.activation(dim)) for _ in range(3))
        self.proj = rep_conv(dim, parts)


class ConvBlock(nn.Module):
    """A separable convolution, then 3x3 to four times the width and back, each act-conv-norm and added."""

    def __init__(self, dim: int, parts: Parts) -> None:
        super().__init__()
        wide = 2 * dim
        self.conv = Layers(
            parts.activation(dim),
            conv_norm(dim, wide, parts, kernel=1),
            parts.activation(wide),
            nn.Conv2d(wide, wide, 7, padding=3, groups=wide, bias=False),
            conv_norm(wide, dim, parts, kernel=1),
        )
        self.mlp = Layers(
            parts.activation(dim),
            conv_norm(dim, 4 * dim, parts),
            parts.activation(4 * dim),
            conv_norm(4 * dim, dim, parts),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]; the first block gets one map for all steps."""
        x = add_to_stream(self.conv(x), x)
        return x + cast(Tensor, self.mlp(x))


def _downsampling(
    width_in: int, width: int, parts: Parts, kernel: int = 3, stride: int = 2, fires: bool = True
) -> Layers:
    act = parts.activation(width_in) if fires else nn.Identity()
    return Layers(act, *conv_norm(width_in, width, parts, kernel, bias=True, stride=stride))


@architecture(Parts)
def meta_spikeformer(
    num_classes: int, in_channels: int, parts: Parts, *, dim: int = 384, last_dim: int = 480, heads: int = 8
) -> Network:
    """Meta-SpikeFormer: stages of dim / 8, dim / 4, dim / 2, dim and last_dim channels with 1, 1, 2, 6 and 2 blocks.

    1000 classes: 31M (384 and 480) has 31,333,864 parameters, 55M (512 and 640) 55,350,248, 15M (256 and 360)
    15,112,208.

    Args:
        dim: Channels of a token of the stage before the last.
        last_dim: Channels of a token of the last stage.
        heads: Heads of attention, which divide `dim` and `last_dim`.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: `dim` or `last_dim` cannot be divided by 8 and `heads`.

    Source:
        Yao et al., ICLR 2024 (arXiv 2404.03663).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = meta_spikeformer(1000, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        31333864
    """
    check_heads(dim, heads)
    check_heads(last_dim, heads)
    conv_stages = [
        (_downsampling(in_channels, dim // 8, parts, 7, fires=False), [ConvBlock(dim // 8, parts)]),
        (_downsampling(dim // 8, dim // 4, parts), [ConvBlock(dim // 4, parts)]),
        (_downsampling(dim // 4, dim // 2, parts), [ConvBlock(dim // 2, parts) for _ in range(2)]),
    ]
    attention_stages = [
        (_downsampling(dim // 2, dim, parts), [_block(dim, heads, parts) for _ in range(6)]),
        (_downsampling(dim, last_dim, parts, stride=1), [_block(last_dim, heads, parts) for _ in range(2)]),
    ]
    net = Pyramid([*conv_stages, *attention_stages], last_dim, num_classes, head_act=parts.activation(last_dim))
    start_small([net.head])
    return net


def _block(dim: int, heads: int, parts: Parts) -> TransformerBlock:
    return TransformerBlock(RepAttention(dim, heads, parts), preact_mlp(dim, parts))
