"""Batch normalisation, an optional residual and LIF neurons as one operation that keeps what the convolution gave.

Legend: T time step, B image, N = T*B folded (or B where all steps see the same image), C channel.
Apart, the norm keeps its input and the neurons theirs. Together they keep the norm's input, the residual (spikes that a
convolution keeps anyway, where it is the identity) and two numbers per channel; backward computes the rest again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.neurons.backends import Bodies
from tser_lightning.neurons.dynamics import Decay, Dynamics, at_rest
from tser_lightning.neurons.layout import Layout
from tser_lightning.neurons.lif import apart, gradients, lif_reference
from tser_lightning.neurons.packing import is_spikes
from tser_lightning.neurons.surrogate import Scale


class Statistics(NamedTuple):
    """What a batch normalisation subtracts and divides by.

    Attributes:
        mean: [C], of the batch, or the running one.
        var: [C], biased, of the batch, or the running one.
        of_batch: Whether they belong to the batch, so that gradients flow through them.
        eps: Added to the variance.
    """

    mean: Tensor
    var: Tensor
    of_batch: bool
    eps: float


@torch.no_grad()
def statistics(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> Statistics:
    """Give the statistics that `norm` would use, and bring its running ones up to date as its forward does."""
    of_batch = norm.training or norm.running_mean is None
    if not of_batch:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return Statistics(norm.running_mean.clone(), norm.running_var.clone(), False, norm.eps)
    momentum = norm.momentum
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if momentum is None else momentum
    running = norm.running_mean, norm.running_var
    if running[0] is None:  # the kernel takes its precision from them
        wide = torch.promote_types(y_NCHW.dtype, torch.float32)
        running = y_NCHW.new_zeros(y_NCHW.shape[1], dtype=wide), y_NCHW.new_ones(y_NCHW.shape[1], dtype=wide)
    mean_C, var_C = torch.batch_norm_update_stats(y_NCHW, *running, momentum or 0.0)
    return Statistics(mean_C, var_C, True, norm.eps)


class Settings(NamedTuple):
    """What is no tensor: T, how neurons behave, who computes them, how wide the surrogate is."""

    steps: int
    static: bool
    dynamics: Dynamics
    bodies: Bodies
    scale: Scale


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        y_NCHW: Tensor,
        residual: Tensor | None,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        decay: Decay,
        stats: Statistics,
        settings: Settings,
    ) -> Tensor:
        learnt = decay if isinstance(decay, Tensor) else None
        ctx.decay, ctx.of_batch, ctx.eps, ctx.settings = decay if learnt is None else None, *stats[2:], settings
        ctx.save_for_backward(y_NCHW, residual, weight_C, bias_C, learnt, stats.mean, stats.var)
        currents_TB = over_time(currents(y_NCHW, residual, weight_C, bias_C, stats), settings)
        layout = Layout(currents_TB)
        x_TM = layout.matrix(currents_TB)
        spikes_TM, _ = settings.bodies.forward(x_TM, at_rest(x_TM, None), decay, settings.dynamics)
        return layout.unmatrix(spikes_TM).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, ...]:
        y_NCHW, residual, weight_C, bias_C, learnt, *moments = ctx.saved_tensors
        stats, settings = Statistics(moments[0], moments[1], ctx.of_batch, ctx.eps), ctx.settings
        decay = ctx.decay if learnt is None else learnt
        needed = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
            inputs = apart(y_NCHW, residual, weight_C, bias_C, decay)
            return *_differentiable(inputs, needed, grad_NCHW, stats, settings), None, None
        currents_NCHW = currents(y_NCHW, residual, weight_C, bias_C, stats)
        grad_currents, grad_decay = _back_through_time(currents_NCHW, grad_NCHW, decay, needed[4], settings)
        del currents_NCHW
        grads = torch.ops.aten.native_batch_norm_backward(
            grad_currents,
            y_NCHW,
            weight_C,
            stats.mean,
            stats.var,
            stats.mean,
            (stats.var + stats.eps).sqrt().reciprocal(),
            stats.of_batch,
            stats.eps,
            [needed[0], needed[2], needed[3]],
        )
        return grads[0], grad_currents if needed[1] else None, grads[1], grads[2], grad_decay, None, None


def currents(
    y_NCHW: Tensor, residual: Tensor | None, weight_C: Tensor | None, bias_C: Tensor | None, stats: Statistics
) -> Tensor:
    """What reaches the neurons, in memory of its own."""
    out = F.batch_norm(y_NCHW, stats.mean, stats.var, weight_C, bias_C, False, 0.0, stats.eps)
    return out if residual is None else out.add_(residual)


def over_time(folded: Tensor, settings: Settings) -> Tensor:
    """[N, ...] as [T, B, ...]; one image for all steps is expanded."""
    if settings.static:
        return folded.expand(settings.steps, *folded.shape)
    unfolded: Tensor = folded.unflatten(0, (settings.steps, -1))
    return unfolded


def _back_through_time(
    currents_NCHW: Tensor, grad_NCHW: Tensor, decay: Decay, learn_decay: bool, settings: Settings
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the currents, in their layout, and of the decay."""
    currents_TB = over_time(currents_NCHW, settings)
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    found = settings.bodies.backward(
        x_TM,
        at_rest(x_TM, None),
        decay,
        settings.dynamics,
        settings.scale,
        layout.matrix(grad_NCHW.unflatten(0, (settings.steps, -1))),
        x_TM.new_zeros((), dtype=torch.promote_types(x_TM.dtype, torch.float32)),
        learn_decay,
    )
    grad_TB = layout.unmatrix(found.currents)
    folded = grad_TB.sum(0) if settings.static else grad_TB.flatten(0, 1)
    return folded, found.decay.to(decay.dtype) if isinstance(decay, Tensor) and found.decay is not None else None


def _differentiable(
    inputs: Sequence[Any], needed: Sequence[bool], grad_NCHW: Tensor, stats: Statistics, settings: Settings
) -> list[Tensor | None]:
    """The same gradients as a graph of plain operations."""
    y_NCHW, residual, weight_C, bias_C, decay = inputs
    mean, var = (None, None) if stats.of_batch else (stats.mean, stats.var)
    out = F.batch_norm(y_NCHW, mean, var, weight_C, bias_C, stats.of_batch, 0.0, stats.eps)
    out = out if residual is None else out + residual
    spikes_TB, _ = lif_reference(over_time(out, settings), None, decay, settings.scale, settings.dynamics)
    return gradients([spikes_TB.flatten(0, 1)], [grad_NCHW], inputs, needed)


def norm_lif(y_NCHW: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d, decay: Decay, settings: Settings) -> Tensor:
    """Spikes of LIF neurons, at rest before the first step, that see norm(y) + residual.

    Args:
        y_NCHW: Output of a convolution, [T*B, C, H, W], or [B, C, H, W] where `settings.static`.
        residual: Added after the norm; of the same shape.
        norm: Its statistics are brought up to date as in its own forward.
        decay: What is left of the membrane after one step; a 0-dim tensor is learnt.
        settings: See `Settings`.

    Returns:
        Spikes [T*B, C, H, W], in the layout and dtype of the norm's output.
    """
    stats = statistics(norm, y_NCHW)
    spikes: Tensor = _NormLIF.apply(y_NCHW, residual, norm.weight, norm.bias, decay, stats, settings)
    return is_spikes(spikes)
