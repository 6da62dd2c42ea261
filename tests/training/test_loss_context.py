"""What a loss asks for besides logits: right, the same however the training runs, and free for those who do not ask."""

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from tser_lightning.data import Digits
from tser_lightning.data.batch import Batch
from tser_lightning.errors import UsageError
from tser_lightning.losses import DistillationLoss, LossContext, Needs, PiecewiseLinear
from tser_lightning.models import Ensemble, Student, resnet_small
from tser_lightning.neurons import GLIF, IF, LIF, LSG, PLIF, Neuron, membranes
from tser_lightning.training import Distiller, Machine, Recipe, Teacher, fit
from tser_lightning.training.loss_context import ContextBuilder, StepState
from tser_lightning.training.probe import probe
from tser_lightning.training.teacher_inference import TeacherInference

CPU = Machine(accelerator="cpu", workers=0)
TWO = Machine(accelerator="cpu", devices=2, strategy="ddp_fork", workers=0)
STEP = StepState(lambda: 0.25, None)


def without_batch_statistics(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


def small_student(neuron: Callable[..., nn.Module] = LIF) -> Student:
    torch.manual_seed(0)
    return Student(resnet_small(10, 1, neuron, norm=without_batch_statistics, widths=(4, 8)), 3)


class Curious(nn.Module):
    """Asks for everything, and depends on everything."""

    needs_teacher = True
    needs = Needs(
        student_features=("stage*",),
        teacher_features=("layer?",),
        currents=("*",),
        membranes=("*act1",),
        spikes=("*act2",),
        heads=True,
        progress=True,
        indices=True,
        ema=True,
        teachers=True,
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[LossContext] = []

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor, context: LossContext) -> Tensor:
        self.seen.append(context)
        rates = [feature.mean(0) for feature in context.student_features.values()]
        inside = [*rates, *context.currents.values(), *context.membranes.values(), *context.spikes.values()]
        inside += [feature.float() for feature in context.teacher_features.values()]
        own_BC = context.heads.student(rates[-1].mean((2, 3)))
        teachers = sum(F.mse_loss(student_TBC.mean(0), each_BC) for each_BC in context.teachers.values())
        soft = F.mse_loss(student_TBC, context.ema) + F.mse_loss(own_BC, teacher_BC) + teachers
        hard_B = F.cross_entropy(student_TBC.mean(0), labels_B, reduction="none")
        odd_B = (context.indices % 2).to(hard_B.dtype)
        return (hard_B * (1 + odd_B)).mean() + context.progress * soft + 1e-3 * sum(x.square().mean() for x in inside)


def needs(**asked: Any) -> nn.Module:
    loss = nn.Module()
    loss.needs, loss.needs_teacher = Needs(**asked), "teachers" in asked or "teacher_features" in asked  # type: ignore[assignment]
    return loss


def gathered(student: Student, teacher: Teacher | None, images: Tensor, **asked: Any) -> LossContext:
    loss = needs(**asked)
    builder, inference = ContextBuilder(loss, student, teacher), TeacherInference(teacher, loss)
    batch = Batch(images, torch.zeros(len(images), dtype=torch.long), torch.arange(len(images)))
    context: LossContext = builder.keywords(student(images), inference(batch, 0), batch, STEP)["context"]
    return context


@pytest.mark.parametrize(
    "neuron",
    [
        LIF,
        IF,
        PLIF,
        LSG,
        partial(LIF, reset="soft", decay=0.3, v_init=0.4),
        partial(LIF, decay_input=False, detach_reset=True),
    ],
)
def test_currents_membranes_and_spikes_are_those_of_a_loop_by_hand(neuron: Callable[..., nn.Module]) -> None:
    student = small_student(neuron).double()
    context = gathered(
        student, None, torch.rand(2, 1, 8, 8).double() * 4, currents=("*",), membranes=("*",), spikes=("*",)
    )
    paths = [path for path, module in student.net.named_modules() if isinstance(module, Neuron)]
    assert list(context.currents) == list(context.membranes) == list(context.spikes) == paths
    fired = 0.0
    for path in paths:
        lif = student.net.get_submodule(path)
        assert isinstance(lif, LIF)
        spec, learnt = lif.spec, lif.leak()
        decay = spec.decay if learnt is None else learnt
        v = torch.full((), spec.v_init, dtype=torch.float64)
        assert context.currents[path].shape == context.spikes[path].shape
        for x, h_found, s_found in zip(
            context.currents[path], context.membranes[path], context.spikes[path], strict=True
        ):
            h = decay * v + (1 - decay if spec.decay_input else 1) * x
            torch.testing.assert_close(h_found, h, rtol=1e-12, atol=1e-12)
            assert torch.equal(s_found, (h >= spec.v_threshold).to(h.dtype))
            v = torch.where(h >= spec.v_threshold, 0.0 if spec.reset == "hard" else h - spec.v_threshold, h)
            fired += float(s_found.detach().sum())
    assert fired


def test_the_membranes_of_a_delayed_reset() -> None:
    neuron = LIF(decay=0.5, decay_input=False, reset="soft_delayed", v_init=2.0)
    currents = torch.tensor([0.5, 0.5, 1.0, 0.25])
    # 1 + 0.5 - 1; 0.25 + 0.5; 0.375 + 1; 0.6875 + 0.25 - 1
    assert membranes(neuron, currents, neuron(currents)).tolist() == [0.5, 0.75, 1.375, -0.0625]


def test_the_gradient_of_a_membrane_is_that_of_the_plain_operations() -> None:
    student = small_student(partial(LIF, backend="reference")).double()
    images = torch.rand(2, 1, 8, 8).double() * 4
    context = gathered(student, None, images, membranes=("act1",), currents=("act1",))
    lif, v, total = student.net.get_submodule("act1"), torch.zeros(()), torch.zeros(())
    assert isinstance(lif, LIF)
    alone = copy.deepcopy(lif)
    alone.clock = type(lif.clock)()
    x_TB = context.currents["act1"]
    for t in range(len(x_TB)):
        h = 0.5 * v + 0.5 * x_TB[t]
        s = alone(x_TB[: t + 1])[t]  # of the neuron itself, whose surrogate is not repeated here
        v, total = h * (1 - s), total + h.square().sum()
    weight = student.net.get_parameter("conv1.weight")
    (expected,) = torch.autograd.grad(total, weight, retain_graph=True)
    (found,) = torch.autograd.grad(context.membranes["act1"].square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_neuron_without_membranes_is_named() -> None:
    with pytest.raises(UsageError, match="GLIF"):
        gathered(small_student(GLIF), None, torch.rand(2, 1, 8, 8), membranes=("*",))


def test_features_of_a_pattern_are_those_of_hooks_by_hand_at_every_step() -> None:
    student, kept = small_student(), {}
    names = ["layer1.0.conv1", "layer2.0.conv1"]
    for name in names:
        student.net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept.update({name: output})
        )
    context = gathered(student, None, torch.rand(2, 1, 8, 8), student_features=("layer*.conv1", "stage4"))
    assert list(context.student_features) == [*names, "stage4"]
    for name in names:
        assert torch.equal(context.student_features[name].flatten(0, 1), kept[name])
        assert context.student_features[name].shape[:2] == (3, 2)


def test_heads_give_the_logits_of_the_penultimate_features(teacher: Teacher) -> None:
    student, images = small_student(), torch.rand(2, 1, 8, 8)
    context = gathered(student, teacher, images, heads=True, student_features=("stage4",), teacher_features=("stage4",))
    pooled_TBD = context.student_features["stage4"].mean((3, 4))
    torch.testing.assert_close(context.heads.student(pooled_TBD), student(images))
    assert context.heads.teacher is not None
    pooled_BD = context.teacher_features["stage4"].mean((2, 3))
    torch.testing.assert_close(context.heads.teacher(pooled_BD), teacher(images))


def test_an_ensemble_teaches_by_its_mean_and_each_member_is_seen(teacher: Teacher) -> None:
    images, members = torch.rand(2, 1, 8, 8), {"one": copy.deepcopy(teacher.net), "two": resnet_small(10, 1).eval()}
    both = Teacher(Ensemble(members))
    context = gathered(small_student(), both, images, teachers=True)
    assert list(context.teachers) == ["one", "two"]
    for name, network in members.items():
        torch.testing.assert_close(context.teachers[name], network(images))
    torch.testing.assert_close(both(images), (context.teachers["one"] + context.teachers["two"]) / 2)
    assert set(gathered(small_student(), teacher, images, teachers=True).teachers) == {"teacher"}


def test_what_was_not_asked_for_is_refused_with_how_to_ask() -> None:
    context = gathered(small_student(), None, torch.rand(2, 1, 8, 8), progress=True)
    assert vars(context) == {"progress": 0.25}
    with pytest.raises(AttributeError, match=r"needs = Needs\(heads=True\)"):
        _ = context.heads
    with pytest.raises(AttributeError, match=r'needs = Needs\(currents=\("\*",\)\)'):
        _ = context.currents
    with pytest.raises(AttributeError, match="no 'epoch'"):
        _ = context.epoch
    with pytest.raises(TypeError, match=r"currents=\('act1',\)"):
        Needs(currents="act1")  # type: ignore[arg-type]


def test_a_loss_that_asks_for_nothing_hooks_nothing(teacher: Teacher, tser: DistillationLoss) -> None:
    student = small_student()
    builder, inference = ContextBuilder(tser, student, teacher), TeacherInference(teacher, tser)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in (*student.modules(), *teacher.modules())
    )
    images = torch.rand(2, 1, 8, 8)
    batch = Batch(images, torch.zeros(2, dtype=torch.long), torch.arange(2))
    assert builder.keywords(student(images), inference(batch, 0), batch, STEP) == {}


