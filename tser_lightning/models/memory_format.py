"""Memory format of a network's weights and feature maps: channels last where that is faster.

Legend: N image (or image and step), C channel, H, W.
Convolutions are fastest with channels last. On a processor those of small maps are not: they take up to twice the time
of contiguous ones, and their large weights, laid channels last, cost a copy of every gradient and twice the time of a
fused optimiser step. So they stay contiguous there, and their maps with them (`benchmarks/README.md`).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.kernels.packing import contiguous

SMALL = 4 * 4  # pixels
BLOCK = 8  # channels that a convolution takes at once on a processor with AVX2


def lay_out(net: nn.Module, images_NCHW: Tensor, device: torch.device, channels_last: bool = True) -> None:
    """Set the memory format of a network's weights; its numbers stay the same but for rounding.

    Args:
        net: The network; it is changed in place.
        images_NCHW: Images of the size that it will see. On a processor it is called on them once, in eval mode.
        device: The device that it will run on.
        channels_last: Whether channels lie together, where that is fastest; else every channel lies by itself.
    """
    net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for conv in _convolutions(net):
        _forget(conv)
        if not channels_last and conv.in_channels == 1:
            conv.register_forward_pre_hook(contiguous_input)
    if channels_last and device.type == "cpu":
        for conv in _of_small_maps(net, images_NCHW):
            conv.weight.data = conv.weight.data.contiguous()
            conv.register_forward_pre_hook(contiguous_input)
        for conv in filter(_overruns, _convolutions(net)):
            # A 1x1 kernel is contiguous either way: by its strides torch takes it for channels last.
            conv.weight.data = conv.weight.data.clone(memory_format=torch.contiguous_format)
            _forget(conv)
            conv.register_forward_pre_hook(contiguous_input)


def _convolutions(net: nn.Module) -> Iterator[nn.Conv2d]:
    return (module for module in net.modules() if isinstance(module, nn.Conv2d))


@torch.no_grad()
def _of_small_maps(net: nn.Module, images_NCHW: Tensor) -> list[nn.Conv2d]:
    """The convolutions whose outputs are small, found by a call."""
    largest: dict[nn.Conv2d, int] = {}

    def watch(conv: nn.Module, _: Any, y_NCHW: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        largest[conv] = max(largest.get(conv, 0), y_NCHW.shape[2:].numel())

    handles = [conv.register_forward_hook(watch) for conv in _convolutions(net)]
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        net(images_NCHW)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return [conv for conv, pixels in largest.items() if pixels <= SMALL]


def _overruns(conv: nn.Conv2d) -> bool:
    """Whether channels last, the backward pass of a convolution would write beyond its memory.

    torch 2.15 on an AMD EPYC with AVX2: a strided 1x1 convolution of fewer than 8 channels ends in "free(): invalid
    next size" or "corrupted double-linked list".
    """
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < BLOCK


def contiguous_input(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Make the input of a convolution contiguous: a forward pre-hook."""
    x_NCHW = contiguous(args[0])
    if x_NCHW.shape[1] == 1 and x_NCHW.stride(1) == 1 and x_NCHW[0, 0].numel() > 1:
        # Contiguous either way: by its strides torch takes a single channel for channels last.
        x_NCHW = x_NCHW.clone(memory_format=torch.contiguous_format)
    return (x_NCHW,)


def _forget(conv: nn.Conv2d) -> None:
    """Take back what an earlier call has done to a convolution."""
    for key in [key for key, hook in conv._forward_pre_hooks.items() if hook is contiguous_input]:
        del conv._forward_pre_hooks[key]
