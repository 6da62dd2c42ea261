"""What Triton has to give on a device before it is used there: some numbers that eager gives too."""

import torch
from torch import Tensor, nn

from tser_lightning.neurons.dynamics import Dynamics
from tser_lightning.neurons.lif import lif
from tser_lightning.neurons.norm_lif import Settings, norm_lif
from tser_lightning.neurons.surrogate import surrogate_named


def numbers(backend: str, device: torch.device, surrogate: str) -> list[Tensor]:
    """Outputs and gradients of LIF with a surrogate, alone and behind a norm."""
    scale = surrogate_named(surrogate).scale
    with torch.enable_grad():
        x = torch.linspace(-2, 4, 4 * 2 * 24 * 30, device=device).view(8, 24, 5, 6).requires_grad_()
        spikes, last = lif(x.view(4, -1), surrogate=surrogate, backend=backend)
        norm = nn.BatchNorm2d(24, device=device)
        settings = Settings(4, False, Dynamics(True, 1.0, "hard", False, surrogate), backend, scale)
        fused = [norm_lif(y, None, norm, 0.5, settings) for y in (x, x.contiguous(memory_format=torch.channels_last))]
        weighted = sum((y * x.detach()).sum() for y in (spikes.view_as(x), *fused))
        assert isinstance(weighted, Tensor)
        return [spikes, last, *fused, *torch.autograd.grad(weighted, [x, *norm.parameters()])]
