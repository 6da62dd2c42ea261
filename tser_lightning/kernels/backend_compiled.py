"""LIF, alone or behind a norm, fused by torch.compile: one kernel reads the input and writes spikes.

Legend: T time step, B image, C channel, P pixel. With channels last tensors are [T, B*P, C], and what a channel is
multiplied and moved by is [C]; otherwise they are [T, B, C, P] and [C, 1].
Backward is one kernel as well, which gives the gradient of the currents. The rest, through the statistics of the batch,
is torch's.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.batch_norm import Form, Inputs, NormGradients, through_norm
from tser_lightning.kernels.dynamics import Gradients, at_rest, backward_body, forward_body
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale


def lif_forward(currents_TM: Tensor, v_M: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    found: tuple[Tensor, Tensor] = compiled_body(forward_body)(currents_TM, v_M, decay, spec)
    return found


def lif_backward(*inputs: Any) -> Gradients:
    """Recompute the membrane from the input, then go back through all steps; as `dynamics.backward_body`."""
    found: Gradients = compiled_body(backward_body)(*inputs)
    return found


@cache
def compiled_body(body: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile make kernels of a body: one for each T, form and dtype, whatever the sizes."""
    from torch._dynamo import config

    # Torch gives a function eight, then it runs line by line, much slower: a process that tries some T needs more.
    config.recompile_limit = max(config.recompile_limit, 64)
    return torch.compile(body, dynamic=True)


def norm_lif_forward(inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec) -> Tensor:
    """Give the spikes [T*B, C, H, W]."""
    spikes = compiled_body(norm_forward_body)(*_by_channel(inputs, form), decay, spec)
    return _as_images(spikes, inputs.y)


def norm_lif_backward(
    inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec, scale: Scale, grad_NCHW: Tensor, needed: Sequence[bool]
) -> NormGradients:
    """Give the gradients that are needed."""
    grad_currents, grad_decay = compiled_body(norm_backward_body)(
        *_by_channel(inputs, form),
        decay,
        spec,
        scale,
        _channels_apart(grad_NCHW.unflatten(0, (form.steps, -1)), _last(inputs.y)),
        form.static,
        needed[4],
    )
    return through_norm(inputs, form, _as_images(grad_currents, inputs.y), grad_decay, needed)


def norm_forward_body(
    y: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor, decay: Decay, spec: NeuronSpec
) -> Tensor:
    """Normalise, add, go through all steps; returns the spikes."""
    x = _currents(y, residual, factor, shift)
    return forward_body(x, at_rest(x, None, spec.v_init), decay, spec)[0].to(y.dtype)


def norm_backward_body(
    y: Tensor,
    residual: Tensor | None,
    factor: Tensor,
    shift: Tensor,
    decay: Decay,
    spec: NeuronSpec,
    scale: Scale,
    grad_spikes: Tensor,
    static: bool,
    learn_decay: bool,
) -> tuple[Tensor, Tensor | None]:
    """Recompute currents and membranes, go back; returns the gradients of the currents and of the decay."""
    x = _currents(y, residual, factor, shift)
    # Nothing is added, but the compiler fuses both ways through time only if both ask which channel it is.
    grad_spikes = grad_spikes.to(x.dtype) + 0 * factor
    start = at_rest(x, None, spec.v_init)
    found = backward_body(x, start, decay, spec, scale, grad_spikes, at_rest(x, None), learn_decay)
    grad = found.currents.sum(0, keepdim=True) if static else found.currents
    return grad.to(y.dtype), found.decay


def _currents(y: Tensor, residual: Tensor | None, factor: Tensor, shift: Tensor) -> Tensor:
    """What reaches the neurons, in the precision of the membrane."""
    x = y.to(torch.promote_types(y.dtype, torch.float32)) * factor + shift
    return x if residual is None else x + residual


def _by_channel(inputs: Inputs, form: Form) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Give y, the residual, and by what a channel is multiplied and moved."""
    last = _last(inputs.y)
    factor = (inputs.var + form.eps).rsqrt()
    factor = factor if inputs.weight is None else factor * inputs.weight
    shift = -inputs.mean * factor
    shift = shift if inputs.bias is None else shift + inputs.bias
    return (
        _channels_apart(form.over_time(inputs.y), last),
        None if inputs.residual is None else _channels_apart(form.over_time(inputs.residual), last),
        factor if last else factor[:, None],
        shift if last else shift[:, None],
    )


def _last(y_NCHW: Tensor) -> bool:
    return y_NCHW.is_contiguous(memory_format=torch.channels_last)


def _channels_apart(images_TBCHW: Tensor, last: bool) -> Tensor:
    return images_TBCHW.permute(0, 1, 3, 4, 2).flatten(1, 3) if last else images_TBCHW.flatten(3)


def _as_images(result: Tensor, like_NCHW: Tensor) -> Tensor:
    """Give the result of a body as [N, C, H, W], in the layout of others."""
    channels, *pixels = like_NCHW.shape[1:]
    if _last(like_NCHW):
        return result.view(-1, *pixels, channels).permute(0, 3, 1, 2)
    return result.view(-1, channels, *pixels)
