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

from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale

_LIBRARY = torch.library.Library("tser_lightning", "DEF")


class Call(NamedTuple):
    """The arguments of an operator besides tensors: neuron, backend, sizes.

    Attributes:
        spec: The neurons.
        backend: Who computes them: eager, compiled or triton.
        form: What one operator needs besides.
    """

    spec: NeuronSpec
    backend: str
    form: tuple[Any, ...]

    def decay(self, learnt: Tensor | None) -> Decay:
        """The decay, learnt or not."""
        return self.spec.decay if learnt is None else learnt

    def scale(self, learnt: Tensor | None) -> Scale:
        """Shape parameter of the surrogate, learnt or not."""
        return self.spec.scale if learnt is None else learnt


def encode(spec: NeuronSpec, backend: str, *form: Any) -> str:
    """Encode the arguments that are no tensors as text, which `decode` decodes."""
    return f"({spec.text}, {backend!r}, {form!r})"


@cache
def decode(call: str) -> Call:
    """Decode what `encode` encoded; cached."""
    facts, backend, form = literal_eval(call)
    return Call(NeuronSpec(*facts), backend, form)


def operator(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Register an operator with torch.

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
    """Register the backward pass of an operator.

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
