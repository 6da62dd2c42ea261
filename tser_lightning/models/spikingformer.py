"""Spikingformer (Zhou et al., 2023): a real-valued stream; every branch is act-conv-norm, so convolutions see spikes.

CML, its downsampling by the same authors, pools before the neuron and not after it: then the gradient of a maximum is
exact.
"""

from torch import Tensor, nn

from tser_lightning.models.fusing import Layers, in_order
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.transformer import (
    SelfAttention,
    Transformer,
    TransformerBlock,
    check_heads,
    conv_norm,
    poolings,
    preact_mlp,
    start_small,
    tokenizer_widths,
    unused,
)


class SpikingTokenizer(nn.Module):
    """conv-norm, then four times act-pool-conv-norm (CML: pool-act-conv-norm)."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, cml: bool, parts: Parts) -> None:
        super().__init__()
        widths = [*tokenizer_widths(in_channels, dim), dim]
        self.stem = conv_norm(in_channels, widths[1], parts)
        self.patches = Layers()
        for width_in, width, pool in zip(widths[1:], widths[2:], poolings(patch_size), strict=False):
            act = parts.activation(width_in)
            self.patches.append(Layers(*((pool, act) if cml else (act, pool)), conv_norm(width_in, width, parts)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, dim, H/patch_size, W/patch_size]."""
        return in_order([self.stem, self.patches], x)


class SpikingformerBlock(TransformerBlock):
    """The block of Spikingformer, with the two LayerNorms that its public code holds and never calls."""

    def __init__(self, dim: int, heads: int, parts: Parts) -> None:
        super().__init__(SelfAttention(dim, heads, parts, preact=True), preact_mlp(dim, parts))
        self.norm1, self.norm2 = unused(nn.LayerNorm(dim)), unused(nn.LayerNorm(dim))


@architecture(Parts)
def spikingformer(
    num_classes: int,
    in_channels: int,
    parts: Parts,
    *,
    depth: int = 4,
    dim: int = 384,
    heads: int = 12,
    patch_size: int = 4,
    cml: bool = False,
) -> Network:
    """Spikingformer, named by its depth and width: 4-384 has four blocks of 384 channels.

    10 classes: 4-256 has 4,156,202, 2-384 5,765,818, 4-384 9,326,266 parameters, with and without CML. These are the
    published counts; they hold two LayerNorms per block (4 dim parameters) that the public code makes and never calls.
    Here they are frozen.

    Args:
        depth: Number of blocks.
        dim: Channels of a token.
        heads: Heads of attention, which divide `dim`.
        patch_size: Pixels of a token's side: 4 for CIFAR, 16 for ImageNet.
        cml: Whether the tokenizer pools before its neurons.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: `dim` cannot be divided by 8 and `heads`, or there is no such patch size.

    Source:
        Zhou et al., 2023.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = spikingformer(10, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        9326266
    """
    check_heads(dim, heads)
    tokenizer = SpikingTokenizer(in_channels, dim, patch_size, cml, parts)
    net = Transformer(tokenizer, [SpikingformerBlock(dim, heads, parts) for _ in range(depth)], dim, num_classes)
    start_small([net.head])
    return net
