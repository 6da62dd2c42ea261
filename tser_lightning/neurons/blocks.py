"""LIF in eager torch, block by block: every temporary stays in the processor's cache.

Legend: T time step, M everything but time, K neurons of one block; h, v, s as in `dynamics`.
The same numbers as `dynamics.forward_body` and `backward_body`, about five times faster on a CPU: a step costs a few
passes over a block that the cache holds, spikes are numbers from the start (boolean masks are slow on a CPU), and
buffers are written again and again. The way back is a linear recurrence,
    grad_h[t] = keep[t] grad_v[t] + grad_s[t] g[t],    grad_v[t-1] = decay grad_h[t],
with the surrogate gradient g and keep = 1 - s - h g (soft reset: 1 - v_threshold g; detached: without the term in g).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tser_lightning.neurons.dynamics import Decay, Dynamics, Gradients
from tser_lightning.neurons.surrogate import Scale

NEURONS_PER_THREAD = 1 << 15
"""Size of a block. Torch gives a thread no fewer elements than this, and 128 KiB fit any second-level cache."""


def blocks(neurons: int, device: torch.device) -> Iterator[slice]:
    """Cut M neurons into blocks; a device that is no CPU hides its memory's latency itself and gets one block."""
    size = NEURONS_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else max(neurons, 1)
    return (slice(first, min(first + size, neurons)) for first in range(0, neurons, size))


def forward_blocks(currents_TM: Tensor, v_M: Tensor, decay: Decay, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    spikes_TM = currents_TM.new_empty(currents_TM.shape)
    last_M = v_M.expand(currents_TM.shape[1:]).clone()
    for block in blocks(len(last_M), v_M.device):
        v = last_M[block]
        h = torch.empty_like(v)
        s = None if spikes_TM.dtype == v.dtype else torch.empty_like(v)
        for x, spikes in zip(currents_TM[:, block].unbind(0), spikes_TM[:, block].unbind(0), strict=True):
            _charge(x, v, decay, dynamics, h)
            _fire(h, dynamics, spikes if s is None else s, v)
            if s is not None:
                spikes.copy_(s)
    return spikes_TM, last_M


def backward_blocks(
    currents_TM: Tensor,
    v_M: Tensor,
    decay: Decay,
    dynamics: Dynamics,
    scale: Scale,
    grad_spikes_TM: Tensor,
    grad_v_M: Tensor,
    learn_decay: bool,
) -> Gradients:
    """Recompute the membrane from the input, then go back through all steps."""
    grad_currents_TM = currents_TM.new_empty(currents_TM.shape)
    grad_v_M = grad_v_M.expand(currents_TM.shape[1:]).to(v_M.dtype, copy=True)
    v_M = v_M.expand_as(grad_v_M)
    grad_decay = v_M.new_zeros(()) if learn_decay else None
    for block in blocks(len(v_M), v_M.device):
        x_TK = currents_TM[:, block]
        before_TK, h_TK, s_TK = _membranes(x_TK, v_M[block], decay, dynamics, learn_decay)
        g_TK = dynamics.gradient(h_TK - dynamics.v_threshold, scale)
        keep_TK = _kept(h_TK, s_TK, g_TK, dynamics)
        grad_h_TK = _back(g_TK.mul_(grad_spikes_TM[:, block]), keep_TK, grad_v_M[block], decay)
        if before_TK is not None and grad_decay is not None:
            grad_decay += (grad_h_TK * (before_TK - x_TK if dynamics.decay_input else before_TK)).sum()
        torch.mul(grad_h_TK, 1 - decay if dynamics.decay_input else 1, out=grad_currents_TM[:, block])
    return Gradients(grad_currents_TM, grad_v_M, grad_decay)


def _charge(x: Tensor, v: Tensor, decay: Decay, dynamics: Dynamics, h: Tensor) -> None:
    """Write the charged membrane into h; v is used up."""
    v.mul_(decay)
    if dynamics.decay_input:
        torch.mul(x.to(h.dtype), 1 - decay, out=h).add_(v)
    else:
        torch.add(v, x.to(h.dtype), out=h)


def _fire(h: Tensor, dynamics: Dynamics, s: Tensor, v: Tensor) -> None:
    """Write the spikes as 0 and 1 into s, the membrane after the reset into v."""
    torch.ge(h, dynamics.v_threshold, out=s)
    if dynamics.reset == "hard":
        torch.addcmul(h, h, s, value=-1, out=v)
    else:
        torch.add(h, s, alpha=-dynamics.v_threshold, out=v)


def _membranes(
    x_TK: Tensor, v_K: Tensor, decay: Decay, dynamics: Dynamics, keep_before: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """What a block went through: the membranes before each step, if they are to be kept, at firing, and the spikes."""
    h_TK = v_K.new_empty(x_TK.shape)
    s_TK, v = torch.empty_like(h_TK), v_K.clone()
    before_TK = torch.empty_like(h_TK) if keep_before else None
    for t in range(len(x_TK)):
        if before_TK is not None:
            before_TK[t].copy_(v)
        _charge(x_TK[t], v, decay, dynamics, h_TK[t])
        _fire(h_TK[t], dynamics, s_TK[t], v)
    return before_TK, h_TK, s_TK


def _kept(h_TK: Tensor, s_TK: Tensor, g_TK: Tensor, dynamics: Dynamics) -> Tensor:
    """The derivative of the membrane after the reset by the one before it; overwrites the spikes."""
    if dynamics.reset == "hard":
        keep_TK = s_TK.neg_().add_(1)
        return keep_TK if dynamics.detach_reset else keep_TK.addcmul_(h_TK, g_TK, value=-1)
    return s_TK.fill_(1) if dynamics.detach_reset else torch.mul(g_TK, -dynamics.v_threshold, out=s_TK).add_(1)


def _back(grad_h_TK: Tensor, keep_TK: Tensor, grad_v: Tensor, decay: Decay) -> Tensor:
    """Solve the recurrence from the last step to the first, in place; grad_v ends as the gradient of the first v."""
    for grad_h, keep in zip(reversed(grad_h_TK.unbind(0)), reversed(keep_TK.unbind(0)), strict=True):
        grad_h.addcmul_(keep, grad_v)
        torch.mul(grad_h, decay, out=grad_v)
    return grad_h_TK
