import math
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from tser_lightning.training.schedule import Constant, Cosine, OneCycle, Schedule


def rates(schedule: Schedule, epochs: int, steps_per_epoch: int, lr: float = 0.1) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = schedule(optimizer, epochs=epochs, steps_per_epoch=steps_per_epoch)
    seen = []
    for _ in range(epochs * steps_per_epoch):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_cosine_equals_torchs() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = CosineAnnealingLR(optimizer, T_max=20, eta_min=0.001)
    expected = []
    for _ in range(21):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(Cosine(final_lr=0.001), epochs=5, steps_per_epoch=4) == pytest.approx(expected, abs=1e-12)


def test_warm_up_rises_in_a_line_and_the_cosine_follows() -> None:
    seen = rates(Cosine(warmup_epochs=2), epochs=4, steps_per_epoch=3)
    assert seen[:6] == pytest.approx([0.1 * (step + 1) / 7 for step in range(6)])
    assert seen[6] == pytest.approx(0.1)
    assert seen[9] == pytest.approx(0.1 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert seen[12] == pytest.approx(0.0)


def test_a_cosine_that_cools_down_is_timms_with_as_many_epochs_more() -> None:
    scheduler = pytest.importorskip("timm.scheduler").CosineLRScheduler
    theirs = scheduler(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5), t_initial=6, lr_min=0.01, cycle_limit=1)
    expected = []
    for epoch in range(9):
        theirs.step(epoch)
        expected.append(theirs.optimizer.param_groups[0]["lr"])
    assert expected[6:] == [0.01] * 3
    seen = rates(Cosine(final_lr=0.01, cooldown_epochs=3), epochs=9, steps_per_epoch=1, lr=0.5)
    assert seen[:9] == pytest.approx(expected)


def test_constant_stays() -> None:
    expected = [0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.1]
    assert rates(Constant(warmup_epochs=1), epochs=2, steps_per_epoch=2) == pytest.approx(expected)


def test_every_group_ends_at_the_final_rate() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": weights[:1]}, {"params": weights[1:], "lr": 0.01}]
    optimizer = SGD(groups, lr=0.1)
    scheduler = Cosine(final_lr=0.001)(optimizer, epochs=1, steps_per_epoch=5)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.001])


def test_one_cycle_rises_to_the_rate_of_the_optimiser_and_falls_to_almost_nothing() -> None:
    seen = rates(OneCycle(rising=0.25), epochs=4, steps_per_epoch=10)
    peak = max(range(len(seen)), key=seen.__getitem__)
    assert seen[0] == pytest.approx(0.1 / 25)
    assert seen[peak] == pytest.approx(0.1)
    assert peak == 9  # a quarter of 40 steps, less one
    assert seen[5] == pytest.approx(0.004 + (0.1 - 0.004) * (1 - math.cos(math.pi * 5 / 9)) / 2)
    assert seen[-2] == pytest.approx(0.1 / 25 / 1e4)
