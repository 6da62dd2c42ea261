"""What the spiking transformers share: tokens as maps, attention without softmax, the frame of the network.

Legend: N time and image folded, D channels, H, W tokens, L = H*W, K heads, d = D / K.
Tokens stay a map [N, D, H, W] from the first convolution to the head: a linear layer is a convolution with a 1x1
kernel, norms and neurons are those of every other network, and nothing is transposed on the way.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from tser_lightning.mistake import Mistake
from tser_lightning.models.fusing import Layers
from tser_lightning.models.network import Network, Parts

SCALE = 0.125  # of q k^T v in all of these networks, whatever their width
ATTENTION_THRESHOLD = 0.5  # of the neuron behind attention

M = TypeVar("M", bound=nn.Module)


class Transformer(Network):
    """Tokenizer, blocks, mean over tokens, linear head.

    The publications average over time before their head; a linear head commutes with that mean, so that the mean of
    the logits here is what they compute.

    Args:
        tokenizer: images [N, in_channels, H, W] -> tokens [N, D, H', W'].
        blocks: [N, D, H', W'] -> [N, D, H', W'] each.
        dim: D.
        num_classes: Outputs of the head.
        head_act: Applied to the mean over tokens [N, D, 1, 1].
    """

    penultimate = "head"

    def __init__(
        self,
        tokenizer: nn.Module,
        blocks: Sequence[nn.Module],
        dim: int,
        num_classes: int,
        head_act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.patch_embed = tokenizer
        self.block = nn.Sequential(*blocks)
        self.head_act = head_act or nn.Identity()
        self.head = nn.Linear(dim, num_classes)
        self.stages = {f"stage{i}": f"block.{ceil(i * len(blocks) / 4) - 1}" for i in range(1, 5)}

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        tokens = self.block(self.patch_embed(x))
        return cast(Tensor, self.head(self.head_act(tokens.mean((2, 3), keepdim=True)).flatten(1)))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Spiking self-attention q k^T v * 0.125, head by head, [N, D, H, W] each and out.

    Without a softmax the order of the products is free: q (k^T v) needs L d^2 operations, not L^2 d.
    """
    q_NKdL, k_NKdL, v_NKdL = (x.flatten(2).unflatten(1, (heads, -1)) for x in (q, k, v))
    out_NKdL = (v_NKdL @ k_NKdL.transpose(-1, -2)) @ q_NKdL * SCALE
    return cast(Tensor, out_NKdL.flatten(1, 2).unflatten(2, v.shape[2:]))


def conv_norm(width_in: int, width: int, parts: Parts, kernel: int = 3, bias: bool = False) -> Layers:
    """Convolution of the same size, then a norm."""
    return Layers(nn.Conv2d(width_in, width, kernel, padding=kernel // 2, bias=bias), parts.norm(width))


def tokenizer_widths(in_channels: int, dim: int) -> list[int]:
    """Channels before, between and after the first four convolutions of a tokenizer."""
    return [in_channels, dim // 8, dim // 4, dim // 2, dim]


def poolings(patch_size: int) -> list[nn.Module]:
    """One pooling for each of the first four convolutions: the last log2(patch_size) of them halve the map.

    Raises:
        ValueError: `patch_size` is not 1, 2, 4, 8 or 16.
    """
    halvings = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}.get(patch_size)
    if halvings is None:
        raise Mistake(
            f"student.patch_size={patch_size} is not 1, 2, 4, 8 or 16",
            "the tokenizer halves the image up to four times",
            "student.patch_size=4",
        )
    return [nn.MaxPool2d(3, 2, padding=1) if i >= 4 - halvings else nn.Identity() for i in range(4)]


def check_heads(dim: int, heads: int) -> None:
    """Raise ValueError when the channels cannot be shared among the heads."""
    if dim % heads or dim % 8:
        raise Mistake(
            f"student.dim={dim} cannot be divided by 8 and by student.heads={heads}",
            "every head has the same number of channels, and the tokenizer starts with an eighth of them",
            "student.dim=384 student.heads=12",
        )


def unused(module: M) -> M:
    """Keep a module that the published network holds and never calls: it counts as parameters and is not trained."""
    return module.requires_grad_(False)


def start_small(modules: Iterable[nn.Module]) -> None:
    """Start weights as a truncated normal of deviation 0.02, and biases at 0."""
    for module in modules:
        nn.init.trunc_normal_(cast(Tensor, module.weight), std=0.02)
        if isinstance(module.bias, torch.Tensor):
            nn.init.zeros_(module.bias)
