from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.losses import WSLD


def softmax(row: list[float], tau: float) -> list[float]:
    odds = [exp(value / tau) for value in row]
    return [odd / sum(odds) for odd in odds]


def soft_cross_entropy(target: list[float], row: list[float], tau: float) -> float:
    return -sum(q * log(p) for q, p in zip(target, softmax(row, tau), strict=True) if q)


def loop(student_TBC: Tensor, teacher_BC: Tensor, targets: list[list[float]], tau: float) -> float:
    total = 0.0
    for b, target in enumerate(targets):
        student = student_TBC[:, b].mean(0).tolist()
        teacher = teacher_BC[b].tolist()
        ratio = soft_cross_entropy(target, student, 1) / soft_cross_entropy(target, teacher, 1)
        total += (1 - exp(-ratio)) * soft_cross_entropy(softmax(teacher, tau), student, tau)
    return tau**2 * total / len(targets)


@given(seed=st.integers(0, 10_000), tau=st.floats(0.5, 8))
def test_equals_a_loop(seed: int, tau: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    student_TBC = 3 * torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)
    teacher_BC = 3 * torch.randn(4, 5, generator=draw, dtype=torch.float64)
    labels_B = torch.randint(5, (4,), generator=draw)
    one_hot = F.one_hot(labels_B, 5).double()
    found = WSLD(tau=tau)(student_TBC, teacher_BC, labels_B)
    assert found.item() == pytest.approx(loop(student_TBC, teacher_BC, one_hot.tolist(), tau), abs=1e-10)
    mixed_BC = 0.7 * one_hot + 0.3 * one_hot.flip(0)
    found = WSLD(tau=tau)(student_TBC, teacher_BC, mixed_BC)
    assert found.item() == pytest.approx(loop(student_TBC, teacher_BC, mixed_BC.tolist(), tau), abs=1e-10)


def test_the_weights_and_the_teacher_get_no_gradient() -> None:
    student_TBC = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher_BC = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels_B = torch.tensor([0, 1, 2])
    WSLD()(student_TBC, teacher_BC, labels_B).backward()
    mean_BC = student_TBC.detach().mean(0)
    ratio_B = F.cross_entropy(mean_BC, labels_B, reduction="none") / F.cross_entropy(
        teacher_BC.detach(), labels_B, reduction="none"
    )
    difference_BC = (mean_BC / 2).softmax(-1) - (teacher_BC.detach() / 2).softmax(-1)
    # 4 (tau^2) / 2 (tau) / 3 (images) / 2 (steps)
    expected_BC = 4 / 2 / 3 / 2 * (1 - (-ratio_B).exp())[:, None] * difference_BC
    torch.testing.assert_close(student_TBC.grad, expected_BC.expand(2, 3, 4))
    assert teacher_BC.grad is None


def test_a_teacher_that_is_certain_and_right_weighs_one() -> None:
    teacher_BC = torch.tensor([[1e4, 0.0, 0.0]])
    student_TBC = torch.tensor([[[0.0, 1.0, 2.0]]])
    found = WSLD()(student_TBC, teacher_BC, torch.tensor([0]))
    torch.testing.assert_close(found, 4 * F.cross_entropy(student_TBC[0] / 2, torch.tensor([0])))
    assert WSLD()(teacher_BC[None], teacher_BC, torch.tensor([0])).isfinite()
