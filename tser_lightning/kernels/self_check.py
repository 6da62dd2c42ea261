"""The check of Triton on a device before it is used there: some numbers, compared with eager's."""

from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.batch_norm import Form, Inputs
from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.kernels.spec import NeuronSpec


def numbers(backend: Any, device: torch.device, surrogate: str) -> list[Tensor]:
    """Outputs and gradients of LIF with a surrogate, alone and behind a norm, as a backend's module computes them."""
    spec = NeuronSpec(surrogate=surrogate)
    decay, scale = spec.decay, spec.scale
    x = torch.linspace(-2, 4, 4 * 2 * 24 * 30, device=device).view(8, 24, 5, 6)
    x_TM = x.view(4, -1)
    rest = at_rest(x_TM, None)
    found = [
        *backend.lif_forward(x_TM, rest, decay, spec),
        backend.lif_backward(x_TM, rest, decay, spec, scale, x_TM, rest, False).currents,
    ]
    channels = torch.linspace(0.5, 2, 24, device=device)
    var, mean = torch.var_mean(x, (0, 2, 3), unbiased=False)
    for y in (x, x.contiguous(memory_format=torch.channels_last)):
        inputs, form = Inputs(y, None, channels, channels, mean, var), Form(4, False, True, 1e-5)
        found.append(backend.norm_lif_forward(inputs, form, decay, spec))
        grads = backend.norm_lif_backward(inputs, form, decay, spec, scale, y, (True, False, True, True, False))
        found += [grads.y, grads.weight, grads.bias]
    return found
