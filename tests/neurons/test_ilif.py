from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.models import Student
from tser_lightning.neurons import ILIF

D = 3


def test_by_hand() -> None:
    neuron = ILIF(max_spikes=2, decay=0.5, v_threshold=2.0)
    # H / 2 = 1.2 -> 1, V = 0.4; 0.2 + 0.4 -> 0, V = 0.6; 0.3 + 9 -> 2 of at most 2, V = 5.3; 2.65 - 9 -> 0
    assert neuron(torch.tensor([2.4, 0.4, 9.0, -9.0])).tolist() == [1, 0, 2, 0]


def test_equals_numpy_neuron_by_neuron() -> None:
    x = np.random.default_rng(0).normal(1, 2, (6, 200))
    expected, v = np.zeros_like(x), np.full(200, 0.3)
    for t in range(6):
        h = 0.25 * v + x[t]
        expected[t] = np.clip(np.round(h / 0.8), 0, D)
        v = h - 0.8 * expected[t]
    ours = ILIF(max_spikes=D, v_threshold=0.8, v_init=0.3)(torch.from_numpy(x))
    np.testing.assert_array_equal(ours.numpy(), expected)
    assert set(ours.unique().tolist()) == {0, 1, 2, 3}


def test_the_gradient_goes_straight_through_the_rounding_within_the_clip() -> None:
    x = torch.tensor([[-0.1, 0.2, 1.6, 2.9, 3.1]], dtype=torch.float64, requires_grad=True)
    ILIF(max_spikes=D, v_threshold=1.0)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("detach", [True, False])
def test_the_gradient_through_time(detach: bool) -> None:
    """What the first step leaves is decay H, less, unless detached, what its own spikes take: nothing is left."""
    x = torch.tensor([1.2, 1.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(ILIF(max_spikes=D, decay=0.25, detach_reset=detach)(x)[1], x)
    assert grad.tolist() == [0.25 if detach else 0.0, 1.0]


def binary_run(student: Student, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The same network with 0 and 1 alone: T D steps, each convolved by itself, of neurons that fire one by one."""
    layers: list[Any] = list(student.net.children())
    conv1, norm1, neuron1, conv2, norm2, neuron2, _, head = layers
    v = {neuron: torch.zeros(()) for neuron in (neuron1, neuron2)}
    seen, logits = [], []

    def fire(neuron: ILIF, current: Tensor) -> list[Tensor]:
        left, spikes = neuron.spec.decay * v[neuron] + current, []
        for _ in range(D):
            spikes.append((left >= neuron.spec.v_threshold / 2).to(left.dtype))
            left = left - neuron.spec.v_threshold * spikes[-1]
        v[neuron] = left
        return spikes

    for _ in range(student.timesteps):
        first = fire(neuron1, norm1(conv1(image)))
        second = fire(
            neuron2, norm2(torch.stack([F.conv2d(spikes, conv2.weight, padding=1) for spikes in first]).sum(0))
        )
        seen += [*first, *second]
        logits.append(torch.stack([F.linear(spikes.flatten(1), head.weight) for spikes in second]).sum(0) + head.bias)
    return torch.stack(logits), seen


def network() -> Student:
    layers = [
        nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), ILIF(max_spikes=D),
        nn.Conv2d(5, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), ILIF(max_spikes=D, v_threshold=0.25),
        nn.Flatten(), nn.Linear(4 * 36, 3),
    ]  # fmt: skip
    student = Student(nn.Sequential(*layers), timesteps=4).double()
    student(torch.randn(8, 2, 6, 6, dtype=torch.float64))
    return student.eval()


def test_the_run_of_numbers_is_the_binary_run_over_as_many_steps_as_there_may_be_spikes() -> None:
    student, image = network(), 2 * torch.randn(3, 2, 6, 6, dtype=torch.float64)
    put_out: list[Tensor] = []
    for layer in (module for module in student.modules() if isinstance(module, ILIF)):
        layer.register_forward_hook(
            lambda neuron, _, counts: put_out.append(neuron.in_binary_steps(counts.view(4, -1)))
        )
    logits_TBC = student(image)
    expected_TBC, spikes = binary_run(student, image)
    torch.testing.assert_close(logits_TBC, expected_TBC, rtol=1e-12, atol=1e-12)
    assert {value for each in spikes for value in each.unique().tolist()} == {0, 1}
    for at, ours in enumerate(put_out):
        theirs = [each.flatten() for t in range(4) for each in spikes[2 * D * t + D * at :][:D]]
        assert torch.equal(ours, torch.stack(theirs))
        assert 0.05 < ours.mean() < 0.95


def test_spikes_in_binary_steps_add_up_to_their_number() -> None:
    counts = torch.randint(D + 1, (2, 5, 4)).float()
    spikes = ILIF(max_spikes=D).in_binary_steps(counts)
    assert spikes.shape == (2 * D, 5, 4)
    assert torch.equal(spikes.view(2, D, 5, 4).sum(1), counts)
    assert all((before >= after).all() for before, after in pairwise(spikes.view(2, D, 5, 4).unbind(1)))


@pytest.mark.parametrize(
    ("settings", "words"), [({"max_spikes": 0}, "max_spikes=0 is below 1"), ({"decay": 2.0}, "decay=2.0")]
)
def test_what_cannot_work_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ILIF(**settings)  # type: ignore[arg-type]
