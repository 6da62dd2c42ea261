"""One LIF step after the other, forward and backward, as plain functions that a compiler can fuse.

Legend: T time step, M everything but time, in the order in which it lies in memory.
One step is that of `spec.NeuronSpec`: charge h, fire s, reset to v.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale


def integrate(spec: NeuronSpec, v: Tensor, x: Tensor, decay: Decay) -> Tensor:
    """What the membrane v and the current x come to in one step, without a delayed reset."""
    return decay * v + (1 - decay) * x if spec.decay_input else decay * v + x


def charge(spec: NeuronSpec, v: Tensor, x: Tensor, decay: Decay) -> Tensor:
    """Give the membrane at firing."""
    h = integrate(spec, v, x, decay)
    return h - spec.v_threshold * (v >= spec.v_threshold).to(h.dtype) if spec.reset == "soft_delayed" else h


def settle(spec: NeuronSpec, h: Tensor, fired: Tensor) -> Tensor:
    """Give the membrane after firing."""
    if spec.reset == "hard":
        return torch.where(fired, 0.0, h)
    return h - spec.v_threshold * fired.to(h.dtype) if spec.reset == "soft" else h


class Gradients(NamedTuple):
    """What a backward body returns; `decay` is None unless it is learnt."""

    currents: Tensor
    v_init: Tensor
    decay: Tensor | None


def forward_body(currents_TM: Tensor, v_M: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    spikes = []
    for x in currents_TM.unbind(0):
        h = charge(spec, v_M, x.to(v_M.dtype), decay)
        fired = h >= spec.v_threshold
        spikes.append(fired.to(currents_TM.dtype))
        v_M = settle(spec, h, fired)
    return torch.stack(spikes), v_M


def backward_body(
    currents_TM: Tensor,
    v_M: Tensor,
    decay: Decay,
    spec: NeuronSpec,
    scale: Scale,
    grad_spikes_TM: Tensor,
    grad_v_M: Tensor,
    learn_decay: bool,
) -> Gradients:
    """Recompute the membrane from the input, then go back through all steps."""
    steps = []
    for x in currents_TM.unbind(0):
        h = charge(spec, v_M, x.to(v_M.dtype), decay)
        fired = h >= spec.v_threshold
        steps.append((x, v_M, h, fired))
        v_M = settle(spec, h, fired)
    grads, grad_decay = [], v_M.new_zeros(()) if learn_decay else None
    for (x, v, h, fired), grad_spikes in zip(reversed(steps), reversed(grad_spikes_TM.unbind(0)), strict=True):
        grad_h = _back_through_firing(h, fired, grad_spikes.to(h.dtype), grad_v_M, scale, spec)
        if grad_decay is not None:
            grad_decay = grad_decay + (grad_h * (v - x if spec.decay_input else v)).sum()
        grads.append((grad_h * (1 - decay) if spec.decay_input else grad_h).to(x.dtype))
        grad_v_M = _back_through_charge(v, grad_h, decay, scale, spec)
    return Gradients(torch.stack(grads[::-1]), grad_v_M, grad_decay)


def _back_through_firing(
    h: Tensor, fired: Tensor, grad_s: Tensor, grad_v: Tensor, scale: Scale, spec: NeuronSpec
) -> Tensor:
    hard = spec.reset == "hard"
    if not spec.detach_reset and spec.reset != "soft_delayed":
        grad_s = grad_s - grad_v * (h if hard else spec.v_threshold)
    kept = torch.where(fired, 0.0, grad_v) if hard else grad_v
    return torch.addcmul(kept, grad_s, spec.gradient(h - spec.v_threshold, scale))


def _back_through_charge(v: Tensor, grad_h: Tensor, decay: Decay, scale: Scale, spec: NeuronSpec) -> Tensor:
    if spec.reset != "soft_delayed" or spec.detach_reset:
        return grad_h * decay
    return grad_h * (decay - spec.v_threshold * spec.gradient(v - spec.v_threshold, scale))


def at_rest(currents: Tensor, v: Tensor | None, start: float = 0.0) -> Tensor:
    """The membrane before the first step (None: `start`) in the precision in which it is kept: float32 or wider."""
    dtype = torch.promote_types(currents.dtype, torch.float32)
    return currents.new_full((), start, dtype=dtype) if v is None else v.to(dtype)
