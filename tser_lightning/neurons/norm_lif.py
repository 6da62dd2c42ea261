"""Batch normalisation, an optional residual and LIF neurons as one operation that keeps what the convolution gave.

Legend: T time step, B image, N = T*B folded (or B where all steps see the same image), C channel.
Apart, the norm keeps its input and the neurons theirs. Together they keep the norm's input, the residual (spikes that a
convolution keeps anyway, where it is the identity) and two numbers per channel; backward computes the rest again.
To torch they are one operator, `tser_lightning::norm_lif`; its two passes are those of a backend: `eager_norm_lif`,
`compiled_norm_lif`, `triton_norm_lif`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.neurons.dynamics import Decay, Dynamics
from tser_lightning.neurons.lif import apart, gradients, lif_reference
from tser_lightning.neurons.operators import Recipe, differentiable, operator, read, written
from tser_lightning.neurons.packing import is_spikes
from tser_lightning.neurons.surrogate import Scale


class Inputs(NamedTuple):
    """What is normalised, what is added to it, and the numbers of each channel; `var` is the biased variance."""

    y: Tensor
    residual: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor


class Cell(NamedTuple):
    """How the neurons behave: decay and scale of the surrogate, learnt or not, and what is no number of theirs."""

    decay: Decay
    scale: Scale
    dynamics: Dynamics


class Form(NamedTuple):
    """What is no tensor.

    Attributes:
        steps: T.
        static: Whether all steps see the same images.
        of_batch: Whether mean and variance are those of the batch, so that gradients flow through them.
        eps: Added to the variance.
    """

    steps: int
    static: bool
    of_batch: bool
    eps: float

    def images(self, folded: Tensor) -> int:
        """B."""
        return len(folded) if self.static else len(folded) // self.steps

    def over_time(self, folded: Tensor) -> Tensor:
        """[N, ...] as [T, B, ...]; one image for all steps is expanded."""
        if self.static:
            return folded.expand(self.steps, *folded.shape)
        unfolded: Tensor = folded.unflatten(0, (self.steps, -1))
        return unfolded


class Gradients(NamedTuple):
    """What backward gives, each None where it is not needed."""

    y: Tensor | None
    residual: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    decay: Tensor | None


def _forward(
    y: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    decay: Tensor | None,
    scale: Tensor | None,
    recipe: str,
) -> Tensor:
    how = read(recipe)
    forward, _ = _passes(how.backend)
    inputs = Inputs(y, residual, weight, bias, mean, var)
    return forward(inputs, Cell(*how.full(decay, scale), how.dynamics), Form(*how.more))


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
    recipe: str,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Compute currents and membranes again, and go back; an empty tensor for what is not needed."""
    how = read(recipe)
    _, backward = _passes(how.backend)
    inputs = Inputs(y, residual, weight, bias, mean, var)
    found = backward(inputs, Cell(*how.full(decay, scale), how.dynamics), Form(*how.more), grad_NCHW, needed)
    given = (y, residual, weight, bias, decay)
    return tuple(
        y.new_empty(0) if grad is None or value is None else grad.to(value.dtype)
        for grad, value in zip(found, given, strict=True)
    )


@cache
def _passes(backend: str) -> tuple[Callable[..., Tensor], Callable[..., Gradients]]:
    """Give forward and backward of a backend; imported here, because they import what is above."""
    if backend == "triton":  # not there on every machine
        from tser_lightning.neurons import triton_norm_lif

        return triton_norm_lif.norm_forward_triton, triton_norm_lif.norm_backward_triton
    if backend == "compiled":
        from tser_lightning.neurons import compiled_norm_lif

        return compiled_norm_lif.norm_forward_compiled, compiled_norm_lif.norm_backward_compiled
    from tser_lightning.neurons import eager_norm_lif

    return eager_norm_lif.norm_forward_eager, eager_norm_lif.norm_backward_eager


def through_norm(
    inputs: Inputs, form: Form, grad_currents: Tensor, grad_decay: Tensor | None, needed: Sequence[bool]
) -> Gradients:
    """Take the gradient of the currents back to what the norm is made of."""
    grads = torch.ops.aten.native_batch_norm_backward(
        grad_currents,
        inputs.y,
        inputs.weight,
        inputs.mean,
        inputs.var,
        inputs.mean,
        (inputs.var + form.eps).sqrt().reciprocal(),
        form.of_batch,
        form.eps,
        [needed[0], needed[2], needed[3]],
    )
    return Gradients(grads[0], grad_currents if needed[1] else None, grads[1], grads[2], grad_decay)


