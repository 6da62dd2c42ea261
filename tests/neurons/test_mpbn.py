import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tser_lightning.neurons import MPBN


def shaken(channels: int = 3) -> MPBN:
    """An MPBN in float64 whose norm has statistics and weights all over the place, one weight below 0 and one 0."""
    neuron = MPBN(channels).double()
    norm = neuron.norm
    assert norm is not None
    nn.init.normal_(norm.weight)
    norm.weight.data[:2] = torch.tensor([-0.7, 0.0])
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.3, 2.0)  # type: ignore[arg-type]
    return neuron


def by_hand(x: np.ndarray, norm: nn.BatchNorm2d, training: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spikes of [T, B, C, N] and the running statistics after them."""
    weight, bias, mean, var = (
        values.detach().numpy().copy()  # type: ignore[union-attr]
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    mem, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape)
    for t in range(len(x)):
        mem = 0.25 * mem + x[t]
        for c in range(x.shape[2]):
            m, v = (mem[:, c].mean(), mem[:, c].var()) if training else (mean[c], var[c])
            normalised = (mem[:, c] - m) / np.sqrt(v + 1e-5) * weight[c] + bias[c]
            spikes[t, :, c] = normalised >= 0.5
            if training:
                mean[c] = 0.9 * mean[c] + 0.1 * m
                var[c] = 0.9 * var[c] + 0.1 * mem[:, c].var(ddof=1)
        mem = mem * (1 - spikes[t])
    return spikes, mean, var


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_published_equations(training: bool) -> None:
    neuron, x = shaken().train(training), torch.randn(5, 8, 3, 6, dtype=torch.float64)
    assert neuron.norm is not None
    expected, mean, var = by_hand(x.numpy(), neuron.norm, training)
    np.testing.assert_array_equal(neuron(x).detach().numpy(), expected)
    np.testing.assert_allclose(neuron.norm.running_mean, mean)  # type: ignore[arg-type]
    np.testing.assert_allclose(neuron.norm.running_var, var)  # type: ignore[arg-type]
    assert 0 < expected.mean() < 1


def straight_through(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """The same in training with the normalised tanh on [0, 1] behind the step."""
    mem, spikes = torch.zeros_like(x[0]), []
    for current in x:
        mem = 0.25 * mem + current
        normalised = nn.functional.batch_norm(mem, None, None, norm.weight, norm.bias, training=True)
        ramp = torch.tanh(3 * (normalised.clamp(0, 1) - 0.5))
        s = (
            ((normalised >= 0.5).double() - ramp).detach()
            + ramp / (2 * np.tanh(1.5))
            + (1 - 1 / (2 * np.tanh(1.5))) * (ramp.detach())
        )
        spikes.append(s)
        mem = mem * (1 - s)
    return torch.stack(spikes)


def test_gradients_are_those_of_the_public_code() -> None:
    neuron, x = shaken(), torch.randn(4, 8, 3, 6, dtype=torch.float64, requires_grad=True)
    assert neuron.norm is not None
    cotangent, inputs = torch.randn_like(x), (x, neuron.norm.weight, neuron.norm.bias)
    ours = torch.autograd.grad(neuron(x), inputs, cotangent)
    for grad, expected in zip(
        ours, torch.autograd.grad(straight_through(x, neuron.norm), inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folded_into_thresholds_the_spikes_are_equal(dtype: torch.dtype) -> None:
    neuron, x = shaken().to(dtype).eval(), torch.randn(4, 50, 3, 10, 10, dtype=dtype)
    with torch.no_grad():
        expected = neuron(x)
        neuron.fold_norm()
        folded = neuron(x)
    assert torch.equal(folded, expected)
    assert not list(neuron.parameters())
    assert sorted(neuron.state_dict()) == ["slope", "threshold"]
    # The membrane's own threshold: weight below 0 turns it round, weight 0 makes it all or nothing.
    fires = torch.stack([neuron(v.expand(1, 1, 3))[0, 0] for v in torch.linspace(-40, 40, 9, dtype=dtype)])
    assert [fires[0, 0].item(), fires[-1, 0].item()] == [1, 0]
    assert fires[:, 1].unique().numel() == 1


def test_in_eval_mode_there_are_gradients() -> None:
    neuron, x = shaken().eval(), torch.randn(4, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    neuron(x).sum().backward()
    for tensor in (x, *neuron.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_takes_features_without_space() -> None:
    assert MPBN(3)(torch.randn(4, 5, 3)).shape == (4, 5, 3)


def test_needs_the_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"MPBN\(channels\)"):
        MPBN()


def test_the_thresholds_are_those_of_batchnorm_where_the_variance_is_as_small_as_its_eps() -> None:
    neuron = MPBN(1).eval()
    assert neuron.norm is not None
    neuron.norm.running_var.fill_(neuron.norm.eps)  # type: ignore[union-attr]
    at, slope = neuron.thresholds()
    membrane = at.detach().view(1, 1, 1, 1)
    assert neuron.norm(membrane).item() == pytest.approx(neuron.spec.v_threshold, rel=1e-5)
    moved = neuron.norm(membrane + 1e-3) - neuron.norm(membrane)
    assert moved.item() == pytest.approx(1e-3 * slope.item(), rel=1e-3)
