"""A frozen network made ready to answer fast, by what changes no answer but for rounding."""

import copy
import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tser_lightning.models.memory_format import lay_out

log = logging.getLogger("tser_lightning")


@torch.no_grad()
def for_inference(net: nn.Module, images_BCHW: Tensor, channels_last: bool = True) -> nn.Module:
    """Copy a network in eval mode, with batch norms folded into the convolutions before them and laid out.

    Args:
        net: Left as it is.
        images_BCHW: Some images of the right size; on them the copy must answer as the network does.
        channels_last: How its maps lie in memory; see `lay_out`.

    Returns:
        The copy; without folding where the network does not run a norm straight after its convolution.
    """
    expected = net(images_BCHW)
    folded = copy.deepcopy(net)
    for conv, norm in pairs(folded, images_BCHW):
        owner, _, name = conv.rpartition(".")
        fused = fuse_conv_bn_eval(
            cast(nn.Conv2d, folded.get_submodule(conv)), cast(nn.BatchNorm2d, folded.get_submodule(norm))
        )
        setattr(folded.get_submodule(owner), name, fused)
        owner, _, name = norm.rpartition(".")
        setattr(folded.get_submodule(owner), name, nn.Identity())
    if not torch.allclose(folded(images_BCHW), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        log.info("the norms of the teacher cannot be folded into its convolutions: it runs as it is")
        folded = copy.deepcopy(net)
    folded.requires_grad_(False)
    lay_out(folded, images_BCHW, images_BCHW.device, channels_last)
    return folded


def pairs(net: nn.Module, images_BCHW: Tensor) -> list[tuple[str, str]]:
    """Find the convolutions whose output goes into a batch norm, by watching one call; names of both."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # tensors are held, so that no identity is given away again
    found: list[tuple[str, str]] = []
    handles = []

    def watch(name: str, module: nn.Module) -> Any:
        def leave(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                outputs[id(output)] = (name, output)
            elif id(args[0]) in outputs:
                found.append((outputs[id(args[0])][0], name))

        return leave

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) or type(module) is nn.BatchNorm2d:
            handles.append(module.register_forward_hook(watch(name, module)))
    net(images_BCHW)
    for handle in handles:
        handle.remove()
    once = [pair for pair in found if sum(pair[0] == other[0] or pair[1] == other[1] for other in found) == 1]
    return once
