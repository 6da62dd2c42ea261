"""The leaky integrate-and-fire neuron over all steps at once (Eq. 1-3 of the paper), behind one function.

Legend: T time step, B image, M everything but time, in the order in which it lies in memory.
One step, with the membrane v left by the step before:
    charge  h = decay v + (1 - decay) x    (Eq. 2; without `decay_input`: h = decay v + x)
    fire    s = 1 where h >= v_threshold, else 0
    reset   v = 0 where it fired, else h   (soft: h - v_threshold s)

A backend is a pair of bodies over [T, M] tensors, `Bodies`: a further one is one more entry in `BODIES`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tser_lightning.neurons.surrogate import Scale, surrogate_named

Reset = Literal["hard", "soft"]
Decay = float | Tensor


@dataclass(frozen=True)
class Dynamics:
    """The settings of a neuron that are not tensors; see `lif`."""

    decay_input: bool
    v_threshold: float
    reset: Reset
    detach_reset: bool
    gradient: Callable[[Tensor, Scale], Tensor]

    def charge(self, v: Tensor, x: Tensor, decay: Decay) -> Tensor:
        """Integrate one step."""
        return decay * v + (1 - decay) * x if self.decay_input else decay * v + x

    def settle(self, h: Tensor, fired: Tensor) -> Tensor:
        """Reset where it fired."""
        return h.masked_fill(fired, 0) if self.reset == "hard" else h - self.v_threshold * fired.to(h.dtype)


class Gradients(NamedTuple):
    """What a backward body returns; `decay` is 0 unless it is learnt."""

    currents: Tensor
    v_init: Tensor
    decay: Tensor


def forward_body(currents_TM: Tensor, v_M: Tensor, decay: Decay, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    spikes = []
    for x in currents_TM.unbind(0):
        h = dynamics.charge(v_M, x.to(v_M.dtype), decay)
        fired = h >= dynamics.v_threshold
        spikes.append(fired.to(currents_TM.dtype))
        v_M = dynamics.settle(h, fired)
    return torch.stack(spikes), v_M


def backward_body(
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
    steps = []
    for x in currents_TM.unbind(0):
        h = dynamics.charge(v_M, x.to(v_M.dtype), decay)
        steps.append((x, v_M, h))
        v_M = dynamics.settle(h, h >= dynamics.v_threshold)
    grads, grad_decay = [], v_M.new_zeros(())
    for (x, v, h), grad_spikes in zip(reversed(steps), reversed(grad_spikes_TM.unbind(0)), strict=True):
        grad_h = _back_through_firing(h, grad_spikes.to(h.dtype), grad_v_M, scale, dynamics)
        if learn_decay:
            grad_decay = grad_decay + (grad_h * (v - x if dynamics.decay_input else v)).sum()
        grads.append((grad_h * (1 - decay) if dynamics.decay_input else grad_h).to(x.dtype))
        grad_v_M = grad_h * decay
    return Gradients(torch.stack(grads[::-1]), grad_v_M, grad_decay)


def _back_through_firing(h: Tensor, grad_s: Tensor, grad_v: Tensor, scale: Scale, dynamics: Dynamics) -> Tensor:
    hard = dynamics.reset == "hard"
    if not dynamics.detach_reset:
        grad_s = grad_s - grad_v * (h if hard else dynamics.v_threshold)
    kept = grad_v.masked_fill(h >= dynamics.v_threshold, 0) if hard else grad_v
    return kept + grad_s * dynamics.gradient(h - dynamics.v_threshold, scale)


class Bodies(NamedTuple):
    """How a backend computes the two passes; signatures of `forward_body` and `backward_body`."""

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., Gradients]


BODIES = {"eager": Bodies(forward_body, backward_body)}
BACKENDS = ("auto", "reference", *BODIES)


class _LIF(torch.autograd.Function):
    """Keeps its inputs and nothing else: backward computes the membrane of every step again."""

    @staticmethod
    def forward(
        ctx: Any,
        currents_TM: Tensor,
        v_M: Tensor | None,
        decay: Decay,
        scale: Scale,
        dynamics: Dynamics,
        bodies: Bodies,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.dynamics, ctx.bodies = dynamics, bodies
        ctx.floats = [None if isinstance(value, Tensor) else value for value in (decay, scale)]
        ctx.save_for_backward(currents_TM, v_M, *(v if isinstance(v, Tensor) else None for v in (decay, scale)))
        return bodies.forward(currents_TM, _start(currents_TM, v_M), decay, dynamics)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        currents_TM, v_M, *tensors = ctx.saved_tensors
        decay, scale = (
            number if tensor is None else tensor for number, tensor in zip(ctx.floats, tensors, strict=True)
        )
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
            outputs = lif_reference(currents_TM, v_M, decay, scale, ctx.dynamics)
            return *_autograd(outputs, grads, (currents_TM, v_M, decay), needed), None, None, None
        start = _start(currents_TM, v_M)
        grad_spikes_TM, grad_v_M = (start.new_zeros(()) if grad is None else grad for grad in grads)
        found = ctx.bodies.backward(
            currents_TM,
            start,
            decay,
            ctx.dynamics,
            scale,
            grad_spikes_TM.expand_as(currents_TM),
            grad_v_M,
            needed[2],
        )
        grad_v = found.v_init.sum_to_size(v_M.shape).to(v_M.dtype) if needed[1] else None
        return found.currents, grad_v, found.decay.to(decay.dtype) if needed[2] else None, None, None, None


def _autograd(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None], inputs: Sequence[Any], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of the needed inputs as a graph of their own; None for the others."""
    given = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
    wanted = [value for value, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad([o for o, _ in given], wanted, [g for _, g in given], create_graph=True))
    return [next(found) if need else None for need in needed]


