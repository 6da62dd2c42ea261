from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.errors import UsageError
from tser_lightning.losses import CrossEntropy
from tser_lightning.losses.cross_entropy import cross_entropy
from tser_lightning.losses.log_probs import Over

Example = tuple[Tensor, Tensor]
OVERS: list[Over] = ["steps", "mean_logits", "mean_probs"]


def example(seed: int, steps: int = 3, images: int = 4, classes: int = 5) -> Example:
    draw = torch.Generator().manual_seed(seed)
    student_TBC = 3 * torch.randn(steps, images, classes, generator=draw, dtype=torch.float64)
    return student_TBC, torch.randint(classes, (images,), generator=draw)


def loop(student_TBC: Tensor, labels_B: Tensor, over: Over) -> float:
    """The mean over images (and steps) of -log p[label], number by number."""
    logits, labels = student_TBC.tolist(), labels_B.tolist()
    steps, images = len(logits), len(labels)

    def probability(row: list[float], label: int) -> float:
        return exp(row[label]) / sum(exp(value) for value in row)

    total = 0.0
    for b, label in enumerate(labels):
        rows = [logits[t][b] for t in range(steps)]
        if over == "steps":
            total += sum(-log(probability(row, label)) for row in rows) / steps
        elif over == "mean_logits":
            total += -log(probability([sum(column) / steps for column in zip(*rows, strict=True)], label))
        else:
            total += -log(sum(probability(row, label) for row in rows) / steps)
    return total / images


@pytest.mark.parametrize("over", OVERS)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5))
def test_equals_a_loop(over: Over, seed: int, steps: int) -> None:
    student_TBC, labels_B = example(seed, steps)
    found = CrossEntropy(over=over)(student_TBC, None, labels_B)
    assert found.item() == pytest.approx(loop(student_TBC, labels_B, over), abs=1e-10)


@pytest.mark.parametrize("over", OVERS)
def test_one_hot_distributions_are_class_indices(over: Over) -> None:
    student_TBC, labels_B = example(1)
    one_hot_BC = F.one_hot(labels_B, 5).double()
    term = CrossEntropy(over=over, label_smoothing=0.1)
    torch.testing.assert_close(term(student_TBC, None, one_hot_BC), term(student_TBC, None, labels_B))


@given(seed=st.integers(0, 10_000))
def test_the_mean_over_steps_is_at_least_the_cross_entropy_of_the_mean(seed: int) -> None:
    student_TBC, labels_B = example(seed)
    per_step = CrossEntropy(over="steps")(student_TBC, None, labels_B)
    for over in OVERS[1:]:
        assert per_step >= CrossEntropy(over=over)(student_TBC, None, labels_B) - 1e-12


def test_label_smoothing_and_soft_labels_equal_torch() -> None:
    student_TBC, labels_B = example(2, steps=1)
    found = CrossEntropy(label_smoothing=0.1)(student_TBC, None, labels_B)
    torch.testing.assert_close(found, F.cross_entropy(student_TBC[0], labels_B, label_smoothing=0.1))
    soft_BC = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(5), 4))
    torch.testing.assert_close(CrossEntropy()(student_TBC, None, soft_BC), F.cross_entropy(student_TBC[0], soft_BC))


@pytest.mark.parametrize("over", OVERS)
def test_gradient(over: Over) -> None:
    student_TBC, labels_B = example(3)
    term = CrossEntropy(over=over, label_smoothing=0.1)
    assert torch.autograd.gradcheck(lambda z: term(z, None, labels_B), student_TBC.requires_grad_())


def test_a_bad_setting_is_the_users_mistake() -> None:
    for settings in ({"weight": float("nan")}, {"label_smoothing": 1.0}, {"over": "time"}):
        with pytest.raises(UsageError):
            CrossEntropy(**settings)


def test_there_is_one_number_per_step_and_image() -> None:
    log_probs, labels_B = torch.randn(3, 2, 5).log_softmax(-1), torch.tensor([4, 0])
    found = cross_entropy(log_probs, labels_B)
    assert found.shape == (3, 2)
    assert found[1, 0] == -log_probs[1, 0, 4]
    assert cross_entropy(log_probs[0], labels_B).shape == (2,)
