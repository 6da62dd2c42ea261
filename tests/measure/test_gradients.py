import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tser_lightning.measure import cosines, gradient_cosines
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import LIF

T, B = 3, 8
TEACHER_BC = 3 * torch.randn(B, 5, generator=torch.Generator().manual_seed(1))


def small_student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), LIF(), nn.Linear(12, 20), LIF(), nn.Linear(20, 5)), T)


def images() -> Tensor:
    return 8 * torch.randn(B, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def kl(student_BC: Tensor) -> Tensor:
    return F.kl_div(student_BC.log_softmax(-1), TEACHER_BC.log_softmax(-1), log_target=True, reduction="batchmean")


def averaged(logits_TBC: Tensor) -> Tensor:
    return kl(logits_TBC.mean(0))


def separated(logits_TBC: Tensor) -> Tensor:
    return torch.stack([kl(logits_BC) for logits_BC in logits_TBC]).mean()


def test_cosines_by_hand() -> None:
    result = cosines(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    assert result[0, 1].item() == pytest.approx(0.6)
    assert result[0, 0].item() == result[1, 1].item() == 1
    assert math.isnan(result[0, 2])


def test_averaged_logits_give_every_step_the_same_gradient_and_separated_ones_do_not() -> None:
    together = gradient_cosines(small_student(), averaged, images())["logits"]
    apart = gradient_cosines(small_student(), separated, images())["logits"]
    assert torch.equal(together, torch.ones(T, T, dtype=torch.float64))
    assert apart.min() < 1


def test_currents_get_the_gradient_that_autograd_gives_an_unrolled_network() -> None:
    student = small_student()
    found = gradient_cosines(student, separated, images())
    linear1, linear2, linear3 = (student.get_submodule(f"net.{i}") for i in (1, 3, 5))
    first = linear1(images().flatten(1)).expand(T, B, 12).clone().detach().requires_grad_()
    second = linear2(LIF()(first))
    logits_TBC = linear3(LIF()(second))
    by_hand = torch.autograd.grad(separated(logits_TBC), [first, second, logits_TBC])
    assert list(found) == ["2", "4", "logits"]
    for gradient, value in zip(by_hand, found.values(), strict=True):
        torch.testing.assert_close(value, cosines(gradient))


def test_nothing_is_left_behind() -> None:
    student = small_student().train()
    with torch.inference_mode():
        gradient_cosines(student, separated, images().clone())
    assert all(parameter.grad is None for parameter in student.parameters())
    assert student.training
    assert not any(module._forward_pre_hooks for module in student.modules())
