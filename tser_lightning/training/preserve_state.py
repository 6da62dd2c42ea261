"""Calls that leave no trace: random numbers, modes and statistics are afterwards what they were."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

Part = TypeVar("Part")


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Restore the random states of torch, numpy and Python when the block ends."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - those of a user's code
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def seed_all(seed: int) -> None:
    """Seed torch's (on the processor), numpy's and Python's random numbers."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


@contextmanager
def borrowed(part: Part) -> Iterator[Part]:
    """Give a copy of a part; where none can be made, the part itself, whose modes and buffers are restored."""
    try:
        copied = copy.deepcopy(part)
    except Exception:  # whatever a user's class may raise
        copied = None
    if copied is not None or not isinstance(part, nn.Module):
        yield part if copied is None else copied
        return
    modes = [(module, module.training, dict(module._forward_hooks)) for module in part.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in part.buffers()]
    try:
        yield part
    finally:
        for module, training, hooks in modes:
            module.training = training
            for key in module._forward_hooks.keys() - hooks.keys():
                del module._forward_hooks[key]
        for buffer, value in buffers:
            buffer.data.copy_(value)


class GeneratorStates:
    """The states of random generators that the modules of a network hold themselves."""

    def __init__(self, net: nn.Module) -> None:
        owned = [value for module in net.modules() for value in vars(module).values()]
        self._torch = [(each, each.get_state()) for each in owned if isinstance(each, torch.Generator)]
        self._numpy: list[tuple[Any, Any]] = [
            (each.bit_generator, each.bit_generator.state) for each in owned if isinstance(each, np.random.Generator)
        ]
        self._python = [(each, each.getstate()) for each in owned if isinstance(each, random.Random)]

    def again(self) -> None:
        """Restore the states, so that the generators draw the same again."""
        for generator, state in self._torch:
            generator.set_state(state)
        for bits, state in self._numpy:
            bits.state = state
        for source, drawn in self._python:
            source.setstate(drawn)
