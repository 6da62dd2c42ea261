import math

import pytest
import torch
from torch import Tensor

from tser_lightning.neurons import LSG


def by_hand(x: Tensor, b: Tensor, v_threshold: float) -> Tensor:
    """V = beta U (1 - S) + I with a ramp of width 2 v_th sqrt(1 + beta^2) behind the step."""
    beta = 1 / (1 + torch.exp(-b))
    width = 2 * v_threshold * math.sqrt(1 + beta.item() ** 2)
    u, spikes = torch.zeros_like(x[0]), []
    for current in x:
        u = beta * u + current
        ramp = ((u - v_threshold) / width).clamp(-0.5, 0.5) + 0.5
        s = ((u >= v_threshold).double() - ramp).detach() + ramp
        spikes.append(s)
        u = u * (1 - s)
    return torch.stack(spikes)


@pytest.mark.parametrize("backend", ["eager", "reference"])
def test_spikes_and_gradients_are_those_of_the_published_equations(backend: str) -> None:
    neuron = LSG(backend=backend, decay=0.7, v_threshold=0.6).double()
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn_like(x)
    spikes, expected = neuron(x), by_hand(x, neuron.w, 0.6)
    torch.testing.assert_close(spikes, expected)
    ours = torch.autograd.grad(spikes, (x, neuron.w), cotangent)
    for grad, by_hand_grad in zip(ours, torch.autograd.grad(expected, (x, neuron.w), cotangent), strict=True):
        torch.testing.assert_close(grad, by_hand_grad)


def test_the_width_follows_the_leak() -> None:
    neuron = LSG()
    assert neuron.width().item() == pytest.approx(math.sqrt(1 + 0.2**2))
    neuron.w.data.fill_(0.0)
    assert neuron.width().item() == pytest.approx(math.sqrt(1.25))
