"""Which parameters decay, how fast each kind learns, and the optimiser of them all."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tser_lightning.neurons.clock import OverTime

OptimizerFactory = Callable[..., Optimizer]


def make_optimizer(make: OptimizerFactory, model: nn.Module, fused: bool) -> Optimizer:
    """Make an optimiser over the trainable parameters of a model.

    Args:
        make: From parameter groups to an optimiser, e.g. a partial of `torch.optim.SGD`.
        model: Student and loss together, where they will be trained.
        fused: Whether it may take its step in one kernel, if it and the device have that.
    """
    probe = make([{"params": [nn.Parameter(torch.zeros(()))]}])
    groups = parameter_groups(model, probe.defaults["lr"])
    if fused and "fused" in inspect.signature(make).parameters:
        try:
            return make([dict(group) for group in groups], fused=True)
        except RuntimeError:  # this device or this kind of number has no such kernel
            pass
    return make(groups)


def parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Split the trainable parameters of a model into groups for an optimiser.

    Weights of convolutions and linear layers decay. Norms, biases and the parameters of neurons do not: decay would
    pull a threshold or a membrane constant towards 0. A neuron may name a rate of its own for some of them in
    `lr_scales` (GLIF's gates learn at a tenth).

    Args:
        model: Student and loss together.
        lr: Learning rate that `lr_scales` multiply.

    Returns:
        Non-empty groups with `params`, and `weight_decay` or `lr` where they differ from the optimiser's own.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for module in model.modules():
        in_neuron = isinstance(module, OverTime)
        scales = getattr(module, "lr_scales", {}) if in_neuron else {}
        for name, parameter in module.named_parameters(recurse=False):
            scale = float(scales.get(name, 1.0))
            if parameter.requires_grad:
                decays = not in_neuron and parameter.ndim > 1
                groups.setdefault((decays, scale), []).append(parameter)
    return [
        {"params": params, **({} if decays else {"weight_decay": 0.0}), **({} if scale == 1 else {"lr": lr * scale})}
        for (decays, scale), params in groups.items()
    ]
