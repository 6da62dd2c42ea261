"""Leaky integrate-and-fire neurons over all steps at once (Eq. 1-3 of the paper), behind one function.

Legend: T time step, B image, M everything but time, in the order in which it lies in memory.
A backend is a pair of functions over [T, M] tensors: see `backends`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tser_lightning.neurons.backends import BACKENDS, Bodies, bodies_for
from tser_lightning.neurons.dynamics import Decay, Dynamics, Reset, at_rest
from tser_lightning.neurons.layout import Layout
from tser_lightning.neurons.packing import is_spikes
from tser_lightning.neurons.surrogate import Scale, differentiable_step, surrogate_named


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
        return bodies.forward(currents_TM, at_rest(currents_TM, v_M), decay, dynamics)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        currents_TM, v_M, *tensors = ctx.saved_tensors
        decay, scale = (
            number if tensor is None else tensor for number, tensor in zip(ctx.floats, tensors, strict=True)
        )
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
            inputs = apart(currents_TM, v_M, decay)
            outputs = lif_reference(inputs[0], inputs[1], inputs[2], scale, ctx.dynamics)
            return *gradients(outputs, grads, inputs, needed), None, None, None
        start = at_rest(currents_TM, v_M)
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
        return found.currents, grad_v, None if found.decay is None else found.decay.to(decay.dtype), None, None, None


def apart(*inputs: Any) -> list[Any]:
    """Views of tensors: what was computed from one of them does not depend on its view, so no path counts twice."""
    return [value.view_as(value) if isinstance(value, Tensor) else value for value in inputs]


def gradients(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None], inputs: Sequence[Any], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of the needed inputs as a graph of their own; None for the others."""
    given = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
    wanted = [value for value, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad([o for o, _ in given], wanted, [g for _, g in given], create_graph=True))
    return [next(found) if need else None for need in needed]


def lif_reference(
    currents_TB: Tensor, v_init: Tensor | None, decay: Decay, scale: Scale, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """The same neuron as plain operations, left to autograd.

    The oracle of the other backends, what torch.compile and exporters trace, and the way to second derivatives.
    """
    v = at_rest(currents_TB, v_init)
    spikes = []
    for x in currents_TB.unbind(0):
        h = dynamics.charge(v, x.to(v.dtype), decay)
        s = differentiable_step(h - dynamics.v_threshold, scale, dynamics.gradient)
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
        backend: See `backends`; "reference" is `lif_reference`.

    Returns:
        The spikes [T, ...], in the layout and dtype of the currents, and the last membrane [...], float32 or wider.

    Raises:
        ValueError: An unknown reset, surrogate or backend.
    """
    check_choices(reset, backend)
    dynamics, scale = resolved(decay_input, v_threshold, reset, detach_reset, surrogate, surrogate_scale)
    if backend == "reference" or torch.compiler.is_compiling():
        return lif_reference(currents_TB, v_init, decay, scale, dynamics)
    bodies = bodies_for(backend, currents_TB)
    layout = Layout(currents_TB)
    if v_init is not None and v_init.ndim > 0:
        v_init = layout.vector(v_init)
    spikes_TM, v_M = _LIF.apply(layout.matrix(currents_TB), v_init, decay, scale, dynamics, bodies)
    return is_spikes(layout.unmatrix(spikes_TM)), layout.unmatrix(v_M)


def resolved(
    decay_input: bool,
    v_threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: str,
    surrogate_scale: Scale | None,
) -> tuple[Dynamics, Scale]:
    """Look the surrogate up: the settings of `lif` as its backends take them."""
    known = surrogate_named(surrogate)
    scale = known.scale if surrogate_scale is None else surrogate_scale
    return Dynamics(decay_input, v_threshold, reset, detach_reset, known.gradient), scale


def check_choices(reset: str, backend: str) -> None:
    """Raise ValueError for a reset or a backend that does not exist."""
    if reset not in ("hard", "soft"):
        raise ValueError(f"reset={reset!r} is neither hard nor soft")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not one of {', '.join(BACKENDS)}")