def steps_of(loss: Curious, contexts_before: int = 1) -> list[float]:
    """What the training saw; the probe and the making of the loss's parts come before it."""
    return [context.progress for context in loss.seen[contexts_before:]]


class Killed(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("killed")


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(epochs=2, accumulate=2, ema=0.9, optimizer=partial(SGD, lr=0.05), steps=3)


def trained(folder: Path, recipe: Recipe, teacher: Teacher, data: Digits, **how: Any) -> tuple[Student, Curious]:
    student, loss = small_student(), Curious()
    fit(student, loss, teacher, data, folder, **{"recipe": recipe, "machine": CPU, "selection": "last", **how})
    return student, loss


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_progress_counts_optimiser_steps_and_goes_on_where_it_was(
    teacher: Teacher, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    whole, loss = trained(tmp_path / "whole", recipe, teacher, digits)
    expected = [0, 0, 1 / 4, 2 / 4, 2 / 4, 3 / 4]  # three batches an epoch, two to an optimiser step
    assert steps_of(loss) == expected
    first_epoch = torch.cat([context.indices for context in loss.seen[1:4]])
    assert len(first_epoch.unique()) == len(first_epoch)
    assert set(first_epoch.tolist()) <= set(digits.indices("train").tolist())
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "died", recipe, teacher, digits, callbacks=[Killed()])
    again, loss = trained(tmp_path / "died", recipe, teacher, digits)
    assert steps_of(loss) == expected[3:]
    assert same(whole, again)


def test_a_plain_trainer_gives_a_loss_the_same(
    teacher: Teacher, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    student, loss = trained(tmp_path / "fit", recipe, teacher, digits)
    plain, its_loss = small_student(), Curious()
    module = Distiller(plain, its_loss, teacher, digits, recipe, machine=CPU, selection=None)
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    silent: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    trainer = pl.Trainer(
        max_epochs=2, accumulate_grad_batches=2, limit_train_batches=3, limit_val_batches=0, **settings, **silent
    )
    trainer.fit(module)
    assert module.ema is not None
    module.ema.exchange(plain)
    assert same(student, plain)
    assert [c.progress for c in loss.seen] == [c.progress for c in its_loss.seen]


def test_two_processes_give_a_loss_the_same(teacher: Teacher, digits: Digits, recipe: Recipe, tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", recipe, teacher, digits)
    two, _ = trained(tmp_path / "two", recipe, teacher, digits, machine=TWO)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"precision": "bf16-mixed"}, {"memory": "low"}, {"memory": "lowest"}])
