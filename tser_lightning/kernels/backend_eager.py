"""LIF in eager torch, block by block: every temporary stays in the processor's cache. A norm before it is torch's own.

Legend: T time step, M everything but time, K neurons of one block; h, v, s as in `dynamics`.
The same numbers as `dynamics.forward_body` and `backward_body`, about five times faster on a CPU: a step costs a few
passes over a block that the cache holds, spikes are numbers from the start (boolean masks are slow on a CPU), and
buffers are written again and again. The way back is a linear recurrence,
    grad_h[t] = keep[t] grad_v[t] + grad_s[t] g[t],    grad_v[t-1] = decay grad_h[t],
with the surrogate gradient g and keep = 1 - s - h g (soft reset: 1 - v_threshold g; detached: without the term in g).
With a delayed reset keep = 1, and the decay of the second is less by v_threshold g[t-1].
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.kernels.batch_norm import Form, Inputs, NormGradients, through_norm
from tser_lightning.kernels.dynamics import Gradients, at_rest
from tser_lightning.kernels.layout import MemoryLayout
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale

NEURONS_PER_THREAD = 1 << 16
"""Size of a block: 256 KiB a step. Smaller ones cost more calls, larger ones leave the second-level cache."""


def blocks(tensor: Tensor) -> Iterator[slice]:
    """Cut the leading axis, neurons [M] or images [B, ...], into blocks.

    A device that is no CPU hides its memory's latency itself and gets one block.
    """
    rows = len(tensor)
    step = max(1, rows * _room(tensor) // max(1, tensor.numel()))
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _room(tensor: Tensor) -> int:
    """Neurons that a block may hold."""
    return NEURONS_PER_THREAD * torch.get_num_threads() if tensor.device.type == "cpu" else tensor.numel()


def lif_forward(currents_TM: Tensor, v_M: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    spikes_TM = currents_TM.new_empty(currents_TM.shape)
    last_M = v_M.expand(currents_TM.shape[1:]).clone()
    for block in blocks(last_M):
        v = last_M[block]
        h = torch.empty_like(v)
        for x, spikes in zip(currents_TM[:, block].unbind(0), spikes_TM[:, block].unbind(0), strict=True):
            _step(x, v, decay, spec, h, spikes, v)
    return spikes_TM, last_M


def lif_step(x: Tensor, v: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through one step [B, ...] in any layout, no gradient wanted: the numbers of `lif_forward`.

    Nothing is rearranged, which would be two thirds of the time of a small step.
    """
    spikes, after = torch.empty_like(x), torch.empty_like(x, dtype=v.dtype)
    v = v if v.shape == x.shape else v.expand(x.shape)
    for x_B, v_B, spikes_B, after_B in _in_blocks(x, v, spikes, after):
        _step(x_B, v_B, decay, spec, after_B, spikes_B, after_B)
    return spikes, after


def _in_blocks(*tensors: Tensor) -> Iterator[Sequence[Tensor]]:
    """Go through tensors [B, ...] of one shape, a block of all of them at a time."""
    if tensors[0].numel() <= _room(tensors[0]):
        yield tensors  # spares a small step a view of each
    else:
        yield from ([tensor[some] for tensor in tensors] for some in blocks(tensors[0]))


def _step(x: Tensor, v: Tensor, decay: Decay, spec: NeuronSpec, h: Tensor, spikes: Tensor, after: Tensor) -> None:
    """Write the charged membrane into h, the spikes, and the membrane after firing.

    h may be x, and the last may be v or h.
    """
    fired = spikes if spikes.dtype == h.dtype else torch.empty_like(h)
    _charge(x, v, decay, spec, h, fired)
    torch.ge(h, spec.v_threshold, out=fired)
    _settle(h, fired, spec, after)
    if fired is not spikes:
        spikes.copy_(fired)


