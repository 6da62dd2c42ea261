"""Spike-driven Transformer (Yao et al., NeurIPS 2023): attention of masks and sums, no product of real numbers."""

from typing import cast

from torch import Tensor, nn

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


class MembranePatchSplitting(nn.Module):
    """Three times conv-norm-act-pool, conv-norm-pool, then a position term act-conv-norm is added."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, parts: Parts) -> None:
        super().__init__()
        widths = tokenizer_widths(in_channels, dim)
        self.patches = nn.Sequential()
        for width_in, width, pool in zip(widths, widths[1:], poolings(patch_size), strict=False):
            act = nn.Identity() if width == dim else parts.activation(width)
            self.patches.append(conv_norm(width_in, width, parts).append(act).append(pool))
        self.position = nn.Sequential(parts.activation(dim), conv_norm(dim, dim, parts))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, dim, H/patch_size, W/patch_size]."""
        x = self.patches(x)
        return x + cast(Tensor, self.position(x))


class SpikeDrivenSelfAttention(SelfAttention):
    """act, then q, k, v = act(norm(conv)), q masked by act at 0.5 of the sum of k v over tokens, conv-norm (Eq. 12).

    Args:
        dim: D of tokens [N, D, H, W].
        heads: Only the size of a convolution over heads that the public code makes and never calls: the sum over
            tokens is a channel's own.
        parts: Activation and norm.
    """

    def __init__(self, dim: int, heads: int, parts: Parts) -> None:
        super().__init__(dim, heads, parts, preact=True)
        self.talking_heads = unused(nn.Conv1d(heads, heads, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        x = self.act(x)
        q, k, v = self.q(x), self.k(x), self.v(x)
        mask = self.attn_act((k * v).sum((2, 3), keepdim=True))
        return cast(Tensor, self.proj(q * mask))


@architecture(Parts)
def sdt(
    num_classes: int,
    in_channels: int,
    parts: Parts,
    *,
    depth: int = 2,
    dim: int = 512,
    heads: int = 8,
    patch_size: int = 4,
) -> Network:
    """Spike-driven Transformer, named by its depth and width: 2-512 has two blocks of 512 channels.

    2-512 has 10,233,546 parameters for 10 classes, 8-384 16,816,536 for 1000. These are the published counts; they
    hold a convolution over heads per block (heads^2 parameters) that the public code makes and never calls. Here it
    is frozen.

    Args:
        depth: Number of blocks.
        dim: Channels of a token.
        heads: See `SpikeDrivenSelfAttention`.
        patch_size: Pixels of a token's side: 4 for CIFAR, 16 for ImageNet.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: `dim` cannot be divided by 8 and `heads`, or there is no such patch size.

    Source:
        Yao et al., NeurIPS 2023.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = sdt(10, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        10233546
    """
    check_heads(dim, heads)
    tokenizer = MembranePatchSplitting(in_channels, dim, patch_size, parts)
    blocks = [_block(dim, heads, parts) for _ in range(depth)]
    net = Transformer(tokenizer, blocks, dim, num_classes, head_act=parts.activation(dim))
    start_small(module for module in net.modules() if isinstance(module, nn.Conv2d))
    return net


def _block(dim: int, heads: int, parts: Parts) -> TransformerBlock:
    return TransformerBlock(SpikeDrivenSelfAttention(dim, heads, parts), preact_mlp(dim, parts))