def _start(currents: Tensor, v_init: Tensor | None) -> Tensor:
    """The membrane before the first step in the precision in which it is kept: float32 or wider."""
    dtype = torch.promote_types(currents.dtype, torch.float32)
    return currents.new_zeros((), dtype=dtype) if v_init is None else v_init.to(dtype)


class _Fire(torch.autograd.Function):
    """Theta(u), whose derivative is the surrogate; can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, scale: Scale, gradient: Callable[[Tensor, Scale], Tensor]) -> Tensor:
        ctx.save_for_backward(u, scale if isinstance(scale, Tensor) else None)
        ctx.scale, ctx.gradient = None if isinstance(scale, Tensor) else scale, gradient
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        u, scale = ctx.saved_tensors
        return grad * ctx.gradient(u, ctx.scale if scale is None else scale), None, None


def fire(u: Tensor, surrogate: str = "sigmoid", scale: Scale | None = None) -> Tensor:
    """Spike where u >= 0; in backward the derivative is the surrogate's.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        surrogate: A name in `SURROGATES`.
        scale: Its shape parameter; None: its default.
    """
    known = surrogate_named(surrogate)
    spikes: Tensor = _Fire.apply(u, known.scale if scale is None else scale, known.gradient)
    return spikes


def lif_reference(
    currents_TB: Tensor, v_init: Tensor | None, decay: Decay, scale: Scale, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """The same neuron as plain operations, left to autograd.

    The oracle of the other backends, what torch.compile and exporters trace, and the way to second derivatives.
    """
    v = _start(currents_TB, v_init)
    spikes = []
    for x in currents_TB.unbind(0):
        h = dynamics.charge(v, x.to(v.dtype), decay)
        s = _Fire.apply(h - dynamics.v_threshold, scale, dynamics.gradient)
        spikes.append(s.to(currents_TB.dtype))
        s = s.detach() if dynamics.detach_reset else s
        v = h * (1 - s) if dynamics.reset == "hard" else h - dynamics.v_threshold * s
    return torch.stack(spikes), v


def lif(
    currents_TB: Tensor,
    *,
    decay: Decay = 0.5,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    reset: Reset = "hard",
    detach_reset: bool = False,
    surrogate: str = "sigmoid",
    surrogate_scale: Scale | None = None,
    v_init: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run leaky integrate-and-fire neurons over time.

    Args:
        currents_TB: [T, ...], T >= 1, in any layout. An expanded time axis (stride 0: one image for all steps) is read
            as it is, without a copy.
        decay: What is left of the membrane after one step; a 0-dim tensor is learnt.
        decay_input: Charge to decay v + (1 - decay) x (Eq. 2), else to decay v + x.
        v_threshold: Fires at this membrane and above.
        reset: To 0 ("hard") or by the threshold ("soft").
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
        surrogate: A name in `SURROGATES`.
        surrogate_scale: Its shape parameter, a number or a 0-dim tensor; None: its default.
        v_init: The membrane before the first step, broadcast to [...]; None: 0.
        backend: "eager", "reference" (see `lif_reference`), or "auto": the best for the device.

    Returns:
        The spikes [T, ...], in the layout and dtype of the currents, and the last membrane [...], float32 or wider.

    Raises:
        ValueError: An unknown reset, surrogate or backend.
    """
    check_choices(reset, backend)
    known = surrogate_named(surrogate)
    scale = known.scale if surrogate_scale is None else surrogate_scale
    dynamics = Dynamics(decay_input, v_threshold, reset, detach_reset, known.gradient)
    if backend == "reference" or torch.compiler.is_compiling():
        return lif_reference(currents_TB, v_init, decay, scale, dynamics)
    bodies = BODIES["eager" if backend == "auto" else backend]
    return _in_memory_order(currents_TB, v_init, lambda x, v: _LIF.apply(x, v, decay, scale, dynamics, bodies))


def check_choices(reset: str, backend: str) -> None:
    """Raise ValueError for a reset or a backend that does not exist."""
    if reset not in ("hard", "soft"):
        raise ValueError(f"reset={reset!r} is neither hard nor soft")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not one of {', '.join(BACKENDS)}")


def _in_memory_order(
    currents_TB: Tensor,
    v_init: Tensor | None,
    run: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Run on a [T, M] view of the currents, whatever their layout, and give the results that layout."""
    order = sorted(range(1, currents_TB.ndim), key=currents_TB.stride, reverse=True)
    stored = currents_TB.permute(0, *order)
    if v_init is not None and v_init.ndim > 0:
        v_init = v_init.expand(currents_TB.shape[1:]).permute([d - 1 for d in order]).reshape(-1)
    spikes_TM, v_M = run(stored.reshape(len(stored), math.prod(stored.shape[1:])), v_init)
    back = [order.index(d) for d in range(1, currents_TB.ndim)]
    spikes = spikes_TM.view(stored.shape).permute(0, *(d + 1 for d in back))
    return spikes, v_M.view(stored.shape[1:]).permute(back)
