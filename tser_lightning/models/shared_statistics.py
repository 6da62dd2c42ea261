"""Batch normalisation over the images of all processes that train together, on any device.

Legend: N images of this process, C channel, P process.
torch's `SyncBatchNorm` is for GPUs alone and takes the place of a plain BatchNorm. Here every norm that calls torch's
`batch_norm` stays what it is (BatchNorm1d to 3d, tdBN, TEBN, MPBN, a user's own): inside `shared_statistics` the call
takes its mean and variance over all processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_of_process = F.batch_norm


@contextmanager
def shared_statistics() -> Iterator[None]:
    """Let batch normalisation in train mode see the batch of all processes as one.

    All processes have to make the same calls in the same order. The backward pass belongs inside too, where something
    may be computed again in it. Running statistics are updated as those of the whole batch, with its unbiased variance.
    torch's function is replaced for that time: a torch function mode would not be in force in the backward pass.
    """
    before = F.batch_norm
    F.batch_norm = _batch_norm
    try:
        yield
    finally:
        F.batch_norm = before


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what `F.batch_norm` does, [N, C, ...], with the statistics of all processes where they are of the batch."""
    if not training:
        return _of_process(input, running_mean, running_var, weight, bias, False, momentum, eps)
    mean_C, var_C, count = _moments(input.detach())
    if count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.size()}")
    with torch.no_grad():
        for running, now in ((running_mean, mean_C), (running_var, var_C * (count / (count - 1)))):
            if running is not None:
                running.lerp_(now.to(running.dtype), momentum)
    wide = torch.promote_types(input.dtype, torch.float32)
    out: Tensor = _Normalise.apply(input, weight, bias, mean_C.to(wide), var_C.to(wide), count, eps)
    return out


def _axes(x: Tensor) -> list[int]:
    """All but the channels'."""
    return [axis for axis in range(x.ndim) if axis != 1]


def _across(values_C: Tensor, x: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (x.ndim - 2))


def _moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance [C] in float64, and over how many values.

    Each process finds its own first: a difference of large sums would lose the variance's digits.
    Source: Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979, Eq. 2.1.
    """
    count = x.numel() // x.shape[1]
    var, mean = torch.var_mean(x.double() if x.dtype == torch.float64 else x.float(), _axes(x), correction=0)
    own = torch.cat([mean.double(), var.double(), mean.new_full((1,), count, dtype=torch.float64)])
    all_P = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(all_P, own)
    numbers = torch.stack(all_P)
    counts_P = numbers[:, -1:]
    means_PC, vars_PC = numbers[:, :-1].chunk(2, dim=1)
    total = counts_P.sum()
    mean_C = (counts_P * means_PC).sum(0) / total
    var_C = (counts_P * (vars_PC + (means_PC - mean_C).square())).sum(0) / total
    return mean_C, var_C, int(total)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and variance being functions of the x of all processes.

    The gradients of weight and bias are those of this process's images: DDP averages them as all others.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean_C: Tensor,
        var_C: Tensor,
        count: int,
        eps: float,
    ) -> Tensor:
        """Normalise; keep x alone."""
        ctx.count, ctx.has = count, (weight is not None, bias is not None)
        ctx.save_for_backward(x, weight, mean_C, (var_C + eps).rsqrt())
        return _of_process(x, mean_C, var_C, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through mean and variance too, whose gradients come from all processes."""
        x, weight, mean_C, inverse_C = ctx.saved_tensors
        wide = grad.to(mean_C.dtype)
        normed = (x.to(mean_C.dtype) - _across(mean_C, x)) * _across(inverse_C, x)
        own = torch.stack([wide.sum(_axes(x)), (wide * normed).sum(_axes(x))])
        of_all = own.clone()
        dist.all_reduce(of_all)
        bias_C, weight_C = of_all / ctx.count
        scale_C = inverse_C if weight is None else inverse_C * weight
        grad_x = (wide - _across(bias_C, x) - normed * _across(weight_C, x)) * _across(scale_C, x)
        grad_weight = own[1].to(weight.dtype) if ctx.has[0] else None
        grad_bias = own[0] if ctx.has[1] else None
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None, None
