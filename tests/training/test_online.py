"""Training step by step, against whole graphs whose neurons cut the gradient between two steps."""

import copy
import dataclasses
import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import SGD

from tser_lightning.api import build_loss, build_student
from tser_lightning.data import Digits
from tser_lightning.errors import UsageError
from tser_lightning.losses import TET, TSER, LossTerms, Needs, VanillaKD
from tser_lightning.models import BNTT, TAB, Student, resnet_small
from tser_lightning.neurons import LIF, MPBN, PLIF, Neuron
from tser_lightning.training import Machine, Recipe, Teacher, fit
from tser_lightning.training.online import check_online, online, warn_of_norms
from tser_lightning.training.probe import probe

T = 3
CPU = Machine(accelerator="cpu", devices=1, workers=0)
NORM = partial(BNTT, timesteps=T)
SETTINGS: dict[str, Any] = {"v_threshold": 0.3, "surrogate": "sigmoid", "surrogate_scale": 4.0}


class Cut(Neuron):
    """LIF as a loop, through whose membranes no gradient goes from step to step; with a learnt leak if asked."""

    def __init__(self, channels: int, learnt: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(())) if learnt else None

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        decay = 0.5 if self.w is None else self.w.sigmoid()
        v, spikes = torch.zeros_like(currents_TB[0], dtype=torch.promote_types(currents_TB.dtype, torch.float32)), []
        for x in currents_TB:
            h = decay * v + (1 - decay) * x
            soft = torch.sigmoid(4.0 * (h - 0.3))
            s = (h >= 0.3).to(h) + (soft - soft.detach())  # exactly 0 or 1
            spikes.append(s.to(currents_TB.dtype))
            v = (h * (1 - s)).detach()
        return torch.stack(spikes), None


def pair(learnt: bool = False, norm: Callable[..., nn.Module] = NORM) -> tuple[Student, Student]:
    """Give a student and its reference, with the same weights."""
    neurons = partial(PLIF if learnt else LIF, **SETTINGS), partial(Cut, learnt=learnt)
    students = []
    for neuron in neurons:
        torch.manual_seed(0)
        students.append(Student(resnet_small(10, 1, neuron, norm=norm, widths=(4, 8)), T))
    students[1].load_state_dict(students[0].state_dict())
    return students[0], students[1]


def by_steps(
    student: Student, loss: nn.Module, images: Tensor, teacher_BC: Tensor | None, labels_B: Tensor
) -> LossTerms:
    stream = student.stream(images, through_time=False)
    steps = (loss(logits_BC.unsqueeze(0), teacher_BC, labels_B) for logits_BC in stream)
    return online(steps, list(student.parameters()))


@pytest.mark.parametrize("loss", [TSER(lam=0.1), TET(lam=0.1), build_loss("logit_standardization")])
@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_loss_and_gradient_are_those_of_the_whole_graph(
    loss: nn.Module, frames: bool, learnt: bool, training: bool
) -> None:
    student, reference = (each.double().train(training) for each in pair(learnt))
    images = torch.randn(*((T,) if frames else ()), 5, 1, 8, 8, dtype=torch.float64)
    teacher_BC, labels_B = 3 * torch.randn(5, 10, dtype=torch.float64), torch.arange(5)
    found = by_steps(student, loss, images, teacher_BC, labels_B)
    expected = loss(reference(images), teacher_BC, labels_B)
    (0.5 * found.total).backward()
    (0.5 * expected.total).backward()
    torch.testing.assert_close(found.total, expected.total, rtol=0, atol=1e-12)
    for name, part in expected.parts.items():
        torch.testing.assert_close(found.parts[name], part, rtol=0, atol=1e-12)
    theirs = dict(reference.named_parameters())
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=0, atol=1e-12)
    for name, buffer in student.named_buffers():
        torch.testing.assert_close(buffer, reference.get_buffer(name), rtol=0, atol=1e-12)
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) > 1e-3


def test_it_is_another_gradient_than_that_through_time() -> None:
    student = pair()[0].double()
    images, labels_B = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.arange(5)
    weight = student.net.get_submodule("conv1").get_parameter("weight")
    grads = [
        torch.autograd.grad(total, weight)[0]
        for total in (
            by_steps(student, TET(), images, None, labels_B).total,
            TET()(student(images), None, labels_B).total,
        )
    ]
    assert (grads[0] - grads[1]).abs().max() > 1e-4


def saved_bytes(student: Student, through_time: bool, batch: int = 4) -> int:
    """The most bytes of tensors that autograd holds at any one time during forward and backward."""
    held: dict[int, int] = {}
    most = 0

    class Kept:
        def __init__(self, value: Tensor) -> None:
            nonlocal most
            self.value = value
            held[id(self)] = value.numel() * value.element_size()
            most = max(most, sum(held.values()))

        def __del__(self) -> None:
            held.pop(id(self), None)

    images, labels_B = torch.randn(batch, 1, 8, 8), torch.zeros(batch, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.value):
        if through_time:
            TET()(student(images), None, labels_B).total.backward()
        else:
            by_steps(student, TET(), images, None, labels_B).total.backward()
    return most


