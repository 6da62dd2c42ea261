"""A spike, whose derivative is a surrogate's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.surrogate import Scale, surrogate_named


class _Step(torch.autograd.Function):
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
        surrogate: Name of the surrogate gradient, a key of `SURROGATES`.
        scale: Shape parameter of the surrogate, > 0; None: its default.

    Returns:
        1 where u >= 0, else 0; the shape and dtype of `u`.

    Raises:
        ValueError: There is no such surrogate.

    Examples:
        >>> import torch
        >>> u = torch.tensor([-0.25, 0.0, 0.75], requires_grad=True)
        >>> spikes = fire(u, "triangle")
        >>> spikes.sum().backward()
        >>> spikes.tolist(), u.grad.tolist()  # 1 - |u|
        ([0.0, 1.0, 1.0], [0.75, 1.0, 0.25])
    """
    known = surrogate_named(surrogate)
    return differentiable_step(u, known.scale if scale is None else scale, known.gradient)


def differentiable_step(u: Tensor, scale: Scale, gradient: Callable[[Tensor, Scale], Tensor]) -> Tensor:
    """Theta(u) with `gradient` for its derivative."""
    spikes: Tensor = _Step.apply(u, scale, gradient)
    return spikes
