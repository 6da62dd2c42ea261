"""What Triton has to give on a device before it is used there: some numbers that eager gives too."""

from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.batch_norm import Cell, Form, Inputs
from tser_lightning.kernels.dynamics import Dynamics, at_rest
from tser_lightning.kernels.surrogate import surrogate_named


def numbers(backend: Any, device: torch.device, surrogate: str) -> list[Tensor]:
    """Outputs and gradients of LIF with a surrogate, alone and behind a norm, as a backend's module computes them."""
    cell = Cell(0.5, surrogate_named(surrogate).scale, Dynamics(True, 1.0, "hard", False, surrogate))
    x = torch.linspace(-2, 4, 4 * 2 * 24 * 30, device=device).view(8, 24, 5, 6)
    x_TM = x.view(4, -1)
    rest = at_rest(x_TM, None)
    found = [
        *backend.lif_forward(x_TM, rest, cell.decay, cell.dynamics),
        backend.lif_backward(x_TM, rest, cell.decay, cell.dynamics, cell.scale, x_TM, rest, False).currents,
    ]
    channels = torch.linspace(0.5, 2, 24, device=device)
    var, mean = torch.var_mean(x, (0, 2, 3), unbiased=False)
    for y in (x, x.contiguous(memory_format=torch.channels_last)):
        inputs, form = Inputs(y, None, channels, channels, mean, var), Form(4, False, True, 1e-5)
        found.append(backend.norm_lif_forward(inputs, cell, form))
        grads = backend.norm_lif_backward(inputs, cell, form, y, (True, False, True, True, False))
        found += [grads.y, grads.weight, grads.bias]
    return found
