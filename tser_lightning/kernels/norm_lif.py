"""Batch normalisation, an optional residual and LIF neurons as one operation that keeps what the convolution gave.

Legend: T time step, B image, N = T*B folded (or B where all steps see the same image), C channel.
Apart, the norm keeps its input and the neurons theirs. Together they keep the norm's input, the residual (spikes that a
convolution keeps anyway, where it is the identity) and two numbers per channel; backward computes the rest again.
To torch they are one operator, `tser_lightning::norm_lif`; its passes are those of a backend, see `dispatch.Backend`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.kernels import backend_eager
from tser_lightning.kernels.batch_norm import BatchNorm, Form, Inputs, room
from tser_lightning.kernels.dispatch import backend_named, chosen
from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.kernels.operators import Call, apart, decode, differentiable, encode, gradients, operator
from tser_lightning.kernels.packing import is_spikes
from tser_lightning.kernels.reference import lif_reference
from tser_lightning.kernels.spec import NeuronSpec


def _forward(
    y: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    decay: Tensor | None,
    scale: Tensor | None,
    call: str,
) -> Tensor:
    how = decode(call)
    forward = backend_named(how.backend).norm_lif_forward
    inputs = Inputs(y, residual, weight, bias, mean, var)
    return forward(inputs, Form(*how.form), how.decay(decay), how.spec)


def _backward(
    grad_NCHW: Tensor,
    y: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    decay: Tensor | None,
    scale: Tensor | None,
    call: str,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Compute currents and membranes again, and go back; an empty tensor for what is not needed."""
    how = decode(call)
    backward = backend_named(how.backend).norm_lif_backward
    inputs = Inputs(y, residual, weight, bias, mean, var)
    found = backward(inputs, Form(*how.form), how.decay(decay), how.spec, how.scale(scale), grad_NCHW, needed)
    given = (y, residual, weight, bias, decay)
    return tuple(
        y.new_empty(0) if grad is None or value is None else grad.to(value.dtype)
        for grad, value in zip(found, given, strict=True)
    )


def _fake_forward(y: Tensor, *others: Any) -> Tensor:
    form = Form(*decode(others[-1]).form)
    return room(form.steps * form.images(y), y)


def _fake_backward(grad_NCHW: Tensor, y: Tensor, *others: Any) -> tuple[Tensor, ...]:
    residual, weight, bias, _, _, decay, *_, needed = others
    like = (room(len(y), y), None if residual is None else room(len(y), y), weight, bias, decay)
    return tuple(
        torch.empty_like(value) if need and value is not None else y.new_empty(0)
        for value, need in zip(like, needed, strict=True)
    )


_INPUTS = (
    "Tensor y, Tensor? residual, Tensor? weight, Tensor? bias, Tensor mean, Tensor var, "
    "Tensor? decay, Tensor? scale, str call"
)
_norm_lif = operator(f"norm_lif({_INPUTS}) -> Tensor", _forward, _fake_forward)
_norm_lif_backward = operator(
    f"norm_lif_backward(Tensor grad, {_INPUTS}, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    *tensors, ctx.call = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, ...]:
    kept = ctx.saved_tensors  # to be unpacked once: checkpointing recomputes for it
    wanted = ctx.needs_input_grad
    needed = [wanted[at] for at in (0, 1, 2, 3, 6)]
    if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
        y, residual, weight, bias, mean, var, decay, scale = kept
        how = decode(ctx.call)
        inputs = apart(y, residual, weight, bias, decay)
        found = _differentiable(inputs, needed, grad_NCHW, mean, var, scale, how)
    else:
        found = _norm_lif_backward(grad_NCHW, *kept, ctx.call, needed)
        found = [grad if need else None for grad, need in zip(found, needed, strict=True)]
    return *found[:4], None, None, found[4], None, None


_differentiable_norm_lif = differentiable(_norm_lif, _keep, _differentiate)


def _differentiable(
    inputs: Sequence[Any],
    needed: Sequence[bool],
    grad_NCHW: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor | None,
    how: Call,
) -> list[Tensor | None]:
    """The same gradients as a graph of plain operations."""
    y, residual, weight, bias, decay = inputs
    form = Form(*how.form)
    used = (None, None) if form.of_batch else (mean, var)
    out = F.batch_norm(y, used[0], used[1], weight, bias, form.of_batch, 0.0, form.eps)
    out = out if residual is None else out + residual
    spikes_TB, _ = lif_reference(form.over_time(out), None, how.decay(decay), how.scale(scale), how.spec)
    return gradients([spikes_TB.flatten(0, 1)], [grad_NCHW], inputs, needed)


def norm_lif(
    y_NCHW: Tensor,
    residual: Tensor | None,
    norm: BatchNorm,
    steps: int,
    static: bool,
    spec: NeuronSpec,
    decay: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Spikes of LIF neurons, at rest before the first step, that see norm(y) + residual.

    Args:
        y_NCHW: Output of a convolution, [T*B, C, H, W], or [B, C, H, W] where `static`.
        residual: Added after the norm; of the same shape.
        norm: Its numbers at this call.
        steps: T, the time steps.
        static: Whether all steps see the same images.
        spec: What the neurons are.
        decay: Learnt, a 0-dim tensor, in place of that of `spec`.
        scale: The surrogate's shape parameter, likewise.

    Returns:
        Spikes [T*B, C, H, W], in the layout and dtype of y.
    """
    call = encode(spec, chosen(spec, y_NCHW), steps, static, norm.of_batch, norm.eps)
    given = norm.weight, norm.bias, norm.mean, norm.var, decay, scale
    return is_spikes(_differentiable_norm_lif(y_NCHW, residual, *given, call))


def norm_lif_step(
    y_BCHW: Tensor,
    residual: Tensor | None,
    norm: BatchNorm,
    v_init: Tensor | None,
    spec: NeuronSpec,
    decay: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `norm_lif` in eager torch, no gradient wanted, from the membrane that the step before left.

    Args:
        y_BCHW: Output of a convolution.
        residual: Added after the norm; of the same shape.
        norm: Its numbers at this call.
        v_init: The membrane before this step, [B, C, H, W]; None: that of `spec`.
        spec: What the neurons are.
        decay: Learnt, a 0-dim tensor, in place of that of `spec`.

    Returns:
        Spikes, in the layout and dtype of y, and the membrane after this step, float32 or wider.
    """
    inputs = Inputs(y_BCHW, residual, norm.weight, norm.bias, norm.mean, norm.var)
    v = at_rest(y_BCHW, v_init, spec.v_init)
    leak = spec.decay if decay is None else decay
    return backend_eager.norm_lif_step(inputs, Form(1, False, norm.of_batch, norm.eps), v, leak, spec)
