"""Spikformer (Zhou et al., ICLR 2023): spikes are added to spikes, so that the stream between blocks is integers."""

from typing import cast

from torch import Tensor, nn

from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.transformer import (
    SelfAttention,
    Transformer,
    check_heads,
    firing,
    firing_mlp,
    poolings,
    start_small,
    tokenizer_widths,
    unused,
)


class PatchSplitting(nn.Module):
    """Four times conv-norm-act-pool, then a position term of conv-norm-act is added (SPS, Eq. 5-7)."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, parts: Parts) -> None:
        super().__init__()
        widths = tokenizer_widths(in_channels, dim)
        self.patches = nn.Sequential()
        for width_in, width, pool in zip(widths, widths[1:], poolings(patch_size), strict=False):
            self.patches.append(nn.Sequential(firing(width_in, width, parts, kernel=3), pool))
        self.position = firing(dim, dim, parts, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, dim, H/patch_size, W/patch_size]."""
        x = self.patches(x)
        return x + cast(Tensor, self.position(x))


class SpikformerBlock(SelfAttention):
    """Spiking self-attention, then an MLP of four times the width; both end with spikes and are added (Eq. 8-9).

    Args:
        dim: D of tokens [N, D, H, W].
        heads: Heads of attention, which divide `dim`.
        parts: Activation and norm.
        qkv_bias: Whether queries, keys and values have a bias before their norm.
    """

    def __init__(self, dim: int, heads: int, parts: Parts, qkv_bias: bool = True) -> None:
        super().__init__(dim, heads, parts, preact=False, qkv_bias=qkv_bias)
        self.mlp = firing_mlp(dim, parts)
        self.norm1, self.norm2 = unused(nn.LayerNorm(dim)), unused(nn.LayerNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        x = x + super().forward(x)
        return x + cast(Tensor, self.mlp(x))


@architecture(Parts)
def spikformer(
    num_classes: int,
    in_channels: int,
    parts: Parts,
    *,
    depth: int = 4,
    dim: int = 384,
    heads: int = 12,
    patch_size: int = 4,
) -> Network:
    """Spikformer, named by its depth and width: 4-384 has four blocks of 384 channels.

    10 classes: 4-256 has 4,159,274, 2-384 5,768,122, 4-384 9,330,874 parameters; 1000 classes and patches of 16: 8-384
    has 16,828,312, 6-512 23,385,640. These are the counts of the public code, whose queries, keys and values have
    biases in the network for CIFAR and none in that for ImageNet (patches of 16). They hold two LayerNorms per block
    (4 dim parameters) that it makes and never calls; here those are frozen.

    Args:
        depth: Number of blocks.
        dim: Channels of a token.
        heads: Heads of attention, which divide `dim`.
        patch_size: Pixels of a token's side: 4 for CIFAR, 16 for ImageNet.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: `dim` cannot be divided by 8 and `heads`, or there is no such patch size.

    Source:
        Zhou et al., ICLR 2023.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = spikformer(10, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        9330874
    """
    check_heads(dim, heads)
    tokenizer = PatchSplitting(in_channels, dim, patch_size, parts)
    blocks = [SpikformerBlock(dim, heads, parts, qkv_bias=patch_size < 16) for _ in range(depth)]
    net = Transformer(tokenizer, blocks, dim, num_classes)
    start_small(module for module in net.block.modules() if isinstance(module, nn.Conv2d))
    start_small([net.head])
    return net
