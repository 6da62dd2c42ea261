"""QKFormer (Zhou et al., NeurIPS 2024, arXiv 2403.16552): queries mask keys in its first stages, a pyramid of three.

Checked against the public files (zhouchenlin2096/QKFormer, cifar10/model.py and imagenet/qkformer.py): parameter
counts, and equal logits of 4-384 and 10-384 for random weights and one image in float64. With more images they differ:
there the last neuron of a block's self-attention goes through all images of a batch as if they were time steps; here
each image has its own. Its neuron is our default with neuron.detach_reset=true.
"""

from typing import cast

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.fusing import Layers
from tser_lightning.models.network import Network, Parts, architecture
from tser_lightning.models.transformer import (
    ATTENTION_THRESHOLD,
    Pyramid,
    SelfAttention,
    TransformerBlock,
    check_heads,
    conv_norm,
    firing,
    firing_mlp,
    start_small,
)


class TokenAttention(nn.Module):
    """Keys masked by a neuron at 0.5 of the sum of queries over the channels of a head, then conv-norm-act (Eq. 6-8).

    Args:
        dim: D of tokens [N, D, H, W].
        heads: Each has its own mask of tokens.
        parts: Activation and norm.
    """

    def __init__(self, dim: int, heads: int, parts: Parts) -> None:
        super().__init__()
        self.q, self.k = firing(dim, dim, parts), firing(dim, dim, parts)
        self.attn_act = parts.activation(heads, v_threshold=ATTENTION_THRESHOLD)
        self.proj = firing(dim, dim, parts, bias=True)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        q, k = (part(x).unflatten(1, (self.heads, -1)) for part in (self.q, self.k))
        mask = self.attn_act(q.sum(2)).unsqueeze(2)
        return cast(Tensor, self.proj((mask * k).flatten(1, 2)))


class ResidualPatches(nn.Module):
    """Layers and a convolution beside them, both ending with spikes, added: the patch embedding with deformed shortcut.

    Args:
        first: The module whose output both branches see.
        layers: The branch of convolutions behind it.
        shortcut: Convolution of one pixel, norm and activation.
    """

    def __init__(self, first: nn.Module, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.layers, self.shortcut = first, layers, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, D, H', W']."""
        x = self.first(x)
        return cast(Tensor, self.layers(x) + self.shortcut(x))


def _pool(halves: bool) -> nn.Module:
    return nn.MaxPool2d(3, 2, padding=1) if halves else nn.Identity()


def _conv_pool_act(width_in: int, width: int, parts: Parts, halves: bool) -> Layers:
    return conv_norm(width_in, width, parts).append(_pool(halves)).append(parts.activation(width))


def _first_patches(in_channels: int, dim: int, parts: Parts, large: bool) -> nn.Module:
    """Half of the channels, then all of them; for ImageNet two poolings and a third convolution."""
    half = dim // 2
    layers = Layers(_conv_pool_act(half, dim, parts, large))
    if large:
        layers.append(firing(dim, dim, parts, kernel=3))
    first = _conv_pool_act(in_channels, half, parts, large)
    return ResidualPatches(first, layers, firing(half, dim, parts, stride=2 if large else 1))


def _next_patches(dim: int, parts: Parts, large: bool) -> nn.Module:
    """Twice the channels on half the map; the pooling is behind the first convolution for ImageNet, else the second."""
    half = dim // 2
    layers = Layers(_conv_pool_act(half, dim, parts, large), _conv_pool_act(dim, dim, parts, not large))
    return ResidualPatches(nn.Identity(), layers, firing(half, dim, parts, stride=2))


@architecture(Parts)
def qkformer(
    num_classes: int,
    in_channels: int,
    parts: Parts,
    *,
    depth: int = 4,
    dim: int = 384,
    heads: int = 8,
    patch_size: int = 4,
) -> Network:
    """QKFormer depth-dim: stages of dim / 4, dim / 2 and dim channels, query-key attention in the first two.

    100 classes: 4-384 has 6,740,884 parameters; 1000 classes and patches of 16: 10-384 has 16,473,688, 10-512
    29,079,336, 10-768 64,962,760.

    Args:
        depth: Number of blocks: 1, 1 and the others for CIFAR, 1, 2 and the others for ImageNet.
        dim: Channels of a token of the last stage.
        heads: Heads of attention, in all stages.
        patch_size: Pixels of a token's side in the last stage: 4 for CIFAR, 16 for ImageNet.

    Returns:
        A network, images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        UsageError: `dim` cannot be divided by 8 and its quarter by `heads`, or there is no such patch size or depth.

    Source:
        Zhou et al., NeurIPS 2024 (arXiv 2403.16552).

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> with torch.device("meta"):  # shapes alone
        ...     net = qkformer(100, activation=LIF)
        >>> sum(parameter.numel() for parameter in net.parameters())
        6740884
    """
    check_heads(dim, heads)
    check_heads(dim // 4 * 8, 8 * heads)
    if patch_size not in (4, 16):
        raise UsageError(f"patch_size={patch_size} is not 4 or 16", "QKFormer is for CIFAR or ImageNet", "patch_size=4")
    large = patch_size == 16
    depths = (1, 2, depth - 3) if large else (1, 1, depth - 2)
    if depths[-1] < 1:
        raise UsageError(f"depth={depth} is too small", "every stage has a block", "depth=4")
    stages = []
    for number, (width, blocks) in enumerate(zip((dim // 4, dim // 2, dim), depths, strict=True)):
        patches = _next_patches(width, parts, large) if number else _first_patches(in_channels, width, parts, large)
        stages.append((patches, [_block(number, width, heads, parts) for _ in range(blocks)]))
    net = Pyramid(stages, dim, num_classes)
    start_small([net.head])
    return net


def _block(number: int, dim: int, heads: int, parts: Parts) -> TransformerBlock:
    last = number == 2
    attention = SelfAttention(dim, heads, parts, preact=False) if last else TokenAttention(dim, heads, parts)
    return TransformerBlock(attention, firing_mlp(dim, parts))
