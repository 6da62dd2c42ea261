"""What breaks a contract is refused before a training; what keeps it passes and is left as it was."""

import copy
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.data import Digits
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.errors import UsageError
from tser_lightning.losses import BKDSNN, KDSNN, TET, DistillationLoss, LossTerms
from tser_lightning.models import Student
from tser_lightning.models.preact import add_to_stream
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, SingleStep, Teacher, fit
from tser_lightning.training.probe import probe, probe_teacher

T = 6


class Net(nn.Module):
    """A spiking network; what a test changes comes after it."""

    def __init__(self, classes: int = 10, after: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), LIF(8), nn.AdaptiveAvgPool2d(2))
        self.fc, self.after = nn.Linear(32, classes), after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.fc(self.features(x).flatten(1)))


class KeepsState(Net):
    """Has a leaky sum that is never set back."""

    past: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)
        if isinstance(self.past, Tensor) and self.past.shape != logits.shape:
            self.past = 0.0
        self.past = logits.detach() + 0.5 * self.past
        return logits + 0.5 * self.past


class ChangesItsInput(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.mul_(0.5))


class Adds(Net):
    def forward(self, x: Tensor) -> Any:
        stream = self.features[0](x)
        return self.fc(self.features[3](stream + self.features[2](stream)).flatten(1))


class Views(Net):
    def forward(self, x: Tensor) -> Any:
        maps = F.max_pool2d(self.features[:3](x), 4)
        return self.fc(maps.view(maps.size(0), -1))


def told(student: nn.Module, loss: Any, teacher: Teacher | None, data: Digits, **settings: Any) -> UsageError:
    with pytest.raises(UsageError) as refused:
        probe(student, loss, teacher, data, **settings)
    return refused.value


def batch_major(logits: Tensor) -> Tensor:
    turned: Tensor = logits.unflatten(0, (T, -1)).transpose(0, 1).flatten(0, 1)
    return turned


@pytest.mark.parametrize(
    ("net", "what", "fix"),
    [
        (Net(after=lambda y: y.unflatten(0, (T, -1)).transpose(0, 1)), r"\[4, 6, 10\].*not logits \[24, 10\]", "[T*B"),
        (Net(after=lambda y: y.unflatten(0, (T, -1))), r"\[6, 4, 10\].*not logits \[24, 10\]", "[T*B, classes]"),
        (Net(after=lambda y: y.unflatten(0, (T, -1)).mean(0)), r"\[4, 10\].*not logits \[24, 10\]", "[T*B, classes]"),
        (Net(after=lambda y: y[:, :, None, None]), r"\[24, 10, 1, 1\]", "flatten(1)"),
        (Net(after=lambda y: (y, y)), "returns a tuple of 2", "output[0]"),
        (Net(after=lambda y: {"logits": y}), "returns a dict with 'logits'", "output['logits']"),
        (Net(after=lambda y: None), "returns None", "logits alone"),
        (Net(after=lambda y: y.argmax(1)), r"a tensor \[24\] of int64", "of this shape"),
        (Net(after=lambda y: y.long()), "not floating point", "argmax"),
        (Net(classes=11), "has 11 classes, the data has 10", "num_classes"),
        (Net(after=lambda y: y.softmax(-1)), "returns probabilities", "softmax"),
        (Net(after=lambda y: y.detach()), "cannot learn", "cuts the graph"),
        (Net(after=lambda y: y / 0), "not finite", "division by 0"),
        (Net(after=batch_major), r"batch-major", "unflatten(0, (T, -1))"),
        (Net(after=lambda y: y - y.mean(0)), "mixes the images of a batch", "BatchNorm"),
        (KeepsState(), "keeps state", "set back"),
        (ChangesItsInput(), "changes the images", "mul_"),
        (Adds(), r"must match the size.*test_probe.py, line", "add_to_stream"),
        (Views(), "view size is not compatible", "channels_last=False"),
    ],
)
def test_a_student_that_breaks_its_contract_is_refused(net: nn.Module, what: str, fix: str, digits: Digits) -> None:
    mistake = told(Student(net, T), TET(), None, digits)
    assert mistake.what.startswith(f"the student {__name__}.")
    assert re.search(what, mistake.what)
    assert fix in mistake.fix


