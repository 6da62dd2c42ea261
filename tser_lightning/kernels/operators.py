"""The operators of this package as torch knows them, so that what works on graphs of operators sees a neuron as one.

torch.compile, autocast, DDP and activation checkpointing take them as they take torch's own. What an operator needs
besides tensors travels as one text: the dispatcher takes some 3 us for every argument.
"""

from ast import literal_eval
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tser_lightning.kernels.dynamics import Decay, Dynamics
from tser_lightning.kernels.surrogate import Scale

_LIBRARY = torch.library.Library("tser_lightning", "DEF")


class Recipe(NamedTuple):
    """What is no tensor: how the neurons behave, who computes them, and the numbers that are not learnt.

    Attributes:
        dynamics: The switches.
        backend: eager, compiled or triton.
        decay: None: a tensor.
        scale: Of the surrogate; None: a tensor.
        more: What one operator needs besides.
    """

    dynamics: Dynamics
    backend: str
    decay: float | None
    scale: float | None
    more: tuple[Any, ...] = ()

    def text(self) -> str:
        """Write it down for `read`."""
        return repr((tuple(self.dynamics), *self[1:]))

    def full(self, decay: Tensor | None, scale: Tensor | None) -> tuple[Decay, Scale]:
        """The decay and the scale, learnt or not."""
        known = self.decay if decay is None else decay, self.scale if scale is None else scale
        assert known[0] is not None
        assert known[1] is not None
        return known[0], known[1]


@cache
def read(text: str) -> Recipe:
    """Read what `Recipe.text` wrote."""
    dynamics, *rest = literal_eval(text)
    return Recipe(Dynamics(*dynamics), *rest)


def written(
    dynamics: Dynamics, backend: str, decay: Decay, scale: Scale, *more: Any
) -> tuple[str, tuple[Tensor | None, Tensor | None]]:
    """Sort what an operator takes into its text and what is learnt: the decay and the scale, None where a number."""
    learnt = [value if isinstance(value, Tensor) else None for value in (decay, scale)]
    numbers = [None if isinstance(value, Tensor) else float(value) for value in (decay, scale)]
    return Recipe(dynamics, backend, numbers[0], numbers[1], more).text(), (learnt[0], learnt[1])


def operator(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Make an operator known.

    Args:
        schema: Name, arguments and results as torch writes them.
        kernel: Computes it, on every device.
        fake: Makes results of the same shapes and layouts without computing.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tser_lightning::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.tser_lightning, name).default


def differentiable(operator: Any, keep: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Give an operator a derivative.

    Args:
        operator: What `operator` returned.
        keep: (ctx, inputs): what backward needs, as in an `autograd.Function`.
        backward: (ctx, *gradients), likewise.

    Returns:
        What to call. For torch's own calls of it, a compiler's say, the derivative is registered; but that road takes
        30 to 60 us more than a function of one's own, which is the one of eager calls.
    """
    torch.library.register_autograd(
        operator.name(), backward, setup_context=lambda ctx, inputs, output: keep(ctx, inputs), lib=_LIBRARY
    )

    class Road(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            keep(ctx, inputs)
            return operator(*inputs)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    def call(*inputs: Any) -> Any:
        return operator(*inputs) if torch.compiler.is_compiling() else Road.apply(*inputs)

    return call


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
