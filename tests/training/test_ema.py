"""The moving average of the weights, against a loop written by hand."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tser_lightning.data import Digits
from tser_lightning.losses import DistillationLoss
from tser_lightning.models import Student
from tser_lightning.training import Machine, Recipe, Teacher, evaluate_network, fit
from tser_lightning.training.ema import EMA

DECAY = 0.4  # reached within the few steps here
CPU = Machine(accelerator="cpu", workers=0)


class Weights(Callback):
    """Keeps the student's own weights after every step."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        if trainer.global_step > len(self.after):  # batches are accumulated
            self.after.append(copy.deepcopy(pl_module.student.state_dict()))


def by_hand(steps: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = {name: value.double() for name, value in steps[0].items()}
    for before, weights in enumerate(steps[1:], start=1):
        now = min(decay, (1 + before) / (10 + before))
        for name, value in weights.items():
            average[name] = now * average[name] + (1 - now) * value.double()
    return average


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_what_is_kept_and_the_student_trains_on_as_without_it(
    student: Student,
    teacher: Teacher,
    tser: DistillationLoss,
    digits: Digits,
    recipe: Recipe,
    tmp_path: Path,
    accumulate: int,
) -> None:
    seen = {}
    for ema in (None, DECAY):
        trained, weights = copy.deepcopy(student), Weights()
        how = dataclasses.replace(recipe, ema=ema, accumulate=accumulate)
        folder = tmp_path / str(ema)
        fit(trained, tser, teacher, digits, folder, recipe=how, machine=CPU, selection="last", callbacks=[weights])
        seen[ema] = trained.state_dict(), weights.after
    (plain, steps), (averaged, steps_too) = seen.values()
    for one, other in zip(steps, steps_too, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(plain[name], steps[-1][name]) for name in plain)
    expected = by_hand(steps, DECAY)
    for name, value in averaged.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(value, steps[-1][name])
    moved = [name for name in plain if plain[name].is_floating_point() and not torch.equal(plain[name], averaged[name])]
    assert any("running_var" in name for name in moved)
    assert any("weight" in name for name in moved)


def test_the_average_is_what_is_validated_and_selected(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    rows: list[Any] = []
    how = dataclasses.replace(recipe, ema=0.5, epochs=3)
    fit(student, tser, teacher, digits, tmp_path, recipe=how, machine=CPU, record=rows.append)
    best = max(row["val/acc"] for row in rows)
    assert evaluate_network(student, None, digits, "val", machine=CPU)["acc"] == best
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(kept[f"student.{name}"], value) for name, value in student.state_dict().items())
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    own, average = last["state_dict"], last["average"]["network"]
    assert not torch.equal(own["student.net.fc.weight"], average["net.fc.weight"])


def test_whole_numbers_are_those_of_the_last_step_and_an_exchange_undoes_itself() -> None:
    network = nn.BatchNorm1d(2)
    network.register_buffer("index", torch.tensor([5, 123456789]))
    ema = EMA(network, 0.999)
    for _ in range(3):
        network(torch.randn(4, 2))
        ema.update(network)
    own = copy.deepcopy(network.state_dict())
    ema.exchange(network)
    assert network.get_buffer("index").tolist() == [5, 123456789]
    assert int(network.get_buffer("num_batches_tracked")) == 3
    assert not torch.equal(network.get_buffer("running_mean"), own["running_mean"])
    ema.exchange(network)
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_a_large_decay_over_few_steps_forgets_the_first_weights_and_goes_on_exactly() -> None:
    network = nn.Linear(1, 1)
    ema, steps = EMA(network, 0.999), []
    for step in range(50):
        nn.init.constant_(network.weight, float(step))
        ema.update(network)
        steps.append(copy.deepcopy(network.state_dict()))
        if step == 20:
            later = EMA(nn.Linear(1, 1), 0.999)
            later.load(copy.deepcopy(ema.state()))
            ema = later
    mean = ema.network["weight"].double()
    torch.testing.assert_close(mean, by_hand(steps, 0.999)["weight"], rtol=1e-6, atol=0.0)
    assert mean > 40  # of 0 to 49
