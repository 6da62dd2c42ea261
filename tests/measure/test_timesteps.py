import pytest
import torch
from torch import Tensor, nn

from tser_lightning.measure import accuracy_at_timesteps
from tser_lightning.models.student import Student
from tser_lightning.neurons.clock import OverTime
from tser_lightning.neurons.neuron import LIF

T = 2


class Ahead(OverTime):
    """Shows every step the mean of all."""

    causal = False

    def forward(self, x: Tensor) -> Tensor:
        x_TB = self.unfold(x)
        return self.fold(0.5 * x_TB + x_TB.mean(0, keepdim=True))


def student_with(module: nn.Module) -> Student:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), LIF(), module, nn.Linear(12, 20), LIF(), nn.Linear(20, 3))
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(6)  # or the deeper layer would hardly fire
    return Student(net, T)


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (2 * torch.randn(n, 1, 4, 4, generator=generator), torch.randint(3, (n,), generator=generator))
        for n in (40, 27)
    ]


@pytest.mark.parametrize("module", [nn.Identity(), Ahead()])
def test_each_number_of_steps_counts_as_a_run_of_its_own(module: nn.Module) -> None:
    student = student_with(module)
    curve = accuracy_at_timesteps(student, batches())
    assert list(curve) == [1, 2, 3, 4]
    assert len(set(curve.values())) > 1
    for steps, accuracy in curve.items():
        student.timesteps = steps
        right = sum((student(x).mean(0).argmax(-1) == labels).sum().item() for x, labels in batches())
        assert accuracy == pytest.approx(100 * right / 67)


def test_the_student_keeps_its_own_number_of_steps() -> None:
    student = student_with(nn.Identity()).train()
    assert list(accuracy_at_timesteps(student, batches(), longest=3)) == [1, 2, 3]
    assert (student.timesteps, student.training) == (T, True)


def test_frames_and_no_images_are_refused() -> None:
    student = student_with(nn.Identity())
    with pytest.raises(ValueError, match="frames"):
        accuracy_at_timesteps(student, [(torch.randn(2, 3, 1, 4, 4), torch.zeros(3))])
    with pytest.raises(ValueError, match="no images"):
        accuracy_at_timesteps(student, [])
