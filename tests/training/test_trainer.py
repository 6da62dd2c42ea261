import copy
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import SGD

from tser_lightning.data import Digits
from tser_lightning.errors import RunError, UsageError
from tser_lightning.losses import DistillationLoss, LossTerms
from tser_lightning.models import Student
from tser_lightning.termination import Terminated
from tser_lightning.training import Machine, Recipe, SingleStep, Teacher, evaluate_network, fit
from tser_lightning.training.schedule import Constant

CPU = Machine(accelerator="cpu", workers=0)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_the_student_learns_and_the_teacher_does_not_change(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    before = copy.deepcopy(teacher)
    untrained = copy.deepcopy(student)
    rows: list[Any] = []
    numbers = fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=CPU, record=rows.append)
    assert same(teacher, before)
    assert not same(student, untrained)
    assert [row["epoch"] for row in rows] == [0, 1]
    last = rows[-1]
    assert last["train/loss"] < rows[0]["train/loss"]
    total = 0.5 * last["train/ce"] + 0.5 * last["train/kl"] - 0.01 * last["train/entropy"]
    assert last["train/loss"] == pytest.approx(total, rel=1e-5)
    assert {"val/acc", "val/acc_t1", "val/acc_t2", "val/acc_step2"} <= set(last)
    assert numbers["train/seconds"] > 0
    assert numbers["train/peak_memory_mb"] > 0


