"""Two processes that train together, against one that trains alone on the same batches."""

import copy
import dataclasses
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import SGD

from tser_lightning.data import Digits
from tser_lightning.errors import RunError
from tser_lightning.losses import CrossEntropy, DistillationLoss
from tser_lightning.models import Student, resnet_small
from tser_lightning.models.norms import TDBN
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, SingleStep, Teacher, evaluate_network, fit

ONE = Machine(accelerator="cpu", devices=1, workers=0)
TWO = Machine(accelerator="cpu", devices=2, strategy="ddp_fork", workers=0)


def without_batch_statistics(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student(resnet_small(10, 1, LIF, norm=without_batch_statistics, widths=(4, 8)), 2)


def into(file: Path) -> Callable[[Any], None]:
    """Record rows in a file, because a process that was forked keeps its memory to itself."""

    def record(row: Any) -> None:
        with file.open("a") as rows:
            rows.write(json.dumps(dict(row)) + "\n")

    return record


def test_two_processes_train_and_measure_as_one(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    ends = []
    for name, machine in (("one", ONE), ("two", TWO)):
        trained, file = copy.deepcopy(student), tmp_path / f"{name}.jsonl"
        fit(trained, tser, teacher, digits, tmp_path / name, recipe=recipe, machine=machine, record=into(file))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        ends.append((trained.state_dict(), rows, evaluate_network(trained, teacher, digits, "test", machine=machine)))
    (weights, rows, measured), (weights_2, rows_2, measured_2) = ends
    assert len(rows) == len(rows_2) == 2
    for row, row_2 in zip(rows, rows_2, strict=True):
        assert row == pytest.approx(row_2, abs=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(weights_2[name], value, atol=1e-5, rtol=1e-4)
    counts = {key for key in measured if key.startswith("acc")}
    assert {key: measured[key] for key in counts} == {key: measured_2[key] for key in counts}
    assert measured_2 == pytest.approx(measured, rel=1e-4)


class Killed(Callback):
    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_rank == 1 and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_ends_the_others(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match="one of the processes that train together has died"):
        fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=TWO, callbacks=[Killed()])
    assert time.monotonic() - started < 60
    assert (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("spiking", [False, True])
def test_batch_norm_sees_the_batch_of_all_processes(spiking: bool, digits: Digits, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student: nn.Module = SingleStep(resnet_small(10, 1, widths=(4, 8)))  # as a teacher is trained
    if spiking:
        student = Student(resnet_small(10, 1, partial(LIF, v_threshold=0.5), norm=TDBN, widths=(4, 8)), 2)
    ce = DistillationLoss({"ce": CrossEntropy()})
    recipe = Recipe(epochs=2, optimizer=partial(SGD, lr=0.02), accumulate=2)
    machines = {"one": ONE, "two": TWO, "low": dataclasses.replace(TWO, memory="lowest")}
    rows, weights = {}, {}
    for name, machine in machines.items():
        trained, file = copy.deepcopy(student), tmp_path / f"{name}.jsonl"
        fit(trained, ce, None, digits, tmp_path / name, recipe=recipe, machine=machine, record=into(file))
        rows[name] = [json.loads(line) for line in file.read_text().splitlines()]
        weights[name] = trained.state_dict()
    for name in ("two", "low"):
        for row, row_2 in zip(rows["one"], rows[name], strict=True):
            assert row["train/loss"] == pytest.approx(row_2["train/loss"], abs=1e-5)
        for key, value in weights["one"].items():
            torch.testing.assert_close(weights[name][key], value, atol=1e-4, rtol=1e-3)


class Stopped(Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            raise KeyboardInterrupt


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="torch 2.11 drops a KeyboardInterrupt raised in a forked process"
)
def test_two_processes_go_on_from_between_two_batches_of_one_step(
    student: Student, digits: Digits, tmp_path: Path
) -> None:
    ce, again = DistillationLoss({"ce": CrossEntropy()}), copy.deepcopy(student)
    recipe = Recipe(epochs=1, optimizer=partial(SGD, lr=0.1), accumulate=2)
    machine = dataclasses.replace(TWO, checkpoint_every=1)
    fit(student, ce, None, digits, tmp_path / "whole", recipe=recipe, machine=machine)
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        fit(copy.deepcopy(again), ce, None, digits, tmp_path, recipe=recipe, machine=machine, callbacks=[Stopped()])
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (kept["standing"]["batch"], len(kept["gradients"]["student.net.conv1.weight"])) == (1, 2)
    fit(again, ce, None, digits, tmp_path, recipe=recipe, machine=machine)
    for name, value in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_share_of_the_batch_for_each_process_is_said_aloud(digits: Digits, recipe: Recipe, tmp_path: Path) -> None:
    student = Student(resnet_small(10, 1, LIF, widths=(4, 8)), 2)
    machine = dataclasses.replace(TWO, sync_batchnorm=False)
    once = dataclasses.replace(recipe, epochs=1, steps=1)
    heard = logging.FileHandler(tmp_path / "log")
    logging.getLogger("tser_lightning").addHandler(heard)
    fit(student, DistillationLoss({"ce": CrossEntropy()}), None, digits, tmp_path, recipe=once, machine=machine)
    logging.getLogger("tser_lightning").removeHandler(heard)
    assert (tmp_path / "log").read_text().count("sync_batchnorm=False: batch normalisation sees") == 1


def test_inside_slurm_the_processes_of_one_task_are_started_by_lightning(
    student: Student,
    teacher: Teacher,
    tser: DistillationLoss,
    digits: Digits,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"NTASKS": "1", "JOB_ID": "7", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before = signal.getsignal(signal.SIGUSR1)
    seen = Handlers()
    fit(student, tser, teacher, digits, tmp_path, recipe=recipe, machine=TWO, callbacks=[seen])
    fit(student, tser, teacher, digits, tmp_path / "one", recipe=recipe, machine=ONE, callbacks=[seen])
    assert seen.usr1 == before  # Lightning would save in the middle of a step
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == recipe.epochs - 1


class Handlers(Callback):
    def __init__(self) -> None:
        self.usr1: Any = None

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        self.usr1 = signal.getsignal(signal.SIGUSR1)
