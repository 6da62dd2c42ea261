import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tser_lightning.measure import linear_cka, step_cka
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import LIF


def small_student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), LIF(), nn.Linear(12, 20), LIF(), nn.Linear(20, 5)), 4)


def images() -> Tensor:
    return 8 * torch.randn(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_cka_equals_its_definition_by_features() -> None:
    features_TND = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0))
    result = linear_cka(features_TND)
    x = features_TND.double().numpy()
    x = x - x.mean(1, keepdims=True)
    for s in range(3):
        for t in range(3):
            cross = np.linalg.norm(x[s].T @ x[t]) ** 2
            expected = cross / (np.linalg.norm(x[s].T @ x[s]) * np.linalg.norm(x[t].T @ x[t]))
            assert result[s, t].item() == pytest.approx(expected, rel=1e-5)


def test_cka_ignores_rotation_scale_and_shift() -> None:
    x_ND = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    assert linear_cka(torch.stack([x_ND, 3 * x_ND @ rotation + 1]))[0, 1].item() == pytest.approx(1, abs=1e-6)


def test_a_step_without_variance_has_no_alignment() -> None:
    assert math.isnan(linear_cka(torch.stack([torch.randn(5, 3), torch.ones(5, 3)]))[0, 1])


def test_each_layer_of_spikes_is_compared_with_itself_over_time() -> None:
    student = small_student().train()
    found = step_cka(student, images())
    with torch.no_grad():
        first_TBM = LIF()(student.get_submodule("net.1")(images().flatten(1)).expand(4, 30, 12))
    assert list(found) == ["2", "4"]
    torch.testing.assert_close(found["2"], linear_cka(first_TBM), equal_nan=True)
    assert student.training


def test_chosen_modules_and_those_that_have_no_time() -> None:
    assert list(step_cka(small_student(), images(), ["3"])) == ["3"]
    with pytest.raises(ValueError, match="before the first neuron"):
        step_cka(small_student(), images(), ["1"])
