"""Memory is counted by hand; a small machine measures the same in smaller batches."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tser_lightning as tl
from tser_lightning.data import Synthetic
from tser_lightning.errors import UsageError
from tser_lightning.training import Machine, Teacher, evaluation_memory
from tser_lightning.training.evaluation_memory import PeakMemory, available_memory, bound_evaluation, images_that_fit

KILO = 1000 * 4  # bytes of 1,000 floats


def test_the_peak_is_that_of_what_is_alive_together() -> None:
    x = torch.ones(1000)
    with PeakMemory() as memory:
        a = x + 1
        b = a * 2
        assert memory.now == 2 * KILO
        del a
        assert memory.now == KILO
        view = b.view(10, 100).T
        del b
        assert memory.now == KILO
        del view
        assert (memory.now, memory.peak) == (0, 2 * KILO)


def test_what_a_backward_pass_needs_counts() -> None:
    x = torch.ones(1000, requires_grad=True)
    with PeakMemory() as memory:
        y = x.exp().exp().exp()  # each keeps its own output
        assert memory.now == 3 * KILO
        del y
    assert memory.now == 0


def test_so_many_images_fit_as_half_of_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_memory, "available_memory", lambda device: 100 * KILO)
    images, cpu = torch.ones(4, 1, 10, 100), torch.device("cpu")
    assert images_that_fit(lambda x: x + 1, images, cpu) == 50
    assert images_that_fit(lambda x: (x + 1) * (x + 2), images, cpu, processes=2) == 100 // (2 * 3 * 2)
    assert images_that_fit(lambda x: torch.ones(10**6), images, cpu) == 1


def test_this_machine_has_some_memory() -> None:
    assert 2**20 < available_memory(torch.device("cpu")) < 2**50


def _data(**settings: Any) -> Synthetic:
    return Synthetic(4, [1, 8, 8], train_images=40, test_images=30, **settings)


def test_evaluation_takes_what_fits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    student = tl.build_student("resnet_small", num_classes=4, in_channels=1, widths=[4, 8], timesteps=2)
    state = {name: value.clone() for name, value in student.state_dict().items()}
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    data = _data(eval_batch_size=20)
    bound_evaluation(student, teacher, data, Machine(accelerator="cpu"))
    assert data.eval_batch_size == 20
    assert not caplog.text
    monkeypatch.setattr(evaluation_memory, "available_memory", lambda device: 10**5)
    bound_evaluation(student, teacher, data, Machine(accelerator="cpu"))
    assert 1 <= data.eval_batch_size < 20
    assert f"evaluation takes {data.eval_batch_size} images at a time" in caplog.text
    assert all(torch.equal(state[name], value) for name, value in student.state_dict().items())


class Plain(nn.Module):
    """No neuron of ours in it."""

    timesteps = 2

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return torch.stack([logits, logits])


def test_a_student_that_cannot_be_measured_is_a_mistake_before_the_training() -> None:
    with pytest.raises(UsageError, match="cannot be measured: this network has no neuron"):
        bound_evaluation(Plain(), None, _data(), Machine(accelerator="cpu"))
