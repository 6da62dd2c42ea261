"""What one call of one layer costs: the counting rules, layer by layer.

A cost is a dict of sums over everything that passed through a layer, numbers or integer tensors on its device:
    ops           operations of the paper's convention: kernel MACs and one per bias; 2 per value of a norm (1 if
                  it has no weights); 1 per input value of a pooling (the rules of the public syops counter)
    ops_folded    operations of the folded convention: kernel MACs; nothing for a BatchNorm, a bias or a pooling
    inputs, nonzero, not_binary, not_integer   how many input values there are, and of which kind
    spikes        how many spikes the input is, if it is: k is k of them where neurons put out numbers of spikes
    acs           accumulations if the input is spikes: one for each weight that each spike meets, padding left out
and of a product of two activations, which may both be spikes, in place of the last:
    right_not_binary, right_not_integer        kinds of the values of the right factor
    acs, acs_right, acs_both                   accumulations if the left, the right or both factors are spikes
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

Cost = dict[str, int | Tensor]
Sums = dict[str, int]

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
POOLS = (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd)


def kind_of(module: nn.Module) -> str | None:
    """conv, linear, norm or pool; None for a module that costs nothing by these rules or is no layer."""
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, NORMS):
        return "norm"
    return "pool" if isinstance(module, POOLS) else None


def cost_of(module: nn.Module, x: Tensor, y: Tensor, counts: bool = False) -> Cost:
    """The cost of one call of a layer that `kind_of` knows.

    Args:
        module: A layer that `kind_of` knows.
        x: The layer's input.
        y: The layer's output.
        counts: Whether a number stands for so many spikes.
    """
    if isinstance(module, _ConvNd):
        return _conv(module, x, y, counts)
    if isinstance(module, nn.Linear):
        return _linear(module, x, y, counts)
    if isinstance(module, NORMS):
        return _norm(module, y)
    # A pooling to the size that is already there does nothing (global pooling after VGG's last one on 32x32 images).
    ops = 0 if x.shape == y.shape else x.numel()
    return {"ops": ops, "ops_folded": 0, **_values(x), "spikes": _spikes(x, counts).sum(), "acs": 0}


def cost_of_product(left: Tensor, right: Tensor, counts: bool = False) -> Cost:
    """The cost of left [..., M, K] @ right [..., K, N]."""
    inner, columns, rows = left.shape[-1], right.shape[-1], left.shape[-2]
    batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = left.expand(*batch, rows, inner), right.expand(*batch, inner, columns)
    ops = left.numel() * columns
    values = _values(right)
    return {
        "ops": ops,
        "ops_folded": ops,
        **_values(left),
        "right_not_binary": values["not_binary"],
        "right_not_integer": values["not_integer"],
        "acs": _spikes(left, counts).sum() * columns,
        "acs_right": _spikes(right, counts).sum() * rows,
        "acs_both": (_spikes(left, counts).sum(-2) * _spikes(right, counts).sum(-1)).sum(),
    }


def _spikes(x: Tensor, counts: bool) -> Tensor:
    """How many spikes each value is."""
    return x.abs().nan_to_num(0, 0, 0).long() if counts else x != 0


def _values(x: Tensor) -> Cost:
    return {
        "inputs": x.numel(),
        "nonzero": x.count_nonzero(),
        "not_binary": ((x != 0) & (x != 1)).sum(),
        "not_integer": (x != x.round()).sum(),
    }


def _conv(module: _ConvNd, x: Tensor, y: Tensor, counts: bool) -> Cost:
    macs = y.numel() * module.weight[0].numel()
    bias = 0 if module.bias is None else y.numel()
    x = x.flatten(0, -2 - len(module.kernel_size))  # where time is an axis of its own
    reach = _reach(module.kernel_size, module.stride, module.padding, module.dilation, x.shape[2:], x.device)
    spikes = _spikes(x, counts).sum((0, 1))
    met = (spikes * reach).sum() * (module.out_channels // module.groups)
    return {"ops": macs + bias, "ops_folded": macs, **_values(x), "spikes": spikes.sum(), "acs": met}


@lru_cache(maxsize=256)
def _reach(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    size: torch.Size,
    device: torch.device,
) -> Tensor:
    """How many kernel places meet each place of the input: the gradient of the sum of a convolution with ones."""
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        probe = torch.ones(1, 1, *size, requires_grad=True)
        convolve(probe, torch.ones(1, 1, *kernel), None, stride, padding, dilation).sum().backward()
    assert probe.grad is not None
    return probe.grad[0, 0].long().to(device)


def _linear(module: nn.Linear, x: Tensor, y: Tensor, counts: bool) -> Cost:
    macs = y.numel() * module.in_features
    bias = 0 if module.bias is None else y.numel()
    spikes = _spikes(x, counts).sum()
    acs = spikes * module.out_features
    return {"ops": macs + bias, "ops_folded": macs, **_values(x), "spikes": spikes, "acs": acs}


def _norm(module: nn.Module, y: Tensor) -> Cost:
    # Of the output: a norm with weights per step turns one image for all steps into one per step.
    affine = getattr(module, "affine", None) or getattr(module, "elementwise_affine", False)
    ops = y.numel() * (2 if affine else 1)
    return {"ops": ops, "ops_folded": 0 if isinstance(module, _BatchNorm) else ops}
