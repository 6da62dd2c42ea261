import numpy as np
import pytest
import torch
from torch import nn

from tser_lightning.neurons import GLIF, Clock

# Our names, and SpikingJelly's.
PARAMETERS = {
    "alpha": "alpha",
    "beta": "beta",
    "gamma": "gamma",
    "decay": "tau",
    "v_threshold": "v_threshold",
    "v_reset": "v_subreset",
    "leak": "linear_decay",
    "conductance": "conduct",
}


def shaken(channels: int | None, timesteps: int = 4, **settings: str) -> GLIF:
    """A GLIF in float64 with parameters all over the place."""
    neuron = GLIF(channels, timesteps=timesteps, **settings).double()  # type: ignore[arg-type]
    for parameter in neuron.parameters():
        nn.init.normal_(parameter, std=1.0)
    return neuron


@pytest.mark.parametrize("steps", [2, 4, 7])
@pytest.mark.parametrize("channels", [None, 3])
def test_equals_the_published_equations(channels: int | None, steps: int) -> None:
    neuron, x = shaken(channels), 2 * torch.randn(steps, 2, 3, 2, dtype=torch.float64)
    p = {name: 1 / (1 + np.exp(-value.detach().numpy())) for name, value in neuron.named_parameters()}
    expected = np.zeros(x.shape)
    for b, c, n in np.ndindex(*x.shape[1:]):
        q = {name: value if channels is None else value[..., c] for name, value in p.items()}
        u = s = 0.0
        for t in range(steps):
            g = q["conductance"][min(t, 3)]
            current = x[t, b, c, n].item() * (1 - q["beta"] * (1 - g))
            exponential = (1 - q["alpha"] * (1 - q["decay"])) * u * (1 - q["gamma"] * s)
            u = exponential - (1 - q["alpha"]) * q["leak"] + current - (1 - q["gamma"]) * q["v_reset"] * s
            s = float(u >= q["v_threshold"])
            expected[t, b, c, n] = s
    np.testing.assert_array_equal(neuron(x).detach().numpy(), expected)
    assert 0 < expected.mean() < 1


def test_spikingjelly_has_the_same_spikes_and_gradients() -> None:
    peers = pytest.importorskip("spikingjelly.activation_based.neuron")
    ours, theirs = shaken(3, surrogate="sigmoid"), peers.GatedLIFNode(T=4, inplane=3).double()
    for name, peer in PARAMETERS.items():
        getattr(theirs, peer).data.copy_(getattr(ours, name).data)
    x = torch.randn(4, 2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn_like(x)
    expected = theirs(x)
    spikes = ours(x)
    assert torch.equal(spikes, expected)
    our_grads = torch.autograd.grad(spikes, [x, *(getattr(ours, name) for name in PARAMETERS)], cotangent)
    their_grads = torch.autograd.grad(
        expected, [x, *(getattr(theirs, peer) for peer in PARAMETERS.values())], cotangent
    )
    for grad, peer_grad in zip(our_grads, their_grads, strict=True):
        torch.testing.assert_close(grad, peer_grad)


def test_starts_as_published() -> None:
    torch.manual_seed(0)
    neuron = GLIF(50, timesteps=5)
    start = {name: value.sigmoid() for name, value in neuron.named_parameters()}
    assert sorted(start) == sorted(PARAMETERS)
    for name, value in {"decay": 0.25, "v_threshold": 0.5, "v_reset": 0.5, "leak": 0.05, "conductance": 0.5}.items():
        torch.testing.assert_close(start[name], torch.full_like(start[name], value))
    for gate in GLIF.lr_scales:
        assert ((start[gate] - 0.5).abs() < 0.026).all()
        assert start[gate].unique().numel() > 25


def test_while_streaming_each_step_has_its_own_conductance() -> None:
    neuron, currents = shaken(3), torch.randn(6, 2, 3, dtype=torch.float64)
    expected = neuron(currents)
    carry: dict[object, object] = {}
    for t, current in enumerate(currents):
        neuron.clock = Clock(steps=1, first=t, carry=carry)  # type: ignore[arg-type]
        assert torch.equal(neuron(current), expected[t])


@pytest.mark.parametrize("name", ["decay", "v_threshold", "leak", "conductance"])
def test_what_a_sigmoid_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=1.0 is not between 0 and 1"):
        GLIF(2, **{name: 1.0})  # type: ignore[arg-type]
