from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses import Entropy

LABELS_B = torch.zeros(4, dtype=torch.int64)
seeds = st.integers(0, 10_000)
taus = st.floats(0.5, 10)


def example(seed: int, scale: float = 3.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)


def value(student_TBC: Tensor, tau: float = 1.0) -> Tensor:
    entropy = Entropy(tau=tau)(student_TBC, None, LABELS_B)
    assert isinstance(entropy, Tensor)
    return entropy


@given(seed=seeds, tau=taus)
def test_equals_a_loop(seed: int, tau: float) -> None:
    student_TBC = example(seed)
    total = 0.0
    for row in student_TBC.flatten(0, 1).tolist():
        odds = [exp(logit / tau) for logit in row]
        total -= sum(odd / sum(odds) * log(odd / sum(odds)) for odd in odds)
    assert value(student_TBC, tau).item() == pytest.approx(total / 12, abs=1e-10)


@given(seed=seeds, scale=st.floats(0, 1e4))
def test_lies_between_zero_and_the_log_of_the_classes(seed: int, scale: float) -> None:
    assert -1e-12 <= value(example(seed, scale)).item() <= log(5) + 1e-12


def test_known_values() -> None:
    assert value(torch.zeros(2, 4, 10, dtype=torch.float64)).item() == pytest.approx(log(10), abs=1e-12)
    two_of_ten = torch.tensor([0.0, 0.0] + [-1e4] * 8).expand(2, 4, 10)
    assert value(two_of_ten).item() == pytest.approx(log(2), abs=1e-6)


@given(seed=seeds, tau=taus, lam=st.floats(1e-4, 0.2))
def test_gradient_of_the_regulariser_is_its_closed_form(seed: int, tau: float, lam: float) -> None:
    student_TBC = example(seed).requires_grad_()
    (-lam * value(student_TBC, tau)).backward()
    q_TBC = (student_TBC.detach() / tau).softmax(-1)
    entropy_TB1 = -(q_TBC * q_TBC.log()).sum(-1, keepdim=True)
    expected_TBC = lam / tau * q_TBC * (q_TBC.log() + entropy_TB1) / (3 * 4)
    torch.testing.assert_close(student_TBC.grad, expected_TBC, rtol=0, atol=1e-12)


@pytest.mark.parametrize("logits", [torch.zeros(5), torch.full((5,), 7.0), torch.tensor([1e4, 0, 0, -1e4, 0])])
def test_gradient_vanishes_at_uniform_and_at_one_hot(logits: Tensor) -> None:
    student_TBC = logits.double().repeat(3, 4, 1).requires_grad_()
    value(student_TBC).backward()
    torch.testing.assert_close(student_TBC.grad, torch.zeros(3, 4, 5, dtype=torch.float64), rtol=0, atol=1e-12)


@given(seed=seeds)
def test_a_step_down_the_regulariser_raises_the_entropy(seed: int) -> None:
    student_TBC = example(seed, scale=1.0).requires_grad_()
    before = value(student_TBC)
    (-before).backward()
    assert student_TBC.grad is not None
    assert value(student_TBC.detach() - 1e-2 * student_TBC.grad) > before


def test_gradient() -> None:
    assert torch.autograd.gradcheck(lambda z: value(z, tau=2.0), example(0).requires_grad_())


def test_a_bad_setting_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="entropy_tau"):
        Entropy(tau=0)