def test_what_is_held_for_the_backward_pass_does_not_grow_with_the_steps() -> None:
    held = {}
    for steps in (2, 8, 16):
        student = Student(resnet_small(10, 1, LIF, norm=partial(BNTT, timesteps=16), widths=(4, 8)), steps)
        held[steps] = [saved_bytes(student, through_time) for through_time in (True, False)]
    assert held[16][0] > 7 * held[2][0]
    assert held[16][1] <= 1.01 * held[2][1]


def test_a_step_finds_the_sum_of_the_gradients_before_it_and_no_others() -> None:
    weights = [nn.Parameter(torch.randn(17, 19)) for _ in range(3)]
    held = []

    def steps() -> Iterator[LossTerms]:
        for _ in range(5):
            held.append(sum(isinstance(each, Tensor) and each.shape == (17, 19) for each in gc.get_objects()) - 3)
            yield LossTerms(torch.stack([(weight**2).sum() for weight in weights]).sum(), {}, {})

    total = online(steps(), weights).total
    assert held == [0, 3, 3, 3, 3]
    total.backward()
    torch.testing.assert_close([weight.grad for weight in weights], [2 * weight.detach() for weight in weights])


@pytest.mark.parametrize(
    ("recipe", "machine"),
    [
        ({"accumulate": 2, "clip": 0.5, "ema": 0.5}, {"memory": "low"}),
        ({"precision": "bf16-mixed"}, {}),
        ({"accumulate": 2}, {"devices": 2, "strategy": "ddp_fork"}),
    ],
    ids=str,
)
def test_a_training_is_that_of_the_whole_graph(
    recipe: dict[str, Any], machine: dict[str, Any], teacher: Teacher, digits: Digits, tmp_path: Path
) -> None:
    how = Recipe(epochs=1, steps=4, optimizer=partial(SGD, lr=0.1, momentum=0.9), **recipe)
    start = {name: value.clone() for name, value in pair()[0].state_dict().items()}
    rows = []
    students = pair()
    for through_time, student in zip((False, True), students, strict=True):
        file = tmp_path / f"{through_time}.jsonl"

        def record(row: Any, file: Path = file) -> None:
            file.write_text(json.dumps(dict(row)))

        settings = dataclasses.replace(how, through_time=through_time)
        fit(
            student,
            TSER(lam=0.1),
            teacher,
            digits,
            tmp_path / str(through_time),
            recipe=settings,
            machine=dataclasses.replace(CPU, **machine),
            selection="last",
            record=record,
        )
        rows.append(json.loads(file.read_text()))
    near = 2e-2 if "precision" in recipe else 1e-4
    assert rows[0] == pytest.approx(rows[1], rel=near)
    moved = 0.0
    for name, value in students[1].state_dict().items():
        torch.testing.assert_close(students[0].state_dict()[name], value, atol=near, rtol=near)
        moved = max(moved, float((value.float() - start[name].float()).abs().max()))
    assert moved > 0.05