def test_rows_before_the_first_neuron_are_explained(digits: Digits) -> None:
    why = told(Student(Adds(), T), TET(), None, digits).why
    assert "B = 4 rows" in why
    assert "T*B = 24" in why


class AddsToStream(Net):
    def forward(self, x: Tensor) -> Any:
        stream = self.features[0](x)
        return self.fc(self.features[3](add_to_stream(self.features[2](stream), stream)).flatten(1))


class Poisson(Net):
    """Draws its input from a generator of its own, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.numbers = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def forward(self, x: Tensor) -> Any:
        drawn = torch.rand(x.shape, generator=self.source) + torch.from_numpy(self.numbers.random(x.shape)).float()
        return super().forward((x > drawn).float() + torch.rand_like(x))


class WeightNormed(Net):
    """Cannot be copied once it was called: a weight of it is computed from two others."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.utils.weight_norm(self.fc)


def test_answers_that_are_a_matter_of_chance_are_said_to_be(digits: Digits) -> None:
    with pytest.warns(UserWarning, match=r"Net draws random numbers in eval mode.*training=self.training"):
        probe(Student(Net(after=lambda y: F.dropout(y, 0.5)), T), TET(), None, digits)


@pytest.mark.filterwarnings("ignore:.*draws random numbers in eval mode")
@pytest.mark.parametrize("net", [Net(), AddsToStream(), Poisson(), nn.Sequential(WeightNormed(), nn.Dropout(0.5))])
def test_what_keeps_the_contract_passes_and_is_left_as_it_was(net: nn.Module, digits: Digits) -> None:
    student = Student(net, T).eval()
    student(torch.zeros(2, 1, 8, 8))
    student.train()
    for module in student.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)  # a part that the user has frozen
    before = {name: value.clone() for name, value in student.state_dict().items()}
    modes = [module.training for module in student.modules()]
    hooks = [len(module._forward_hooks) for module in student.modules()]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002 - those of a user's code
    numbers = float(torch.rand(())), float(np.random.random()), random.random()  # noqa: NPY002
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    source = net.source.get_state() if isinstance(net, Poisson) else None
    probe(student, TET(), None, digits)
    assert (float(torch.rand(())), float(np.random.random()), random.random()) == numbers  # noqa: NPY002
    assert [module.training for module in student.modules()] == modes
    assert [len(module._forward_hooks) for module in student.modules()] == hooks
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())
    if isinstance(net, Poisson) and source is not None:
        assert torch.equal(net.source.get_state(), source)


@pytest.mark.parametrize(
    "loss",
    [KDSNN(student_taps=["stage2"], teacher_taps=["stage2"]), BKDSNN(student_taps=["stage2"], teacher_taps=["stage2"])],
)
def test_losses_on_features_are_tried_on_a_copy(
    loss: DistillationLoss, student: Student, teacher: Teacher, digits: Digits
) -> None:
    before = copy.deepcopy(loss)
    probe(student, loss, teacher, digits)
    assert repr(loss) == repr(before)  # what it trains itself is not made yet
    assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))


@pytest.mark.parametrize("steps", [2, 3])
def test_a_layer_before_the_first_neuron_can_be_tapped(
    steps: int, student: Student, teacher: Teacher, digits: Digits
) -> None:
    student.timesteps = steps
    probe(student, KDSNN(student_taps=["conv1"], teacher_taps=["conv1"]), teacher, digits)


def test_labels_that_are_distributions_pass(student: Student, teacher: Teacher, tser: DistillationLoss) -> None:
    settings: dict[str, Any] = {"mixup": {"alpha": 0.8}, "batch_size": 8, "train_images": 40, "test_images": 20}
    probe(student, tser, teacher, Synthetic(10, [1, 8, 8], **settings))