def lif_backward(
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
    grad_currents_TM = currents_TM.new_empty(currents_TM.shape)
    grad_v_M = grad_v_M.expand(currents_TM.shape[1:]).to(v_M.dtype, copy=True)
    v_M = v_M.expand_as(grad_v_M)
    grad_decay = v_M.new_zeros(()) if learn_decay else None
    in_place = grad_currents_TM.dtype == v_M.dtype
    for block in blocks(v_M):
        x_TK, grad_x_TK = currents_TM[:, block], grad_currents_TM[:, block]
        before_TK, h_TK, keep_TK = _membranes(x_TK, v_M[block], decay, spec, learn_decay)
        g_TK = spec.gradient(h_TK - spec.v_threshold, scale)
        if spec.reset == "soft_delayed":
            _leaks(v_M[block], g_TK, decay, scale, spec, keep_TK)
        else:
            _through_reset(h_TK, g_TK, spec, keep_TK)
        grad_h_TK = torch.mul(g_TK, grad_spikes_TM[:, block], out=grad_x_TK if in_place else None)
        _back(grad_h_TK, keep_TK, grad_v_M[block], decay, spec)
        if before_TK is not None and grad_decay is not None:
            grad_decay += (grad_h_TK * (before_TK - x_TK if spec.decay_input else before_TK)).sum()
        if spec.decay_input or not in_place:
            torch.mul(grad_h_TK, 1 - decay if spec.decay_input else 1, out=grad_x_TK)
    return Gradients(grad_currents_TM, grad_v_M, grad_decay)


def _charge(x: Tensor, v: Tensor, decay: Decay, spec: NeuronSpec, h: Tensor, spare: Tensor) -> None:
    """Write the charged membrane into h; `spare` is used up."""
    x = x.to(h.dtype)
    late = torch.ge(v, spec.v_threshold).to(h.dtype) if spec.reset == "soft_delayed" else None
    if spec.decay_input:
        x = torch.mul(x, 1 - decay, out=h)
    # One operation rounds once, two round twice: the same only where a product is exact, as with a power of two.
    if not isinstance(decay, Tensor) and math.frexp(decay)[0] in (0.0, 0.5):
        torch.add(x, v, alpha=decay, out=h)
    else:
        torch.add(x, torch.mul(v, decay, out=spare), out=h)
    if late is not None:
        h.sub_(late, alpha=spec.v_threshold)


def _settle(h: Tensor, fired: Tensor, spec: NeuronSpec, v: Tensor) -> None:
    """Write the membrane after firing into v."""
    if spec.reset == "hard":
        torch.addcmul(h, h, fired, value=-1, out=v)
    elif spec.reset == "soft":
        torch.add(h, fired, alpha=-spec.v_threshold, out=v)
    else:
        v.copy_(h)


def _membranes(
    x_TK: Tensor, v_K: Tensor, decay: Decay, spec: NeuronSpec, keep_before: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """What a block went through.

    Returns:
        The membranes before each step, if they are to be kept; those at firing; and what the reset leaves of them where
        it does not depend on the membrane: 0 where a neuron fired and 1 elsewhere (soft reset: 1).
    """
    h_TK = v_K.new_empty(x_TK.shape)
    keep_TK, v = torch.empty_like(h_TK), v_K.clone()
    before_TK = torch.empty_like(h_TK) if keep_before else None
    for t, (x, h, keep) in enumerate(zip(x_TK.unbind(0), h_TK.unbind(0), keep_TK.unbind(0), strict=True)):
        if before_TK is not None:
            before_TK[t].copy_(v)
        _charge(x, v, decay, spec, h, v)
        if spec.reset == "hard":
            torch.lt(h, spec.v_threshold, out=keep)
            torch.mul(h, keep, out=v)
        else:
            torch.ge(h, spec.v_threshold, out=keep)
            _settle(h, keep, spec, v)
    return before_TK, h_TK, keep_TK if spec.reset == "hard" else keep_TK.fill_(1)


def _through_reset(h_TK: Tensor, g_TK: Tensor, spec: NeuronSpec, keep_TK: Tensor) -> None:
    """Make of what the reset leaves the derivative of the membrane after it by the one before it."""
    if spec.detach_reset:
        return
    if spec.reset == "hard":
        keep_TK.addcmul_(h_TK, g_TK, value=-1)
    else:
        keep_TK.add_(g_TK, alpha=-spec.v_threshold)


def _leaks(v_K: Tensor, g_TK: Tensor, decay: Decay, scale: Scale, spec: NeuronSpec, leak_TK: Tensor) -> None:
    """Write the derivative of the membrane at firing by that of the step before, where the reset comes late."""
    leak_TK.copy_(torch.as_tensor(decay, dtype=leak_TK.dtype))
    if not spec.detach_reset:
        leak_TK[1:].sub_(g_TK[:-1], alpha=spec.v_threshold)
        leak_TK[0].sub_(spec.gradient(v_K - spec.v_threshold, scale), alpha=spec.v_threshold)


def _back(grad_h_TK: Tensor, keep_TK: Tensor, grad_v: Tensor, decay: Decay, spec: NeuronSpec) -> None:
    """Solve the recurrence from the last step to the first, in place; grad_v ends as the gradient of the first v."""
    if spec.reset == "soft_delayed":
        for grad_h, leak in zip(reversed(grad_h_TK.unbind(0)), reversed(keep_TK.unbind(0)), strict=True):
            torch.mul(grad_h.add_(grad_v), leak, out=grad_v)
        return
    for grad_h, keep in zip(reversed(grad_h_TK.unbind(0)), reversed(keep_TK.unbind(0)), strict=True):
        grad_h.addcmul_(keep, grad_v)
        torch.mul(grad_h, decay, out=grad_v)


def norm_lif_forward(inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec) -> Tensor:
    """Give the spikes [T*B, C, H, W]."""
    currents_TB = form.over_time(_currents(inputs, form))
    layout = MemoryLayout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    spikes_TM, _ = lif_forward(x_TM, at_rest(x_TM, None, spec.v_init), decay, spec)
    return layout.unmatrix(spikes_TM).flatten(0, 1)


def norm_lif_step(inputs: Inputs, form: Form, v: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through one step, no gradient wanted: the numbers of `norm_lif_forward`, from a membrane [B, C, H, W].

    Some images after the others, so that their currents stay in the cache.
    """
    spikes, after = torch.empty_like(inputs.y), torch.empty_like(inputs.y, dtype=v.dtype)
    v = v if v.shape == after.shape else v.expand_as(after)
    added = [] if inputs.residual is None else [inputs.residual]
    for y_B, v_B, spikes_B, after_B, *added_B in _in_blocks(inputs.y, v, spikes, after, *added):
        x_B = _currents(inputs._replace(y=y_B, residual=added_B[0] if added_B else None), form)
        h_B = x_B if x_B.dtype == v.dtype else torch.empty_like(x_B, dtype=v.dtype)
        _step(x_B, v_B, decay, spec, h_B, spikes_B, after_B)
    return spikes, after


def norm_lif_backward(
    inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec, scale: Scale, grad_NCHW: Tensor, needed: Sequence[bool]
) -> NormGradients:
    """Give the gradients that are needed."""
    currents_TB = form.over_time(_currents(inputs, form))
    layout = MemoryLayout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    grad_TM = layout.matrix(grad_NCHW.unflatten(0, (form.steps, -1)))
    start, no_grad = at_rest(x_TM, None, spec.v_init), at_rest(x_TM, None)
    found = lif_backward(x_TM, start, decay, spec, scale, grad_TM, no_grad, needed[4])
    del currents_TB, x_TM, grad_TM
    grad_TB = layout.unmatrix(found.currents)
    grad_currents = grad_TB.sum(0) if form.static else grad_TB.flatten(0, 1)
    return through_norm(inputs, form, grad_currents, found.decay, needed)


def _currents(inputs: Inputs, form: Form) -> Tensor:
    """What reaches the neurons, in memory of its own."""
    out = F.batch_norm(inputs.y, inputs.mean, inputs.var, inputs.weight, inputs.bias, False, 0.0, form.eps)
    return out if inputs.residual is None else out.add_(inputs.residual)