def test_the_selected_epoch_is_the_one_with_the_best_validation_accuracy(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    rows: list[Any] = []
    longer = dataclasses.replace(recipe, epochs=4)
    fit(student, tser, teacher, digits, tmp_path, recipe=longer, machine=CPU, record=rows.append)
    scored = evaluate_network(student, None, digits, "val", machine=CPU)
    assert scored["acc"] == max(row["val/acc"] for row in rows)


def test_the_fields_habit_selects_the_best_test_epoch_and_names_it_so(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    rows: list[Any] = []
    fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=CPU, selection="paper", record=rows.append)
    assert not any(name.startswith("val/") for row in rows for name in row)
    scored = evaluate_network(student, None, digits, "test", machine=CPU)
    assert scored["acc"] == max(row["test/acc"] for row in rows)


def test_of_equal_epochs_the_last_is_selected(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    still = dataclasses.replace(recipe, epochs=2, optimizer=partial(SGD, lr=0.0))
    silent = nn.init.zeros_(student.net.get_submodule("fc").get_parameter("weight"))
    rows: list[Any] = []
    fit(student, tser, teacher, digits, tmp_path, recipe=still, machine=CPU, record=rows.append)
    assert rows[0]["val/acc"] == rows[1]["val/acc"]
    assert not silent.any()
    assert int(student.net.get_buffer("bn1.num_batches_tracked")) == rows[1]["step"]


def test_neither_seeded_twice_nor_with_workers_does_a_bit_change(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    ends = []
    for index, workers in enumerate((0, 0, 2)):
        trained = copy.deepcopy(student)
        machine = Machine(accelerator="cpu", workers=workers)
        fit(trained, tser, teacher, digits, tmp_path / str(index), recipe=recipe, machine=machine, seed=5)
        ends.append(trained)
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])
    other = copy.deepcopy(student)
    fit(other, tser, teacher, digits, tmp_path / "other", recipe=recipe, machine=CPU, seed=6)
    assert not same(ends[0], other)


class Killed(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def test_a_run_that_died_goes_on_as_if_it_had_not(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    longer = dataclasses.replace(recipe, epochs=3)
    whole, died = copy.deepcopy(student), copy.deepcopy(student)
    fit(whole, tser, teacher, digits, tmp_path / "whole", recipe=longer, machine=CPU)
    with pytest.raises(RuntimeError, match="killed"):
        fit(died, tser, teacher, digits, tmp_path / "died", recipe=longer, machine=CPU, callbacks=[Killed(1)])
    rows: list[Any] = []
    again = copy.deepcopy(student)
    fit(again, tser, teacher, digits, tmp_path / "died", recipe=longer, machine=CPU, record=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert same(again, whole)


def test_the_checkpoint_holds_no_teacher(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=CPU)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"student.{name}" for name in student.state_dict()}
    optimised = sum(len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"])
    assert optimised == len(list(student.parameters()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "last.previous.ckpt"]


class Broken(nn.Module):
    """Is no number for a batch that is not as small as the one before the training."""

    needs_teacher = False

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> LossTerms:
        good = student_TBC.square().mean()
        factor = 1.0 if len(labels_B) < 10 else float("nan")
        return LossTerms(good * factor, {"good": good, "broken": good * factor}, {"good": 1, "broken": 1})


def test_a_loss_that_is_no_number_stops_at_its_first_step_and_names_the_term(
    student: Student, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"epoch 0, step 0; its term broken is the cause") as stopped:
        fit(student, Broken(), None, digits, tmp_path, recipe=recipe, machine=CPU)
    assert "the loss itself" in stopped.value.what
    assert "`lr`" not in stopped.value.fix


class KnowsFew(nn.Module):
    """A teacher that is no number in a batch of many."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits if len(images) < 10 else logits.fill_(float("nan"))


def test_a_teacher_that_is_no_number_is_named(
    student: Student, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"its term kl is the cause; first not finite: the teacher's logits"):
        fit(student, tser, Teacher(KnowsFew()), digits, tmp_path, recipe=recipe, machine=CPU)


class Negative(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return student_TBC.square().mean() - 1e3


def test_a_negative_total_warns_once_and_a_scalar_loss_is_enough(
    student: Student, digits: Digits, recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "tser_lightning"):
        fit(student, Negative(), None, digits, tmp_path, recipe=recipe, machine=CPU)
    assert [text.endswith("lower `lam`") for text in caplog.messages if "negative" in text] == [True]


def test_without_selection_all_images_train_and_the_last_epoch_counts(
    student: Student, teacher: Teacher, tser: DistillationLoss, recipe: Recipe, tmp_path: Path
) -> None:
    everything = Digits(10, [1, 8, 8], mean=[0.3], std=[0.4], validation=0.0, batch_size=256, drop_last=False)
    rows: list[Any] = []
    fit(student, tser, teacher, everything, tmp_path, recipe=recipe, machine=CPU, selection="last", record=rows.append)
    assert rows[0]["step"] == -(-1437 // 256)
    assert not any(name.startswith("val/") for name in rows[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


class Told(Callback):
    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        trainer._signal_connector.received_sigterm = True


def test_a_run_told_to_stop_says_so(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(Terminated) as stop:
        fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=CPU, callbacks=[Told()])
    assert stop.value.code == 143


def test_accumulated_and_clipped_steps_count_as_one(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    rows: list[Any] = []
    halved = dataclasses.replace(recipe, accumulate=2, clip=0.0001, optimizer=partial(SGD, lr=1.0))
    before = copy.deepcopy(student)
    fit(student, tser, teacher, digits, tmp_path, recipe=halved, machine=CPU, record=rows.append)
    assert rows[-1]["step"] == 2 * -(-5 // 2)
    moved = sum(
        (new - old).detach().square().sum().item()
        for new, old in zip(student.parameters(), before.parameters(), strict=True)
    )
    assert 0 < moved**0.5 <= rows[-1]["step"] * 0.0001 * 1.001


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_the_last_group_of_batches_is_divided_by_those_that_it_has(
    digits: Digits, tmp_path: Path, accumulate: int
) -> None:
    linear = SingleStep(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    by_hand = copy.deepcopy(linear)
    recipe = Recipe(epochs=2, optimizer=partial(SGD, lr=0.5), schedule=Constant(), accumulate=accumulate)
    fit(linear, CrossEntropyAlone(), None, digits, tmp_path, recipe=recipe, machine=CPU, selection="last")
    loader: Any = digits.loader("train", seed=1)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == 5
        for first in range(0, 5, accumulate):
            group = batches[first : first + accumulate]
            loss = torch.stack(
                [CrossEntropyAlone()(by_hand(batch.images), None, batch.labels) for batch in group]
            ).mean()
            grads = torch.autograd.grad(loss, list(by_hand.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(by_hand.parameters(), grads, strict=True):
                    parameter.sub_(0.5 * grad)
    for parameter, expected in zip(linear.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-5)


class CrossEntropyAlone(nn.Module):
    def forward(self, logits_TBC: Tensor, teacher_BC: Any, labels_B: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_TBC.mean(0), labels_B)


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2]), (2, [1, 2]), (10, [2])])
def test_the_last_epoch_is_always_validated(
    student: Student, digits: Digits, recipe: Recipe, tmp_path: Path, every: int, expected: list[int]
) -> None:
    rows: list[Any] = []
    rarely = dataclasses.replace(recipe, epochs=3, validate_every=every, steps=2)
    fit(student, CrossEntropyAlone(), None, digits, tmp_path, recipe=rarely, machine=CPU, record=rows.append)
    assert [row["epoch"] for row in rows if "val/acc" in row] == expected
    assert (tmp_path / "best.ckpt").exists()


@pytest.mark.parametrize(("size", "advice"), [(1, "batch_size=2"), (1436, "drop_last=True")])
def test_a_batch_of_one_that_a_norm_cannot_learn_from_is_a_mistake(tmp_path: Path, size: int, advice: str) -> None:
    augment = {"crop": 0, "flip": False, "auto": None, "cutout": 0}
    of_size: dict[str, Any] = {"batch_size": size, "drop_last": False, "validation": 0.0}
    data = Digits(10, [1, 8, 8], mean=[0.3], std=[0.4], augment=augment, **of_size)
    assert len(data.labels("train")) == 1437
    normed = SingleStep(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)))
    how = Recipe(epochs=1, optimizer=partial(SGD, lr=0.1))
    with pytest.raises(UsageError, match=f"a batch of 1 image: (?s:.*){advice}"):
        fit(normed, CrossEntropyAlone(), None, data, tmp_path, recipe=how, machine=CPU, selection="last")
