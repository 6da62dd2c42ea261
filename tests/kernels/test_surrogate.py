import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tser_lightning.kernels.fire import fire
from tser_lightning.kernels.surrogate import SURROGATES, surrogate_named

# The step that each surrogate is the derivative of, and its peak, both at the shape parameter s.
STEPS: dict[str, tuple[Callable[[Tensor, float], Tensor], Callable[[float], float]]] = {
    "sigmoid": (lambda u, s: 1 / (1 + torch.exp(-s * u)), lambda s: s / 4),
    "atan": (lambda u, s: torch.arctan(math.pi / 2 * s * u) / math.pi + 0.5, lambda s: s / 2),
    "triangle": (
        lambda u, s: torch.where(
            u < 0, 0.5 * (1 + (u / s).clamp(min=-1)) ** 2, 1 - 0.5 * (1 - (u / s).clamp(max=1)) ** 2
        ),
        lambda s: 1 / s,
    ),
    "rectangular": (lambda u, s: (u / s).clamp(-0.5, 0.5) + 0.5, lambda s: 1 / s),
    "piecewise_quadratic": (
        lambda u, s: torch.where(u.abs() <= 1 / s, -0.5 * s**2 * u.abs() * u + s * u + 0.5, (u > 0).to(u.dtype)),
        lambda s: s,
    ),
    "tanh": (
        lambda u, s: 0.5 + torch.tanh(s * u.clamp(-0.5, 0.5)) / (2 * math.tanh(s / 2)),
        lambda s: s / (2 * math.tanh(s / 2)),
    ),
    "fast_sigmoid": (lambda u, s: u / (1 + s * u.abs()), lambda s: 1.0),
}
AREAS: dict[str, Callable[[float], float]] = {"fast_sigmoid": lambda s: 2 / s}  # the others: 1


def test_every_surrogate_has_a_step_here() -> None:
    assert set(STEPS) == set(SURROGATES)


@pytest.mark.parametrize("scale", [None, 0.7, 3.0])
@pytest.mark.parametrize("name", STEPS)
def test_gradient_is_that_of_the_smooth_step(name: str, scale: float | None) -> None:
    known = SURROGATES[name]
    s = known.scale if scale is None else scale
    u = torch.linspace(-2.03, 2.01, 501, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(STEPS[name][0](u, s).sum(), u)
    spikes = fire(u, name, scale)
    (surrogate,) = torch.autograd.grad(spikes.sum(), u)
    torch.testing.assert_close(surrogate, slope, rtol=1e-9, atol=1e-12)
    assert torch.equal(spikes, (u >= 0).double())


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", STEPS)
def test_area_is_what_it_says_and_the_peak_is_at_the_threshold(name: str, scale: float) -> None:
    gradient = SURROGATES[name].gradient
    u = np.linspace(-2000, 2000, 4_000_001)
    g = gradient(torch.from_numpy(u), scale).numpy()
    assert np.trapezoid(g, u) == pytest.approx(AREAS.get(name, lambda s: 1.0)(scale), abs=5e-3)
    assert g.max() == g[len(g) // 2] == pytest.approx(STEPS[name][1](scale), abs=1e-12)


def test_a_tie_fires() -> None:
    assert fire(torch.tensor([-1e-7, -0.0, 0.0])).tolist() == [0, 1, 1]


def test_fire_can_be_differentiated_twice() -> None:
    u = torch.tensor([-0.3, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(fire(u).sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), u)
    p = torch.sigmoid(4 * u)
    torch.testing.assert_close(second, 16 * p * (1 - p) * (1 - 2 * p))


@pytest.mark.parametrize(
    ("name", "peer", "alpha"),
    [("sigmoid", "Sigmoid", 4.0), ("atan", "ATan", 2.0), ("piecewise_quadratic", "PiecewiseQuadratic", 1.0)],
)
def test_spikingjelly_has_the_same(name: str, peer: str, alpha: float) -> None:
    theirs = pytest.importorskip("spikingjelly.activation_based.surrogate")
    u = torch.linspace(-2, 2, 101, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(getattr(theirs, peer)(alpha=alpha)(u).sum(), u)
    (ours,) = torch.autograd.grad(fire(u, name, alpha).sum(), u)
    torch.testing.assert_close(ours, expected)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'step' is not one of sigmoid, atan"):
        surrogate_named("step")
