import itertools
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


def slow_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The unbiased estimator as Song et al. define it: means over distinct images, by loops."""
    n = len(k)
    pairs = triples = quadruples = 0.0
    for i, j in itertools.permutations(range(n), 2):
        pairs += k[i, j] * m[i, j]
    for i, j, q in itertools.permutations(range(n), 3):
        triples += k[i, j] * m[i, q]
    for i, j, q, r in itertools.permutations(range(n), 4):
        quadruples += k[i, j] * m[q, r]
    return float(pairs / math.perm(n, 2) - 2 * triples / math.perm(n, 3) + quadruples / math.perm(n, 4))


def test_cka_equals_the_unbiased_definition_by_loops() -> None:
    x = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0))
    x[1] += x[0]
    grams = [step @ step.T for step in x.double().numpy()]
    result = linear_cka(x)
    for s in range(3):
        for t in range(3):
            own = slow_hsic(grams[s], grams[s]) * slow_hsic(grams[t], grams[t])
            assert result[s, t].item() == pytest.approx(slow_hsic(grams[s], grams[t]) / math.sqrt(own), abs=1e-5)


@pytest.mark.parametrize("features", [512, 8192])
def test_layers_that_have_nothing_in_common_give_about_0_and_the_same_layer_1(features: int) -> None:
    x = (torch.rand(2, 256, features, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    result = linear_cka(torch.cat([x, x[:1]]))
    assert abs(result[0, 1].item()) < 0.05
    assert result[0, 2].item() == pytest.approx(1, abs=1e-6)


def test_fewer_than_four_images_have_no_estimate() -> None:
    assert linear_cka(torch.randn(2, 3, 5)).isnan().all()


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