class Stopped(Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            raise KeyboardInterrupt


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(teacher: Teacher, digits: Digits, tmp_path: Path) -> None:
    how = Recipe(epochs=1, steps=4, accumulate=2, ema=0.5, optimizer=partial(SGD, lr=0.1), through_time=False)
    machine = dataclasses.replace(CPU, checkpoint_every=1)
    whole, again = pair()[0], pair()[0]
    fit(whole, TSER(), teacher, digits, tmp_path / "whole", recipe=how, machine=machine, selection="last")
    with pytest.raises(KeyboardInterrupt):
        fit(
            pair()[0],
            TSER(),
            teacher,
            digits,
            tmp_path,
            recipe=how,
            machine=machine,
            selection="last",
            callbacks=[Stopped()],
        )
    fit(again, TSER(), teacher, digits, tmp_path, recipe=how, machine=machine, selection="last")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


STEPWISE = {"ts", "tser", "tet", "logit_standardization"}


def test_the_losses_that_the_message_names_are_those_that_are_sums(tmp_path: Path) -> None:
    found = {file.stem for file in Path(__file__).parents[2].joinpath("conf/loss").glob("*.yaml")} - {"custom"}
    assert {name for name in found if build_loss(name).sums_over_steps} == STEPWISE
    with pytest.raises(UsageError) as refused:
        check_online(pair()[0], VanillaKD(), Recipe(through_time=False), CPU)
    assert "VanillaKD, which is no sum over time steps" in refused.value.what
    assert all(f"`{type(build_loss(name)).__name__}`" in refused.value.fix for name in STEPWISE)


@pytest.mark.parametrize(
    ("recipe", "machine", "what"),
    [
        ({"precision": "16-mixed"}, {}, "precision=16-mixed"),
        ({}, {"compile": True}, "compile=True"),
        ({}, {"memory": "lowest"}, "memory=lowest"),
        ({}, {"strategy": "fsdp"}, "strategy=fsdp"),
    ],
)
def test_what_does_not_go_with_it_is_refused(recipe: dict[str, Any], machine: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_online(pair()[0], TSER(), Recipe(through_time=False, **recipe), dataclasses.replace(CPU, **machine))
    assert what in refused.value.what
    check_online(pair()[0], TSER(), Recipe(**recipe), dataclasses.replace(CPU, **machine))


class Asking(nn.Module):
    sums_over_steps = True

    def __init__(self, **needs: Any) -> None:
        super().__init__()
        self.needs = Needs(**needs)


def test_a_loss_that_asks_for_all_steps_and_a_student_that_looks_ahead_are_refused() -> None:
    step_by_step = Recipe(through_time=False, ema=0.9)
    for needs, word in (({"membranes": ("*",)}, "membranes"), ({"ema": True}, "moving average")):
        with pytest.raises(UsageError, match=word):
            check_online(pair()[0], Asking(**needs), step_by_step, CPU)
    check_online(pair()[0], Asking(currents=("*",), progress=True, heads=True), step_by_step, CPU)
    looks_ahead = build_student("resnet18", num_classes=10, timesteps=2, variant="glif", attention="pfa_input")
    with pytest.raises(UsageError, match="needs all steps at once"):
        check_online(looks_ahead, TSER(), step_by_step, CPU)
    with pytest.raises(ValueError, match="needs all steps at once"):
        next(looks_ahead.stream(torch.zeros(1, 3, 8, 8), through_time=False))


class SaysSo(nn.Module):
    sums_over_steps = True

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return nn.functional.cross_entropy(student_TBC.mean(0), labels_B)


class Second(SaysSo):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return nn.functional.cross_entropy(student_TBC[1], labels_B)


class IsSo(SaysSo):
    needs = Needs(currents=("*",))

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, **asked: Any) -> Tensor:
        currents = asked["context"].currents.values()
        ce = [super(IsSo, self).forward(step_BC.unsqueeze(0), teacher_BC, labels_B) for step_BC in student_TBC]
        total: Tensor = torch.stack(ce).mean() + sum(each.square().mean() for each in currents)
        return total


def test_a_loss_that_says_wrongly_that_it_is_a_sum_is_found_out(digits: Digits) -> None:
    with pytest.raises(UsageError, match="says sums_over_steps = True, but is"):
        probe(pair()[0], SaysSo(), None, digits, through_time=False)
    with pytest.raises(UsageError, match="fails on a single time step: IndexError"):
        probe(pair()[0], Second(), None, digits, through_time=False)
    probe(pair()[0], IsSo(), None, digits, through_time=False)
    probe(pair()[0], SaysSo(), None, digits)  # nothing hangs on its word


def test_a_loss_of_ones_own_sees_the_currents_of_each_step_and_a_shared_norm_is_spoken_of_once(
    digits: Digits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = Recipe(epochs=2, steps=2, optimizer=partial(SGD, lr=0.1))
    weights = []
    for student, through_time in zip(pair(), (False, True), strict=True):
        settings = dataclasses.replace(how, through_time=through_time)
        fit(student, IsSo(), None, digits, tmp_path / str(through_time), recipe=settings, machine=CPU, selection="last")
        weights.append(student.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=1e-4)
    assert "sees one step at a time" not in caplog.text
    shared = pair(norm=nn.BatchNorm2d)[0]
    settings = dataclasses.replace(how, through_time=False)
    fit(shared, IsSo(), None, digits, tmp_path / "shared", recipe=settings, machine=CPU, selection="last")
    assert caplog.text.count("BatchNorm2d sees one step at a time") == 1


def test_a_norm_that_shares_its_running_statistics_is_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    for norm, times in ((nn.BatchNorm2d, 1), (NORM, 0), (partial(TAB, timesteps=T), 0)):
        caplog.clear()
        warn_of_norms(pair(norm=norm)[0])
        assert caplog.text.count("BatchNorm2d sees one step at a time") == times
    caplog.clear()
    warn_of_norms(Student(resnet_small(10, 1, MPBN, norm=NORM, widths=(4, 8)), T))  # its norm sees single steps always
    assert not caplog.text


def test_a_plain_mean_of_running_statistics_counts_batches_not_steps() -> None:
    whole = pair(norm=partial(BNTT, timesteps=T, momentum=None))[0]
    apart = copy.deepcopy(whole)
    for _ in range(2):
        images = torch.randn(4, 1, 8, 8)
        whole(images)
        for _ in apart.stream(images):
            pass
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(apart.get_buffer(name), buffer)