def test_half_precision_and_little_memory_give_a_loss_what_it_asks_for(
    change: dict[str, Any], teacher: Teacher, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    plain, loss = trained(tmp_path / "plain", recipe, teacher, digits)
    how: dict[str, Any] = {"recipe": dataclasses.replace(recipe, **change)} if "precision" in change else {}
    how = how or {"machine": dataclasses.replace(CPU, **change)}
    student, other = trained(tmp_path / "other", **{"recipe": recipe, "teacher": teacher, "data": digits, **how})
    assert steps_of(other) == steps_of(loss)
    assert set(other.seen[-1].membranes) == set(loss.seen[-1].membranes)
    for name, value in plain.state_dict().items():
        atol, rtol = (0.05, 0.1) if "precision" in change else (1e-5, 1e-4)
        torch.testing.assert_close(student.state_dict()[name], value, atol=atol, rtol=rtol)


def test_the_moving_average_that_a_loss_sees_is_the_one_of_the_step(
    teacher: Teacher, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    class Asks(Callback):
        """Asks the average itself before each batch."""

        def __init__(self) -> None:
            self.expected: list[Tensor] = []

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
            assert pl_module.ema is not None
            student = copy.deepcopy(pl_module.student).eval()
            student.load_state_dict(pl_module.ema.network)
            with torch.no_grad():
                self.expected.append(student(batch.images))

    asks = Asks()
    _, loss = trained(tmp_path, dataclasses.replace(recipe, epochs=1), teacher, digits, callbacks=[asks])
    for context, expected in zip(loss.seen[1:], asks.expected, strict=True):
        torch.testing.assert_close(context.ema, expected)
        assert not context.ema.requires_grad


def test_a_loss_that_asks_for_what_there_is_not_is_refused(teacher: Teacher, digits: Digits, recipe: Recipe) -> None:
    settings: dict[str, Any] = {"selection": None, "machine": CPU}
    with pytest.raises(UsageError, match="moving average"):
        Distiller(small_student(), Curious(), teacher, digits, dataclasses.replace(recipe, ema=None), **settings)
    with pytest.raises(UsageError, match="act9"):
        Distiller(small_student(), needs(currents=("act9*",)), None, digits, recipe, **settings)
    forgets = needs(teacher_features=("stage4",))
    forgets.needs_teacher = False  # type: ignore[assignment]
    with pytest.raises(UsageError, match="not for the teacher"):
        Distiller(small_student(), forgets, teacher, digits, recipe, **settings)


class FailsLate(nn.Module):
    needs = Needs(progress=True)

    def forward(self, student_TBC: Tensor, teacher_BC: None, labels_B: Tensor, context: LossContext) -> Tensor:
        return student_TBC.square().mean() / (0.0 if context.progress > 0.4 else 1.0)


def test_what_fails_only_later_in_the_training_is_refused_before_it(digits: Digits) -> None:
    with pytest.raises(UsageError, match="is inf on the first training images"):
        probe(small_student(), FailsLate(), None, digits)


def test_the_probe_gives_a_loss_all_that_it_asks_for(teacher: Teacher, digits: Digits) -> None:
    loss = Curious()
    student = small_student()
    probe(student, loss, teacher, digits)
    assert not loss.seen  # a copy was called
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_weight_with_a_schedule_is_its_factor_times_itself(tser: DistillationLoss) -> None:
    student_TBC, teacher_BC, labels_B = torch.randn(4, 3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    constant = tser(student_TBC, teacher_BC, labels_B)
    tser.schedule("kl", PiecewiseLinear([[0, 0], [0.2, 1]]))
    assert tser.needs == Needs(progress=True)
    terms = tser(student_TBC, teacher_BC, labels_B, context=LossContext(progress=0.05))
    assert terms.weights == pytest.approx({**constant.weights, "kl": 0.25 * 0.5})
    torch.testing.assert_close(terms.total, constant.total - 0.75 * 0.5 * constant.parts["kl"])
    with pytest.raises(ValueError, match=r"context=LossContext\(progress=\.\.\.\)"):
        tser(student_TBC, teacher_BC, labels_B)
    with pytest.raises(ValueError, match="no term 'kd'"):
        tser.schedule("kd", float)


@pytest.mark.parametrize("points", [[], [[0.5, 1], [0.2, 1]], [[0, 1], [2, 1]], [[0, float("nan")]], [[0, 1, 2]]])
def test_a_schedule_of_no_sense_is_refused(points: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        PiecewiseLinear(points)
