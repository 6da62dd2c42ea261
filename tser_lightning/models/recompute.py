"""Gradient checkpointing: blocks are computed again in the backward pass, in place of keeping their activations.

A block is a module in an `nn.Sequential` that holds a neuron (a residual block, a transformer's block), or, where plain
layers follow each other (VGG), the layers up to a neuron. What goes into a block is kept, inside of it nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tser_lightning.models.fusing import Layers
from tser_lightning.neurons.clock import Clock, OverTime

_again: ContextVar[bool] = ContextVar("a block is computed for the second time", default=False)


def recomputing() -> bool:
    """Tell a hook inside a block whether it was called for this call of the block already."""
    return _again.get()


@contextmanager
def recomputed_blocks(net: nn.Module, clock: Clock) -> Iterator[None]:
    """Checkpoint the blocks of a network in what runs inside: recomputed in the backward pass, the same numbers.

    Random numbers are drawn as before, and what a block counts (running statistics) is counted once.

    Args:
        net: The network of a student.
        clock: The student's, which its modules read.
    """
    sequences = list(_sequences(net))
    try:
        for sequence in sequences:
            vars(sequence)["forward"] = _forward(list(_parts(sequence)), clock)
        yield
    finally:
        for sequence in sequences:
            vars(sequence).pop("forward", None)


def _sequences(module: nn.Module) -> Iterator[nn.Sequential]:
    """Sequences of a network that lie in no other; a class with a forward of its own is none."""
    if isinstance(module, nn.Sequential) and type(module).forward in (nn.Sequential.forward, Layers.forward):
        yield module
        return
    for child in module.children():
        yield from _sequences(child)


def _parts(sequence: nn.Sequential) -> Iterator[tuple[nn.Module, bool]]:
    """A sequence in parts, and whether each is a block."""
    run: list[nn.Module] = []
    for layer in sequence:
        if not any(isinstance(module, OverTime) for module in layer.modules()) or isinstance(layer, nn.BatchNorm2d):
            run.append(layer)  # TEBN, a norm that sees time, is no end of a block
        elif isinstance(layer, OverTime):
            yield Layers(*run, layer), True
            run = []
        else:
            if run:
                yield Layers(*run), False
                run = []
            yield layer, True
    if run:
        yield Layers(*run), False


def _forward(parts: list[tuple[nn.Module, bool]], clock: Clock) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        for part, is_block in parts:
            x = _block(part, x, clock) if is_block else part(x)
        return x

    return forward


def _block(block: nn.Module, x: Tensor, clock: Clock) -> Tensor:
    now = dataclasses.replace(clock)
    return cast(
        Tensor,
        checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _as_then(block, clock, now))),
    )


@contextmanager
def _as_then(block: nn.Module, clock: Clock, then: Clock) -> Iterator[None]:
    """Set the time of the first call, and let buffers change in copies that are thrown away."""
    before, token = dict(vars(clock)), _again.set(True)
    buffers = [(module, name, buffer) for module in block.modules() for name, buffer in module._buffers.items()]
    vars(clock).update(vars(then))
    for module, name, buffer in buffers:
        module._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        vars(clock).update(before)
        _again.reset(token)
