"""The batch norm that is computed as one operation with the neurons behind it: its inputs and its backward pass.

Legend: T time step, B image, N = T*B folded (or B where all steps see the same image), C channel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tser_lightning.kernels.operators import operator


class Inputs(NamedTuple):
    """What is normalised, what is added to it, and the numbers of each channel; `var` is the biased variance."""

    y: Tensor
    residual: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor


class BatchNorm(NamedTuple):
    """The numbers of a batch norm at one call, and whether gradients flow through mean and variance.

    Attributes:
        weight: [C], None: 1.
        bias: [C], None: 0.
        mean: [C].
        var: [C], the biased variance.
        of_batch: Whether mean and variance are those of the batch.
        eps: Added to the variance.
    """

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor
    of_batch: bool
    eps: float


class Form(NamedTuple):
    """What the pass needs besides tensors: sizes, static input, eps.

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
        """Count the images B of a folded [T*B, ...] tensor, or of a static [B, ...] one."""
        return len(folded) if self.static else len(folded) // self.steps

    def over_time(self, folded: Tensor) -> Tensor:
        """[N, ...] as [T, B, ...]; one image for all steps is expanded."""
        if self.static:
            return folded.expand(self.steps, *folded.shape)
        unfolded: Tensor = folded.unflatten(0, (self.steps, -1))
        return unfolded


class NormGradients(NamedTuple):
    """Gradients of the backward pass, each None where it is not needed."""

    y: Tensor | None
    residual: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    decay: Tensor | None


def through_norm(
    inputs: Inputs, form: Form, grad_currents: Tensor, grad_decay: Tensor | None, needed: Sequence[bool]
) -> NormGradients:
    """Backpropagate the gradient of the currents through the norm, to its input, weight and bias."""
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
    return NormGradients(grads[0], grad_currents if needed[1] else None, grads[1], grads[2], grad_decay)


def room(images: int, like: Tensor) -> Tensor:
    """Allocate memory for images in the layout of others: channels last, else contiguous."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(images, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=layout)


def _batch_moments(y: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    return torch.batch_norm_update_stats(y, running_mean, running_var, momentum)


def _fake_batch_moments(y: Tensor, running_mean: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(running_mean), torch.empty_like(running_mean)


# Torch's own, which does not tell a compiler that it writes into the running statistics.
batch_moments = operator(
    "batch_moments(Tensor y, Tensor(a!) running_mean, Tensor(b!) running_var, float momentum) -> (Tensor, Tensor)",
    _batch_moments,
    _fake_batch_moments,
)
