"""Leaky integrate-and-fire neurons over all steps at once (Eq. 1-3 of the paper), behind one function.

Legend: T time step, B image, M everything but time, in the order in which it lies in memory.
A backend computes it over [T, M] tensors: see `backends`. To torch all of them are one operator.
"""

from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.backends import BACKENDS, backend_named, chosen
from tser_lightning.kernels.dynamics import Decay, Dynamics, Reset, at_rest
from tser_lightning.kernels.layout import Layout
from tser_lightning.kernels.operators import apart, differentiable, gradients, operator, read, written
from tser_lightning.kernels.packing import is_spikes
from tser_lightning.kernels.reference import lif_reference
from tser_lightning.kernels.surrogate import Scale, surrogate_named


def _forward(
    currents_TB: Tensor, v_init: Tensor | None, decay: Tensor | None, scale: Tensor | None, recipe: str
) -> tuple[Tensor, Tensor]:
    how = read(recipe)
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    spikes_TM, v_M = backend_named(how.backend).lif_forward(
        x_TM, _start(x_TM, v_init, layout), how.full(decay, scale)[0], how.dynamics
    )
    return layout.unmatrix(spikes_TM), layout.unmatrix(v_M)


def _backward(
    currents_TB: Tensor,
    v_init: Tensor | None,
    decay: Tensor | None,
    scale: Tensor | None,
    recipe: str,
    grad_spikes_TB: Tensor | None,
    grad_v: Tensor | None,
    learn_decay: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the membrane of every step again, and go back; an empty tensor where nothing is to be had."""
    how = read(recipe)
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    start = _start(x_TM, v_init, layout)
    none = start.new_zeros(())
    found = backend_named(how.backend).lif_backward(
        x_TM,
        start,
        how.full(decay, scale)[0],
        how.dynamics,
        how.full(decay, scale)[1],
        none.expand_as(x_TM) if grad_spikes_TB is None else layout.matrix(grad_spikes_TB),
        none if grad_v is None else layout.vector(grad_v),
        learn_decay,
    )
    back_v, back_decay = x_TM.new_empty(0), x_TM.new_empty(0)
    if v_init is not None:
        back_v = found.v_init if v_init.ndim == 0 else layout.unmatrix(found.v_init)
        back_v = back_v.sum_to_size(v_init.shape).to(v_init.dtype)
    if decay is not None and found.decay is not None:
        back_decay = found.decay.to(decay.dtype)
    return layout.unmatrix(found.currents), back_v, back_decay


def _start(x_TM: Tensor, v_init: Tensor | None, layout: Layout) -> Tensor:
    """The membrane before the first step, [M] or one number for all."""
    return at_rest(x_TM, v_init if v_init is None or v_init.ndim == 0 else layout.vector(v_init))


def _fake_forward(currents_TB: Tensor, v_init: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    last_M = x_TM.new_empty(x_TM.shape[1:], dtype=_start(x_TM, v_init, layout).dtype)
    return layout.unmatrix(x_TM.new_empty(x_TM.shape)), layout.unmatrix(last_M)


def _fake_backward(
    currents_TB: Tensor, v_init: Tensor | None, decay: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _fake_forward(currents_TB, v_init)[0],
        currents_TB.new_empty(0) if v_init is None else v_init.new_empty(v_init.shape),
        decay.new_empty(()) if decay is not None and others[-1] else currents_TB.new_empty(0),
    )


_INPUTS = "Tensor currents, Tensor? v_init, Tensor? decay, Tensor? scale, str recipe"
_lif = operator(f"lif({_INPUTS}) -> (Tensor, Tensor)", _forward, _fake_forward)
_lif_backward = operator(
    f"lif_backward({_INPUTS}, Tensor? grad_spikes, Tensor? grad_v, bool learn_decay) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    """Keep the inputs and nothing else: backward computes the membrane of every step again."""
    ctx.set_materialize_grads(False)
    *tensors, ctx.recipe = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
        *inputs, scale = ctx.saved_tensors
        inputs, how = apart(*inputs), read(ctx.recipe)
        outputs = lif_reference(inputs[0], inputs[1], *how.full(inputs[2], scale), how.dynamics)
        return *gradients(outputs, grads, inputs, needed), None, None
    found = _lif_backward(*ctx.saved_tensors, ctx.recipe, *grads, needed[2])
    return *(grad if need else None for grad, need in zip(found, needed, strict=True)), None, None


_differentiable_lif = differentiable(_lif, _keep, _differentiate)


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
    backend = chosen(backend, currents_TB, surrogate)
    if backend == "reference":
        return lif_reference(currents_TB, v_init, decay, scale, dynamics)
    recipe, learnt = written(dynamics, backend, decay, scale)
    spikes_TB, v = _differentiable_lif(currents_TB, v_init, *learnt, recipe)
    return is_spikes(spikes_TB), v


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
    return Dynamics(decay_input, float(v_threshold), reset, detach_reset, surrogate), scale


def check_choices(reset: str, backend: str) -> None:
    """Raise ValueError for a reset or a backend that does not exist."""
    if reset not in ("hard", "soft"):
        raise ValueError(f"reset={reset!r} is neither hard nor soft")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not one of {', '.join(BACKENDS)}")
