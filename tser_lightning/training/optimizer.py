"""Which parameters decay, and how fast each kind learns."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tser_lightning.neurons.clock import OverTime

OptimizerFactory = Callable[[Iterable[dict[str, Any]]], Optimizer]


def parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Split the trainable parameters of a model into groups for an optimiser.

    Weights of convolutions and linear layers decay. Norms, biases and the parameters of neurons do not: decay would
    pull a threshold or a membrane constant towards 0. A neuron class may ask for a slower rate with `lr_scale` (GLIF's
    gates learn at a tenth).

    Args:
        model: Student and loss together.
        lr: Learning rate that `lr_scale` multiplies.

    Returns:
        Non-empty groups with `params`, and `weight_decay` or `lr` where they differ from the optimiser's own.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for module in model.modules():
        in_neuron = isinstance(module, OverTime)
        scale = float(getattr(module, "lr_scale", 1.0)) if in_neuron else 1.0
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                decays = not in_neuron and parameter.ndim > 1
                groups.setdefault((decays, scale), []).append(parameter)
    return [
        {"params": params, **({} if decays else {"weight_decay": 0.0}), **({} if scale == 1 else {"lr": lr * scale})}
        for (decays, scale), params in groups.items()
    ]
