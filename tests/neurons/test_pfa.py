import numpy as np
import pytest
import torch
from torch import nn

from tser_lightning.neurons import PFA, Clock


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("steps", [2, 4, 6])
def test_equals_the_published_equations(steps: int) -> None:
    torch.manual_seed(0)
    attention = PFA(3, timesteps=4, rank=2).double()
    nn.init.normal_(attention.weight)
    x = torch.randn(steps, 2, 3, 5, 4, dtype=torch.float64)
    p = {name: value.detach().numpy() for name, value in attention.named_parameters()}
    share = np.exp(p["weight"]) / np.exp(p["weight"]).sum()
    weight_of = [min(t, 3) for t in range(steps)]
    expected = np.zeros(x.shape)
    for b in range(2):
        image = x[:, b].numpy()
        pooled, flat = image.mean((2, 3)), np.pad(image.mean(1), ((0, 0), (1, 1), (1, 1)))
        total = np.zeros(image.shape)
        for r in range(2):
            space = np.full((5, 4), p["space.bias"][r])
            for t, h, w in np.ndindex(steps, 5, 4):
                space[h, w] += (p["space.weight"][r, weight_of[t]] * flat[t, h : h + 3, w : w + 3]).sum()
            time = pooled @ p["time.weight"][r] + p["time.bias"][r]
            channel = p["channel.weight"][r, weight_of] @ pooled + p["channel.bias"][r]
            product = np.einsum("t,c,hw->tchw", sigmoid(time), sigmoid(channel), sigmoid(space))
            total += share[r] * product
        expected[:, b] = np.maximum(total * image, 0)
    np.testing.assert_allclose(attention(x).detach().numpy(), expected, atol=1e-12)


def test_the_weights_of_the_ranks_are_trained_and_not_overwritten() -> None:
    attention, x = PFA(3, timesteps=2, rank=3), torch.randn(2, 4, 3, 5, 5)
    before = attention.weight.detach().clone()
    attention(x).square().sum().backward()
    assert torch.equal(attention.weight, before)
    for parameter in attention.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_folded_is_unfolded() -> None:
    attention, x = PFA(3, timesteps=2), torch.randn(2, 4, 3, 5, 5)
    expected = attention(x)
    attention.clock = Clock(steps=2)
    torch.testing.assert_close(attention(x.flatten(0, 1)), expected.flatten(0, 1))
    assert not attention.causal


def test_rank_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="rank=0"):
        PFA(3, rank=0)
