# mypy: ignore-errors
# ruff: noqa: RUF005
# What follows is compiled by Triton, which has types and syntax of its own.
"""The kernels of neurons alone, and one step of a neuron, which those behind a norm (`triton_norm_kernels`) share.

Triton's interpreter runs them on a CPU (TRITON_INTERPRET=1), its compiler builds them for a GPU that is not there: the
tests do both, since each accepts errors that the other finds.
"""

import triton
import triton.language as tl


@triton.jit
def step(v, x, decay, gain, threshold, RESET: tl.constexpr):
    """Charge, fire, reset: the membrane at firing, the spikes, and the membrane after; RESET as in `NeuronSpec`."""
    h = decay * v + gain * x
    if RESET == "soft_delayed":
        h -= tl.where(v >= threshold, threshold, 0.0)
    s = h >= threshold
    if RESET == "hard":
        v = tl.where(s, 0.0, h)
    elif RESET == "soft":
        v = h - tl.where(s, threshold, 0.0)
    else:
        v = h
    return h, s, v


@triton.jit
def step_back(h, grad_s, grad_v, threshold, scale, RESET: tl.constexpr, DETACH: tl.constexpr, SURROGATE: tl.constexpr):
    """Gradient of the membrane at firing by those of the spikes and of the membrane after; SURROGATE is a function."""
    g = SURROGATE(h - threshold, scale)
    if not DETACH:
        if RESET == "hard":
            grad_s -= grad_v * h
        elif RESET == "soft":
            grad_s -= grad_v * threshold
    kept = tl.where(h >= threshold, 0.0, grad_v) if RESET == "hard" else grad_v
    return kept + grad_s * g


@triton.jit
def charge_back(v, grad_h, decay, threshold, scale, RESET: tl.constexpr, DETACH: tl.constexpr, SURROGATE: tl.constexpr):
    """Gradient of the membrane v before a step by that of the membrane at firing."""
    grad_v = grad_h * decay
    if RESET == "soft_delayed" and not DETACH:
        grad_v -= grad_h * threshold * SURROGATE(v - threshold, scale)
    return grad_v


@triton.jit
def _wide(number):
    """Give a number in 64 bits: that of all neurons at all steps may need more than 32."""
    return number + tl.full([], 0, tl.int64)


@triton.jit
def forward_kernel(
    x_ptr, v_ptr, decay, spikes_ptr, last_ptr, M, x_step, threshold,
    T: tl.constexpr, OWN_V: tl.constexpr, LEARNT: tl.constexpr, DECAY_INPUT: tl.constexpr, RESET: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """All steps of BLOCK neurons."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < M
    x_step, step_M = _wide(x_step), _wide(M)
    if LEARNT:
        decay = tl.load(decay).to(tl.float32)
    gain = 1.0 - decay if DECAY_INPUT else 1.0
    v = tl.load(v_ptr + at, mask=inside, other=0.0) if OWN_V else tl.load(v_ptr) + tl.zeros([BLOCK], tl.float32)
    for t in tl.static_range(T):
        x = tl.load(x_ptr + t * x_step + at, mask=inside, other=0.0).to(tl.float32)
        _, s, v = step(v, x, decay, gain, threshold, RESET)
        tl.store(spikes_ptr + t * step_M + at, tl.where(s, 1.0, 0.0).to(spikes_ptr.dtype.element_ty), mask=inside)
    tl.store(last_ptr + at, v, mask=inside)


@triton.jit
def backward_kernel(
    x_ptr, v_ptr, decay, scale, grad_ptr, grad_last_ptr,
    grad_x_ptr, grad_v_ptr, grad_decay_ptr, M, x_step, grad_step, threshold,
    T: tl.constexpr, OWN_V: tl.constexpr, HAS_LAST: tl.constexpr, LEARNT: tl.constexpr, LEARNT_SCALE: tl.constexpr,
    LEARN_DECAY: tl.constexpr, DECAY_INPUT: tl.constexpr, RESET: tl.constexpr, DETACH: tl.constexpr,
    SURROGATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All steps forward in registers, then back."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < M
    x_step, grad_step, step_M = _wide(x_step), _wide(grad_step), _wide(M)
    if LEARNT:
        decay = tl.load(decay).to(tl.float32)
    if LEARNT_SCALE:
        scale = tl.load(scale).to(tl.float32)
    gain = 1.0 - decay if DECAY_INPUT else 1.0
    v = tl.load(v_ptr + at, mask=inside, other=0.0) if OWN_V else tl.load(v_ptr) + tl.zeros([BLOCK], tl.float32)
    hs, befores, drives = (), (), ()
    for t in tl.static_range(T):
        x = tl.load(x_ptr + t * x_step + at, mask=inside, other=0.0).to(tl.float32)
        befores = befores + (v,)
        if LEARN_DECAY:
            drives = drives + ((v - x) if DECAY_INPUT else v,)
        h, _, v = step(v, x, decay, gain, threshold, RESET)
        hs = hs + (h,)
    grad_v = tl.load(grad_last_ptr + at, mask=inside, other=0.0) if HAS_LAST else tl.zeros([BLOCK], tl.float32)
    grad_decay = tl.zeros([BLOCK], tl.float32)
    for back in tl.static_range(T):
        grad_s = tl.load(grad_ptr + (T - 1 - back) * grad_step + at, mask=inside, other=0.0).to(tl.float32)
        grad_h = step_back(hs[T - 1 - back], grad_s, grad_v, threshold, scale, RESET, DETACH, SURROGATE)
        if LEARN_DECAY:
            grad_decay += grad_h * drives[T - 1 - back]
        tl.store(
            grad_x_ptr + (T - 1 - back) * step_M + at, (grad_h * gain).to(grad_x_ptr.dtype.element_ty), mask=inside
        )
        grad_v = charge_back(befores[T - 1 - back], grad_h, decay, threshold, scale, RESET, DETACH, SURROGATE)
    if OWN_V:
        tl.store(grad_v_ptr + at, grad_v, mask=inside)
    else:
        tl.store(grad_v_ptr + tl.program_id(0), tl.sum(tl.where(inside, grad_v, 0.0)))
    if LEARN_DECAY:
        tl.store(grad_decay_ptr + tl.program_id(0), tl.sum(tl.where(inside, grad_decay, 0.0)))
