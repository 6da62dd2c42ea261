"""What the spiking transformers share: tokens as maps, attention without softmax, the frame of the network.

Legend: N time and image folded, D channels, H, W tokens, L = H*W, K heads, d = D / K.
Tokens stay a map [N, D, H, W] from the first convolution to the head: a linear layer is a convolution with a 1x1
kernel, norms and neurons are those of every other network, and nothing is transposed on the way.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from math import ceil
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.fusing import Layers
from tser_lightning.models.network import Network, Parts, four_stages

SCALE = 0.125  # of q k^T v in all of these networks, whatever their width
ATTENTION_THRESHOLD = 0.5  # of the neuron behind attention

M = TypeVar("M", bound=nn.Module)


class TokenClassifier(Network, ABC):
    """The mean over tokens, then a linear head; a subclass makes the tokens.

    The publications average over time before their head; a linear head commutes with that mean, so that the mean of
    the logits here is what they compute.
    """

    penultimate = "head"
    head_act: nn.Module
    head: nn.Module

    def add_head(self, dim: int, num_classes: int, head_act: nn.Module | None) -> None:
        """Make the head, behind all that the network has.

        Args:
            dim: D of the tokens.
            num_classes: Outputs of the head, C.
            head_act: Applied to the mean over tokens [N, D, 1, 1].
        """
        self.head_act = head_act or nn.Identity()
        self.head = nn.Linear(dim, num_classes)

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> tokens [N, D, H', W']."""

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> logits [N, num_classes]."""
        return cast(Tensor, self.head(self.head_act(self.tokens(x).mean((2, 3), keepdim=True)).flatten(1)))


class Transformer(TokenClassifier):
    """Tokenizer and blocks.

    Args:
        tokenizer: images [N, in_channels, H, W] -> tokens [N, D, H', W'].
        blocks: [N, D, H', W'] -> [N, D, H', W'] each.
        dim: D, channels of a token.
        num_classes: Outputs of the head.
        head_act: Activation before the head; None for none.
    """

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
        self.add_head(dim, num_classes, head_act)
        self.stages = {f"stage{i}": f"block.{ceil(i * len(blocks) / 4) - 1}" for i in range(1, 5)}

    def tokens(self, images: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> tokens [N, D, H', W']."""
        return cast(Tensor, self.block(self.patch_embed(images)))


