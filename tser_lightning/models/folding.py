"""Batch norms folded into the convolutions before them: in eval mode both are one convolution."""

import copy
import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tser_lightning.neurons.clock import OverTime

log = logging.getLogger("tser_lightning")


@torch.no_grad()
def fold_norms(net: nn.Module, images: Tensor) -> nn.Module:
    """Copy a network with its batch norms folded into the convolutions before them.

    The copy is for answering alone: it gives the numbers of the network in eval mode but for rounding. A spike whose
    membrane lies within rounding of the threshold may flip.

    Args:
        net: A student or an ANN in eval mode; left as it is.
        images: Some that it takes; on them the copy must answer as the network does.

    Returns:
        The copy. Norms that do not follow straight after a convolution, and norms other than `BatchNorm2d`, stay; so
        do all of them where the answers would differ, because the output of a convolution goes elsewhere too.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from tser_lightning.models import resnet_small
        >>> net = resnet_small(10, 1).eval()
        >>> any(isinstance(each, nn.BatchNorm2d) for each in fold_norms(net, torch.rand(2, 1, 8, 8)).modules())
        False
    """
    folded = copy.deepcopy(net)
    for conv, norm in norms_after_convolutions(folded, images):
        owner, _, name = conv.rpartition(".")
        fused = fuse_conv_bn_eval(
            cast(nn.Conv2d, folded.get_submodule(conv)), cast(nn.BatchNorm2d, folded.get_submodule(norm))
        )
        setattr(folded.get_submodule(owner), name, fused)
        owner, _, name = norm.rpartition(".")
        setattr(folded.get_submodule(owner), name, nn.Identity())
    if not _alike(folded, net, images):
        log.info("the norms of a network cannot be folded into its convolutions: it runs as it is")
        folded = copy.deepcopy(net)
    return folded.requires_grad_(False)


def _alike(one: nn.Module, other: nn.Module, images: Tensor) -> bool:
    """Tell whether two networks give the same logits; spiking ones in float64, where rounding flips no spike."""
    if any(isinstance(module, OverTime) for module in one.modules()):
        one, other, images = copy.deepcopy(one).double(), copy.deepcopy(other).double(), images.double()
    expected = other(images)
    return torch.allclose(one(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def norms_after_convolutions(net: nn.Module, images: Tensor) -> list[tuple[str, str]]:
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
    net(images)
    for handle in handles:
        handle.remove()
    return [pair for pair in found if sum(pair[0] == other[0] or pair[1] == other[1] for other in found) == 1]