def room(images: int, like: Tensor) -> Tensor:
    """Memory for images in the layout of others: channels last, else contiguous."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(images, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=layout)


def _fake_forward(y: Tensor, *others: Any) -> Tensor:
    form = Form(*read(others[-1]).more)
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
    "Tensor? decay, Tensor? scale, str recipe"
)
_norm_lif = operator(f"norm_lif({_INPUTS}) -> Tensor", _forward, _fake_forward)
_norm_lif_backward = operator(
    f"norm_lif_backward(Tensor grad, {_INPUTS}, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    *tensors, ctx.recipe = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, ...]:
    kept = ctx.saved_tensors  # to be unpacked once: checkpointing recomputes for it
    wanted = ctx.needs_input_grad
    needed = [wanted[at] for at in (0, 1, 2, 3, 6)]
    if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
        y, residual, weight, bias, mean, var, decay, scale = kept
        how = read(ctx.recipe)
        inputs = apart(y, residual, weight, bias, decay)
        found = _differentiable(inputs, needed, grad_NCHW, mean, var, scale, how)
    else:
        found = _norm_lif_backward(grad_NCHW, *kept, ctx.recipe, needed)
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
    how: Recipe,
) -> list[Tensor | None]:
    """The same gradients as a graph of plain operations."""
    y, residual, weight, bias, decay = inputs
    form = Form(*how.more)
    used = (None, None) if form.of_batch else (mean, var)
    out = F.batch_norm(y, used[0], used[1], weight, bias, form.of_batch, 0.0, form.eps)
    out = out if residual is None else out + residual
    spikes_TB, _ = lif_reference(form.over_time(out), None, *how.full(decay, scale), how.dynamics)
    return gradients([spikes_TB.flatten(0, 1)], [grad_NCHW], inputs, needed)


def _batch_moments(y: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    return torch.batch_norm_update_stats(y, running_mean, running_var, momentum)


def _fake_batch_moments(y: Tensor, running_mean: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(running_mean), torch.empty_like(running_mean)


# Torch's own, which does not tell a compiler that it writes into the running statistics.
_moments = operator(
    "batch_moments(Tensor y, Tensor(a!) running_mean, Tensor(b!) running_var, float momentum) -> (Tensor, Tensor)",
    _batch_moments,
    _fake_batch_moments,
)


@torch.no_grad()
def moments(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Bring the running statistics of `norm` up to date as its forward does.

    Returns:
        The mean and the biased variance that it would use, and whether they are those of the batch.
    """
    if not norm.training and norm.running_mean is not None:
        assert norm.running_var is not None
        return norm.running_mean.clone(), norm.running_var.clone(), False
    momentum = norm.momentum
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if momentum is None else momentum
    running = norm.running_mean, norm.running_var
    if running[0] is None:  # the kernel takes its precision from them
        wide = torch.promote_types(y_NCHW.dtype, torch.float32)
        running = y_NCHW.new_zeros(y_NCHW.shape[1], dtype=wide), y_NCHW.new_ones(y_NCHW.shape[1], dtype=wide)
    return *_moments(y_NCHW, *running, momentum or 0.0), True


class Settings(NamedTuple):
    """What is no tensor but for learnt numbers: T, how neurons behave, who computes them, how wide the surrogate is."""

    steps: int
    static: bool
    dynamics: Dynamics
    backend: str
    scale: Scale


def norm_lif(y_NCHW: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d, decay: Decay, settings: Settings) -> Tensor:
    """Spikes of LIF neurons, at rest before the first step, that see norm(y) + residual.

    Args:
        y_NCHW: Output of a convolution, [T*B, C, H, W], or [B, C, H, W] where `settings.static`.
        residual: Added after the norm; of the same shape.
        norm: Its statistics are brought up to date as in its own forward.
        decay: What is left of the membrane after one step; a 0-dim tensor is learnt.
        settings: See `Settings`.

    Returns:
        Spikes [T*B, C, H, W], in the layout and dtype of y.
    """
    mean, var, of_batch = moments(norm, y_NCHW)
    form = Form(settings.steps, settings.static, of_batch, norm.eps)
    recipe, learnt = written(settings.dynamics, settings.backend, decay, settings.scale, *form)
    return is_spikes(_differentiable_norm_lif(y_NCHW, residual, norm.weight, norm.bias, mean, var, *learnt, recipe))
