from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses import KLDivergence
from tser_lightning.losses.log_probs import Over

OVERS: list[Over] = ["steps", "mean_logits", "mean_probs"]
LABELS_B = torch.zeros(4, dtype=torch.int64)
taus = st.floats(0.5, 10)
seeds = st.integers(0, 10_000)


def example(seed: int, steps: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    student_TBC = 3 * torch.randn(steps, 4, 5, generator=draw, dtype=torch.float64)
    return student_TBC, 3 * torch.randn(4, 5, generator=draw, dtype=torch.float64)


def softmax(row: list[float], tau: float) -> list[float]:
    odds = [exp(value / tau) for value in row]
    return [value / sum(odds) for value in odds]


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def loop(student_TBC: Tensor, teacher_BC: Tensor, over: Over, tau: float) -> float:
    """Eq. 5 number by number, without tau^2."""
    total = 0.0
    for b in range(4):
        rows = student_TBC[:, b].tolist()
        if over == "steps":
            students = [softmax(row, tau) for row in rows]
        elif over == "mean_logits":
            students = [softmax(mean(rows), tau)]
        else:
            students = [mean([softmax(row, tau) for row in rows])]
        teacher = softmax(teacher_BC[b].tolist(), tau)
        for student in students:
            total += sum(q * log(q / p) for q, p in zip(teacher, student, strict=True)) / len(students)
    return total / 4


@pytest.mark.parametrize("over", OVERS)
@given(seed=seeds, steps=st.integers(1, 5), tau=taus)
def test_equals_a_loop(over: Over, seed: int, steps: int, tau: float) -> None:
    student_TBC, teacher_BC = example(seed, steps)
    expected = loop(student_TBC, teacher_BC, over, tau)
    plain = KLDivergence(over=over, tau=tau, tau_squared=False)(student_TBC, teacher_BC, LABELS_B)
    squared = KLDivergence(over=over, tau=tau)(student_TBC, teacher_BC, LABELS_B)
    assert plain.item() == pytest.approx(expected, abs=1e-10)
    assert squared.item() == pytest.approx(tau**2 * expected, abs=1e-10)


@given(seed=seeds, tau=taus, tau_squared=st.booleans())
def test_gradient_on_the_student_is_the_difference_of_the_distributions(
    seed: int, tau: float, tau_squared: bool
) -> None:
    student_TBC, teacher_BC = example(seed)
    teacher_BC.requires_grad_()
    KLDivergence(tau=tau, tau_squared=tau_squared)(student_TBC.requires_grad_(), teacher_BC, LABELS_B).backward()
    difference_TBC = (student_TBC / tau).softmax(-1) - (teacher_BC / tau).softmax(-1)
    expected_TBC = (tau**2 if tau_squared else 1) * difference_TBC / tau / (3 * 4)
    torch.testing.assert_close(student_TBC.grad, expected_TBC, rtol=0, atol=1e-12)
    assert teacher_BC.grad is None


@pytest.mark.parametrize("over", OVERS)
def test_gradient(over: Over) -> None:
    student_TBC, teacher_BC = example(0)
    term = KLDivergence(over=over, tau=2)
    assert torch.autograd.gradcheck(lambda z: term(z, teacher_BC, LABELS_B), student_TBC.requires_grad_())


def test_a_bad_setting_is_the_users_mistake() -> None:
    for settings in ({"tau": 0}, {"tau": float("nan")}, {"over": "logits"}):
        with pytest.raises(UsageError):
            KLDivergence(**settings)
