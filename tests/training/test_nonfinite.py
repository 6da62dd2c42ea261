import torch
from torch import Tensor, nn

from tser_lightning.models import Student
from tser_lightning.neurons import LIF
from tser_lightning.training.nonfinite import first_nonfinite


class BreaksAt(nn.Module):
    """Divides by zero in one row of [T*B, ...]."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.row = row

    def forward(self, folded: Tensor) -> Tensor:
        rows = torch.arange(len(folded)).reshape(-1, *[1] * (folded.ndim - 1))
        return torch.where(rows == self.row, folded / 0, folded)


def network(row: int) -> Student:
    layers = [nn.Conv2d(1, 2, 3), LIF(), nn.Conv2d(2, 2, 3), BreaksAt(row), nn.Flatten(), nn.Linear(32, 3)]
    return Student(nn.Sequential(*layers), 4)


def test_the_layer_and_the_step_that_break_first_are_named() -> None:
    images = torch.randn(5, 1, 8, 8)
    student = network(row=13)  # of 4 * 5: step 3
    assert first_nonfinite(student, images) == "the output of net.3 at step 3 of 4"
    assert not any(module._forward_hooks for module in student.modules())
    assert first_nonfinite(network(row=99), images) is None


def test_images_and_parameters_come_first() -> None:
    images, student = torch.randn(5, 1, 8, 8), network(row=0)
    with torch.no_grad():
        student.net[2].bias[1] = float("inf")  # type: ignore[index]
    assert first_nonfinite(student, images) == "the parameter net.2.bias"
    images[0, 0, 0, 0] = float("nan")
    assert first_nonfinite(student, images) == "the images"
