"""Let every neuron fire at random: what a layer gets then depends on the architecture alone.

An analog input, such as an average of spikes, that is 0 everywhere because the neurons before it are silent cannot be
told from a binary one. With random spikes it shows.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.measure.eval_mode import evaluating
from tser_lightning.neurons.neuron import Neuron


@contextmanager
def random_spikes(model: nn.Module) -> Iterator[bool]:
    """Replace the output of every neuron by random spikes (0 or 1 with equal chance, from a fixed seed) in a block.

    One that puts out numbers of spikes puts out each up to its `max_spikes` with equal chance.

    In between, all other hooks are off and the network is in eval mode, so that a call leaves no trace.

    Args:
        model: A student, or any network.

    Yields:
        Whether it has a neuron.
    """
    modules = list(model.modules())
    before = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    for module in modules:
        module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
    neurons = [module for module in modules if isinstance(module, Neuron)]
    coin = torch.Generator().manual_seed(0)
    try:
        for neuron in neurons:
            neuron.register_forward_hook(_flip(coin, neuron.max_spikes))
        with evaluating(model):
            yield bool(neurons)
    finally:
        for module, (pre_hooks, hooks) in zip(modules, before, strict=True):
            module._forward_pre_hooks, module._forward_hooks = pre_hooks, hooks


def _flip(coin: torch.Generator, most: int) -> Any:
    def flip(_: nn.Module, __: tuple[Tensor, ...], spikes: Tensor) -> Tensor:
        return torch.randint(most + 1, spikes.shape, generator=coin).to(spikes)

    return flip