class Pyramid(TokenClassifier):
    """Stages of a downsampling and blocks.

    Args:
        stages: The downsampling of each stage, [N, ...] -> tokens [N, D, H', W'], and its blocks.
        dim: D of the last stage.
        num_classes: Outputs of the head.
        head_act: Activation before the head; None for none.
    """

    def __init__(
        self,
        stages: Sequence[tuple[nn.Module, Sequence[nn.Module]]],
        dim: int,
        num_classes: int,
        head_act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.depth = len(stages)
        for number, (downsampling, blocks) in enumerate(stages, start=1):
            self.add_module(f"patch_embed{number}", downsampling)
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
        self.add_head(dim, num_classes, head_act)
        self.stages = four_stages("patch_embed1", [f"stage{number}" for number in range(1, self.depth + 1)])

    def tokens(self, images: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] -> tokens [N, D, H', W'] of the last stage."""
        x = images
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"stage{number}")(self.get_submodule(f"patch_embed{number}")(x))
        return x


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Spiking self-attention q k^T v * 0.125, head by head, [N, D, H, W] each and out.

    Without a softmax the order of the products is free: q (k^T v) needs L d^2 operations, not L^2 d.
    """
    q_NKdL, k_NKdL, v_NKdL = (x.flatten(2).unflatten(1, (heads, -1)) for x in (q, k, v))
    out_NKdL = (v_NKdL @ k_NKdL.transpose(-1, -2)) @ q_NKdL * SCALE
    return cast(Tensor, out_NKdL.flatten(1, 2).unflatten(2, v.shape[2:]))


class SelfAttention(nn.Module):
    """q, k, v = act(norm(conv)), q k^T v * 0.125, act at 0.5, then the projection; [N, D, H, W] -> [N, D, H, W].

    Args:
        dim: D, channels of a token.
        heads: Heads of attention.
        parts: Activation and norm.
        preact: Whether an activation comes before queries, keys and values and none after the projection, as in a
            network whose stream is real-valued; otherwise none before and one after.
        qkv_bias: Whether queries, keys and values have a bias before their norm.
    """

    def __init__(self, dim: int, heads: int, parts: Parts, *, preact: bool, qkv_bias: bool = False) -> None:
        super().__init__()
        self.act = parts.activation(dim) if preact else nn.Identity()
        self.q, self.k, self.v = (firing(dim, dim, parts, bias=qkv_bias) for _ in range(3))
        self.attn_act = parts.activation(dim, v_threshold=ATTENTION_THRESHOLD)
        self.proj = (conv_norm if preact else firing)(dim, dim, parts, kernel=1, bias=True)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Apply self-attention to tokens [N, D, H, W]."""
        x = self.act(x)
        return cast(Tensor, self.proj(self.attn_act(attend(self.q(x), self.k(x), self.v(x), self.heads))))


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each added to the stream."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn, self.mlp = attention, mlp

    def forward(self, x: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        x = x + self.attn(x)
        return x + cast(Tensor, self.mlp(x))


def preact_mlp(dim: int, parts: Parts) -> Layers:
    """Act-conv-norm twice with four times the width: what is added to a stream of real numbers."""
    return Layers(
        parts.activation(dim),
        conv_norm(dim, 4 * dim, parts, kernel=1, bias=True),
        parts.activation(4 * dim),
        conv_norm(4 * dim, dim, parts, kernel=1, bias=True),
    )


def firing_mlp(dim: int, parts: Parts) -> nn.Sequential:
    """Conv-norm-act twice with four times the width: what is added to a stream of spikes."""
    return nn.Sequential(firing(dim, 4 * dim, parts, bias=True), firing(4 * dim, dim, parts, bias=True))


def firing(width_in: int, width: int, parts: Parts, kernel: int = 1, bias: bool = False, stride: int = 1) -> Layers:
    """Convolution, norm, activation."""
    return conv_norm(width_in, width, parts, kernel, bias, stride).append(parts.activation(width))


def conv_norm(width_in: int, width: int, parts: Parts, kernel: int = 3, bias: bool = False, stride: int = 1) -> Layers:
    """Convolution that makes the map smaller by its stride alone, then a norm."""
    return Layers(nn.Conv2d(width_in, width, kernel, stride, kernel // 2, bias=bias), parts.norm(width))


def tokenizer_widths(in_channels: int, dim: int) -> list[int]:
    """Channels before, between and after the first four convolutions of a tokenizer."""
    return [in_channels, dim // 8, dim // 4, dim // 2, dim]


def poolings(patch_size: int) -> list[nn.Module]:
    """One pooling for each of the first four convolutions: the last log2(patch_size) of them halve the map.

    Raises:
        UsageError: `patch_size` is not 1, 2, 4, 8 or 16.
    """
    halvings = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}.get(patch_size)
    if halvings is None:
        raise UsageError(
            f"patch_size={patch_size} is not 1, 2, 4, 8 or 16",
            "the tokenizer halves the image up to four times",
            "patch_size=4",
        )
    return [nn.MaxPool2d(3, 2, padding=1) if i >= 4 - halvings else nn.Identity() for i in range(4)]


def check_heads(dim: int, heads: int) -> None:
    """Raise a UsageError when the channels cannot be shared among the heads."""
    if dim % heads or dim % 8:
        raise UsageError(
            f"dim={dim} cannot be divided by 8 and by heads={heads}",
            "every head has the same number of channels, and the tokenizer starts with an eighth of them",
            "dim=384 heads=12",
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
