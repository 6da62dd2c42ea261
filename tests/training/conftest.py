from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import SGD

from tser_lightning.data import Digits
from tser_lightning.losses import CrossEntropy, DistillationLoss, Entropy, KLDivergence
from tser_lightning.models import Student, resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training import Recipe, Teacher

Build = Callable[[], Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> Digits:
    augment = {"crop": 1, "flip": False, "auto": None, "cutout": 2}
    return Digits(10, [1, 8, 8], mean=[0.3], std=[0.4], augment=augment, batch_size=256)


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student(resnet_small(10, 1, LIF, widths=(4, 8)), 2)


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(1)
    return Teacher(resnet_small(10, 1, widths=(4, 8)))


@pytest.fixture
def tser() -> DistillationLoss:
    ce, kl = CrossEntropy(weight=0.5), KLDivergence(weight=0.5, tau=5.0)
    return DistillationLoss({"ce": ce, "kl": kl, "entropy": Entropy(weight=-0.01)})


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(epochs=2, optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4))