def test_a_small_set_is_enough(student: Student, tser: DistillationLoss, teacher: Teacher) -> None:
    settings: dict[str, Any] = {"batch_size": 2, "train_images": 20, "test_images": 20, "validation": 0.5}
    probe(student, tser, teacher, Synthetic(10, [1, 8, 8], **settings))


class Loss(nn.Module):
    def __init__(self, returned: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Any:
        return self.returned(F.cross_entropy(student_TBC.mean(0), labels_B))


class OfTwo(nn.Module):
    def forward(self, student_TBC: Tensor, labels_B: Tensor) -> Tensor:
        return F.cross_entropy(student_TBC.mean(0), labels_B)


class ForgetsToAsk(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        return (student_TBC.mean(0) - teacher_BC.softmax(-1)).square().mean()


class BatchFirst(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return F.cross_entropy(student_TBC.mean(1), labels_B)


class ChangesLabels(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return F.cross_entropy(student_TBC.mean(0), labels_B.zero_())


class MakesALayer(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        if not hasattr(self, "layer"):
            self.layer = nn.Linear(10, 10)
        return F.cross_entropy(self.layer(student_TBC.mean(0)), labels_B)


class RootOfZero(nn.Module):
    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return (student_TBC - student_TBC.detach()).square().sum().sqrt()


@pytest.mark.parametrize(
    ("loss", "what", "fix"),
    [
        (Loss(lambda ce: ce.item()), "returns a float", "without .item()"),
        (Loss(lambda ce: ce.detach().numpy()), "returns a ndarray", ".numpy()"),
        (Loss(lambda ce: (ce, {})), "returns a tuple of 2", "LossTerms"),
        (Loss(lambda ce: {"loss": ce}), "returns a dict with 'loss'", "LossTerms"),
        (Loss(lambda ce: None), "returns None", "return the tensor itself"),
        (Loss(lambda ce: ce[None]), r"a tensor \[1\] of float32", "mean()"),
        (Loss(lambda ce: ce.expand(4)), r"a tensor \[4\] of float32", "mean()"),
        (Loss(lambda ce: ce.long()), "int64", "floating point"),
        (Loss(lambda ce: ce.detach()), "no gradient", "student_TBC itself"),
        (Loss(lambda ce: ce * float("nan")), "is nan on the first", "log_softmax"),
        (RootOfZero(), "gradient that is not finite", "before a root"),
        (Loss(lambda ce: LossTerms(ce, {"loss": ce}, {"loss": 1.0})), "a part named 'loss'", "my_loss"),
        (Loss(lambda ce: LossTerms(ce, {"ce": ce.item()}, {"ce": 1.0})), "'ce' that is a float", "detach()"),  # type: ignore[dict-item]
        (Loss(lambda ce: LossTerms(ce.item(), {}, {})), "returns a float", "LossTerms"),  # type: ignore[arg-type]
        (Loss(lambda ce: LossTerms(ce, {"ce": ce}, {"kl": 1.0})), "a weight for 'kl'", '{"ce": ce}'),
        (ChangesLabels(), "changes the labels", "clone()"),
        (MakesALayer(), "makes parameters when it is called: layer.bias, layer.weight", "__init__"),
        (OfTwo(), r"takes 3 positional arguments but 4 were given", "student_TBC, teacher_BC, labels_B"),
        (ForgetsToAsk(), "NoneType", "needs_teacher = True"),
        (BatchFirst(), r"batch_size \(6\).*test_probe.py, line", "student_TBC"),
    ],
)
def test_a_loss_that_breaks_its_contract_is_refused(loss: nn.Module, what: str, fix: str, digits: Digits) -> None:
    mistake = told(Student(Net(), T), loss, None, digits)
    assert mistake.what.startswith(f"the loss {__name__}.")
    assert re.search(what, mistake.what)
    assert fix in mistake.fix


class Sees(nn.Module):
    """A linear teacher; what a test changes comes after it."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda logits: logits, classes: int = 10) -> None:
        super().__init__()
        self.linear, self.after = nn.Linear(64, classes), after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.linear(x.flatten(1)))


class Multiplies(Sees):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.mul_(0.5))


@pytest.mark.parametrize(
    ("net", "what"),
    [
        (Sees(lambda y: (y, y)), "returns a tuple of 2"),
        (Sees(lambda y: {"logits": y}), "returns a dict"),
        (Sees(lambda y: y[:, :, None, None]), r"\[4, 10, 1, 1\]"),
        (Sees(lambda y: y.squeeze(0)), r"a tensor \[10\] of float32 for images \[1, 1, 8, 8\]"),
        (Sees(lambda y: y.softmax(-1)), "returns probabilities"),
        (Sees(lambda y: y.log().log()), "not finite"),
        (Sees(classes=9), "has 9 classes, the data has 10"),
        (Sees(lambda y: F.dropout(y, 0.3, training=True)), "another answer to the same images"),
        (Sees(lambda y: y - y.mean(0)), "mixes the images of a batch"),
        (Multiplies(), "changes the images"),
    ],
)
def test_a_teacher_that_breaks_its_contract_is_refused(
    net: nn.Module, what: str, tser: DistillationLoss, digits: Digits
) -> None:
    mistake = told(Student(Net(), T), tser, Teacher(net), digits)
    assert mistake.what.startswith(f"the teacher {__name__}.")
    assert re.search(what, mistake.what)
    with pytest.raises(UsageError, match=r"\(w.pt\)"):
        probe_teacher(Teacher(net), digits, "w.pt", Machine())


class NoModule:
    def __call__(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return F.cross_entropy(student_TBC.mean(0), labels_B)


def test_a_loss_that_is_no_module_passes(digits: Digits) -> None:
    probe(Student(Net(), T), NoModule(), None, digits)  # type: ignore[arg-type]


class HalvesTheTeacher(nn.Module):
    needs_teacher = True

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        return (student_TBC.mean(0) - teacher_BC.div_(2)).square().mean()


def test_a_loss_that_changes_the_teachers_logits_is_refused(teacher: Teacher, digits: Digits) -> None:
    mistake = told(Student(Net(), T), HalvesTheTeacher(), teacher, digits)
    assert "changes the teacher's logits" in mistake.what


def test_a_teacher_in_training_is_called_one(digits: Digits) -> None:
    mistake = told(SingleStep(Sees(lambda y: (y, y))), TET(), None, digits)
    assert mistake.what.startswith(f"the teacher {__name__}.Sees returns a tuple")


def test_nothing_is_written_before_a_student_is_known_to_be_one(digits: Digits, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keeps state"):
        fit(Student(KeepsState(), T), TET(), None, digits, tmp_path, recipe=recipe)
    assert not list(tmp_path.iterdir())


def test_a_net_that_views_its_maps_trains_where_they_are_contiguous(recipe: Recipe, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 10, "train_images": 40, "test_images": 20}
    data, machine = Synthetic(10, [3, 8, 8], **settings), Machine("cpu", workers=0, channels_last=False)

    class Views3(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif, self.fc = nn.Conv2d(3, 4, 3, padding=1), LIF(), nn.Linear(256, 10)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.lif(self.conv(x))
            logits: Tensor = self.fc(maps.view(maps.size(0), -1))
            return logits

    class Seen3(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 10)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x)
            logits: Tensor = self.fc(maps.view(maps.size(0), -1))
            return logits

    loss = KDSNN("response")
    fit(Student(Views3(), 2), loss, Teacher(Seen3()), data, tmp_path, recipe=recipe, machine=machine)
    assert (tmp_path / "last.ckpt").exists()
    assert told(Student(Views3(), 2), loss, None, data).fix.endswith("channels_last=False")  # type: ignore[arg-type]
