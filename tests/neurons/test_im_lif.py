import numpy as np
import pytest
import torch
from torch import nn

from tser_lightning.neurons import IMLIF, LIF


def test_equals_its_equations() -> None:
    neuron, x = IMLIF().double(), torch.randn(5, 2, 3, 4, dtype=torch.float64)
    nn.init.normal_(neuron.weight)
    weight, bias = neuron.weight.detach().numpy(), neuron.bias.item()
    expected = np.zeros(x.shape)
    for b in range(2):
        current, v = np.zeros((3, 4)), np.zeros((3, 4))
        for t in range(5):
            image = x[t, b].numpy()
            a = 1 / (1 + np.exp(-(weight[0] * image.mean() + weight[1] * current.mean() + bias)))
            current = image + a * current
            v = 0.5 * v + 0.5 * current
            expected[t, b] = v >= 1
            v = v * (v < 1)
    np.testing.assert_array_equal(neuron(x).detach().numpy(), expected)
    assert 0 < expected.mean() < 1


def test_the_first_step_is_lif() -> None:
    x = 2 * torch.randn(3, 4, 5)
    assert torch.equal(IMLIF()(x)[0], LIF()(x)[0])


def test_attention_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"attention=0\.0 is not between 0 and 1"):
        IMLIF(attention=0.0)


def test_its_other_settings_are_those_of_lif() -> None:
    x = 2 * torch.randn(3, 4, 5)
    settings: dict[str, float | str] = {"v_threshold": 0.3, "reset": "soft", "decay": 0.9}
    ours, theirs = IMLIF(**settings), LIF(**settings)  # type: ignore[arg-type]
    assert torch.equal(ours(x)[0], theirs(x)[0])
    assert not torch.equal(ours(x)[0], IMLIF()(x)[0])
    assert torch.equal(IMLIF(4, surrogate="atan")(x), IMLIF()(x))
