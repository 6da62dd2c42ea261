"""Leaky integrate-and-fire neurons over all steps at once (Eq. 1-3 of the paper).

Legend: T time step, B image, M everything but time, in the order in which it lies in memory.
A backend computes it over [T, M] tensors: see `dispatch.Backend`. To torch all of them are one operator.
"""

from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.backend_eager import lif_step
from tser_lightning.kernels.dispatch import backend_named, chosen
from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.kernels.layout import MemoryLayout
from tser_lightning.kernels.operators import Call, apart, decode, differentiable, encode, gradients, operator
from tser_lightning.kernels.packing import is_spikes
from tser_lightning.kernels.reference import lif_reference
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale


def _forward(
    currents_TB: Tensor, v_init: Tensor | None, decay: Tensor | None, scale: Tensor | None, call: str
) -> tuple[Tensor, Tensor]:
    how = decode(call)
    layout = MemoryLayout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    start = _start(x_TM, v_init, layout, how.spec.v_init)
    spikes_TM, v_M = backend_named(how.backend).lif_forward(x_TM, start, how.decay(decay), how.spec)
    return layout.unmatrix(spikes_TM), layout.unmatrix(v_M)


def _backward(
    currents_TB: Tensor,
    v_init: Tensor | None,
    decay: Tensor | None,
    scale: Tensor | None,
    call: str,
    grad_spikes_TB: Tensor | None,
    grad_v: Tensor | None,
    learn_decay: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the membrane of every step again, and go back; an empty tensor where nothing is to be had."""
    how = decode(call)
    layout = MemoryLayout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    start = _start(x_TM, v_init, layout, how.spec.v_init)
    none = start.new_zeros(())
    found = backend_named(how.backend).lif_backward(
        x_TM,
        start,
        how.decay(decay),
        how.spec,
        how.scale(scale),
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


def _start(x_TM: Tensor, v_init: Tensor | None, layout: MemoryLayout, start: float = 0.0) -> Tensor:
    """The membrane before the first step, [M] or one number for all."""
    return at_rest(x_TM, v_init if v_init is None or v_init.ndim == 0 else layout.vector(v_init), start)


def _fake_forward(currents_TB: Tensor, v_init: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    layout = MemoryLayout(currents_TB)
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


_INPUTS = "Tensor currents, Tensor? v_init, Tensor? decay, Tensor? scale, str call"
_lif = operator(f"lif({_INPUTS}) -> (Tensor, Tensor)", _forward, _fake_forward)
_lif_backward = operator(
    f"lif_backward({_INPUTS}, Tensor? grad_spikes, Tensor? grad_v, bool learn_decay) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    """Keep the inputs and nothing else: backward computes the membrane of every step again."""
    ctx.set_materialize_grads(False)
    *tensors, ctx.call = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
        *inputs, scale = ctx.saved_tensors
        inputs, how = apart(*inputs), decode(ctx.call)
        outputs = lif_reference(inputs[0], inputs[1], how.decay(inputs[2]), how.scale(scale), how.spec)
        return *gradients(outputs, grads, inputs, needed), None, None
    found = _lif_backward(*ctx.saved_tensors, ctx.call, *grads, needed[2])
    return *(grad if need else None for grad, need in zip(found, needed, strict=True)), None, None


_differentiable_lif = differentiable(_lif, _keep, _differentiate)


def run_lif(
    currents_TB: Tensor,
    spec: NeuronSpec,
    v_init: Tensor | None = None,
    decay: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run leaky integrate-and-fire neurons over time.

    Args:
        currents_TB: [T, ...], T >= 1, in any layout. An expanded time axis (stride 0: one image for all steps) is read
            as it is, without a copy.
        spec: What the neurons are.
        v_init: The membrane before the first step, broadcast to [...]; None: that of `spec`.
        decay: Learnt, a 0-dim tensor, in place of that of `spec`.
        scale: The surrogate's shape parameter, likewise.

    Returns:
        The spikes [T, ...], in the layout and dtype of the currents, and the last membrane [...], float32 or wider.

    Examples:
        >>> import torch
        >>> from tser_lightning.kernels.spec import NeuronSpec
        >>> spikes_TB, v = run_lif(torch.tensor([[0.5], [2.0]]), NeuronSpec(decay=0.5))  # H = 0.25, 1.125
        >>> spikes_TB.tolist(), v.tolist()
        ([[0.0], [1.0]], [0.0])
    """
    backend = chosen(spec, currents_TB)
    if backend == "reference":
        how = Call(spec, backend, ())
        return lif_reference(currents_TB, v_init, how.decay(decay), how.scale(scale), spec)
    if backend == "eager" and not torch.is_grad_enabled() and len(currents_TB) == 1 and currents_TB.ndim > 1:
        how, x = Call(spec, backend, ()), currents_TB[0]  # a step of a stream
        spikes, v = lif_step(x, at_rest(x, v_init, spec.v_init), how.decay(decay), spec)
        return is_spikes(spikes.unsqueeze(0)), v
    spikes_TB, v = _differentiable_lif(currents_TB, v_init, decay, scale, encode(spec, backend))
    return is_spikes(spikes_TB), v


def lif(
    currents_TB: Tensor,
    *,
    v_init: Tensor | float = 0.0,
    decay: Decay = 0.5,
    surrogate_scale: Scale | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Run neurons that are described by settings, as `torch.nn.functional` does; a module is `neurons.LIF`.

    Args:
        currents_TB: [T, ...], T >= 1, in any layout.
        v_init: The membrane before the first step: a number, or a tensor that broadcasts to [...].
        decay: What is left of the membrane after one step, in [0, 1]: a number, or a 0-dim tensor that is learnt.
        surrogate_scale: Shape parameter of the surrogate, > 0: a number, or a 0-dim tensor; None: its default.
        settings: The others of `NeuronSpec`.

    Returns:
        The spikes [T, ...], in the layout and dtype of the currents, and the last membrane [...], float32 or wider.

    Raises:
        ValueError: A value out of its range, or an unknown name.

    Examples:
        >>> import torch
        >>> spikes_TB, v = lif(torch.tensor([0.5, 2.0, 2.0]), decay=0.5, reset="soft")  # H = 0.25, 1.125, 1.0625
        >>> spikes_TB.tolist(), float(v)
        ([0.0, 1.0, 1.0], 0.0625)
    """
    given = {"v_init": v_init, "decay": decay, "surrogate_scale": surrogate_scale}
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    numbers: dict[str, Any] = {name: value for name, value in given.items() if name not in tensors}
    learnt = [tensors.get(name) for name in given]
    return run_lif(currents_TB, NeuronSpec(**numbers, **settings), *learnt)
