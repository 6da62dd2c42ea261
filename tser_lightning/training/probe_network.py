"""Checks of a network before a training: shapes, values, state between calls, images that mix.

Legend: T time step, B image, C class.
"""

import warnings
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tser_lightning.data.batch import Batch
from tser_lightning.errors import UsageError
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.student import Student
from tser_lightning.training.loss_context import StudentFeatures, StudentHooks
from tser_lightning.training.nonfinite import first_nonfinite
from tser_lightning.training.preserve_state import GeneratorStates, borrowed, seed_all
from tser_lightning.training.recipe import Machine
from tser_lightning.training.teacher import SingleStep, Teacher
from tser_lightning.training.teacher_inference import TeacherHooks, TeacherOutputs
from tser_lightning.training.user_code import PASSED_ON, described, failed, is_about_sizes, named

_STUDENT = (
    "a network is called with T*B images at once (before its first neuron with B) and gives logits [T*B, classes]"
)
_TEACHER = "a teacher is called with images [B, channels, height, width] and gives logits [B, classes]"


def probed_student(
    student: nn.Module, batch: Batch, loss: nn.Module | None, classes: int, machine: Machine
) -> tuple[Tensor, StudentFeatures]:
    """Check a student on a few images.

    Args:
        student: Images to logits_TBC; an ANN in its place (`SingleStep`) is called the teacher that it is.
        batch: A few training images.
        loss: Asks for what is wanted of it.
        classes: C, the number of classes.
        machine: Its `channels_last` is how maps will lie in memory.

    Returns:
        logits_TBC in training mode and what the loss asks for, without their graph.

    Raises:
        UsageError: See `probe`.
    """
    return _StudentProbe(student, classes).probed(batch, loss, machine)


def probed_teacher(
    teacher: Teacher, batch: Batch, loss: nn.Module | None, classes: int, machine: Machine, name: str = ""
) -> TeacherOutputs:
    """Check a teacher; as `probed_student`, but for `name`, what it is called besides.

    Returns:
        What the loss asks for.

    Raises:
        UsageError: See `probe`.
    """
    return _TeacherProbe(teacher, classes, name).probed(batch, loss, machine)


class _Called(ABC):
    """A network that is called on a few images, and what is expected of it."""

    contract: str
    mends = "a network that takes images of this size and these channels"

    def __init__(self, role: str, whole: nn.Module, net: nn.Module, classes: int) -> None:
        self.who, self.classes = named(role, net), classes
        self.whole = whole

    @abstractmethod
    def net(self, whole: nn.Module) -> nn.Module:
        """The module that is the user's."""

    @abstractmethod
    def rows(self, images: Tensor) -> tuple[int, ...] | None:
        """The axes of its output before the classes; None where any number of steps will do."""

    def call(self, whole: nn.Module, images: Tensor) -> Tensor:
        """Give its logits, checked."""
        caught: list[Any] = []
        handle = self.net(whole).register_forward_hook(lambda module, inputs, output: caught.append(output))
        given = images.clone()
        try:
            logits = whole(given)
        except PASSED_ON:
            raise
        except Exception as error:
            if caught:  # the network has answered; it is its answer that cannot be used
                self.check_shape(caught[-1], images)
            raise self.explained(whole, images, error) from error
        finally:
            handle.remove()
        alike = isinstance(whole, Student) and whole.is_ann  # then the student makes T of the one step of its network
        self.check_shape(logits.flatten(0, 1) if alike else caught[-1] if caught else logits, images)
        if not torch.equal(given.nan_to_num(), images.nan_to_num()):
            raise UsageError(
                what=f"{self.who} changes the images that it is given, in place",
                why="what is computed from the batch after it sees other images, in training others than in evaluation",
                fix="x = x * a + b in place of x.mul_(a).add_(b), and no inplace=True on the input",
            )
        return cast(Tensor, logits)

    def lay_out(self, whole: nn.Module, images: Tensor, machine: Machine) -> None:
        """Lay maps out in memory as in the training (channels last), which `view` may not take."""
        with torch.no_grad():
            self.call(whole, images)
            try:
                lay_out(whole, images, images.device, machine.channels_last)
            except Exception as error:  # of the call in it
                raise self.explained(whole, images, error) from error

    def explained(self, whole: nn.Module, images: Tensor, error: Exception) -> UsageError:
        """Turn what a call raised into a `UsageError` that says why."""
        return failed(error, self.who, f"on images {list(images.shape)}", self.contract, self.mends)

    def check_shape(self, answer: object, images: Tensor) -> None:
        """Raise a `UsageError` if these are not logits of the right shape."""
        rows = self.rows(images)
        wanted = "logits [T, B, classes]" if rows is None else f"logits {[*rows, self.classes]}"
        if not isinstance(answer, Tensor):
            raise UsageError(
                what=f"{self.who} returns {described(answer)}, not a tensor of {wanted}",
                why=self.contract,
                fix="return the logits alone, e.g. output[0] of a tuple, output['logits'] of a dict",
            )
        shape = tuple(answer.shape)
        fits = shape[:-1] == rows if rows is not None else len(shape) == 3 and shape[1] == images.shape[-4]
        if fits and shape[-1] != self.classes:
            raise UsageError(
                what=f"{self.who} has {shape[-1]} classes, the data has {self.classes}",
                why="logits, teacher and labels are compared class by class",
                fix="as many outputs as the argument num_classes says",
            )
        if not fits:
            raise self.misshapen(answer, images, wanted)
        if not answer.is_floating_point():
            raise UsageError(
                what=f"{self.who} returns {described(answer)}, not floating point",
                why="logits are real numbers that a gradient goes through",
                fix="the output of the last layer, without argmax and without conversion",
            )

    def misshapen(self, answer: Tensor, images: Tensor, wanted: str) -> UsageError:
        """Make the `UsageError` for logits of a wrong shape."""
        fix = "return logits of this shape"
        if answer.shape[2:].numel() == 1 and answer.ndim == 4:
            fix = "return x.flatten(1): the last two axes are of size 1"
        return UsageError(
            what=f"{self.who} returns {described(answer)} for images {list(images.shape)}, not {wanted}",
            why=self.contract,
            fix=fix,
        )

    def check_values(self, logits: Tensor, whole: nn.Module, images: Tensor) -> None:
        """Raise a `UsageError` if these are not finite, or are probabilities."""
        if not logits.isfinite().all():
            first = first_nonfinite(whole, images)
            raise UsageError(
                what=f"{self.who} gives logits that are not finite on the first training images; first: "
                f"{first or 'the logits'}",
                why="a loss of NaN or infinity teaches nothing",
                fix="finite images, weights and operations (no division by 0, no log of 0)",
            )
        rows = logits.detach().float().flatten(0, -2)
        sums = rows.sum(-1)
        if self.classes > 1 and bool((rows >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            raise UsageError(
                what=f"{self.who} returns probabilities: all are >= 0 and sum to 1",
                why="losses take the softmax of logits themselves; of probabilities it is nearly uniform",
                fix="leave the softmax at the end out and return what goes into it",
            )

    def check_calls(self, whole: nn.Module, images: Tensor, tolerance: float, seeds: tuple[int, int]) -> None:
        """Raise a `UsageError` if logits depend on an earlier call or on other images of the batch."""
        generators = GeneratorStates(whole)
        with torch.no_grad():
            answers = []
            for seed, asked in ((seeds[0], images), (seeds[1], images), (seeds[0], exchanged(images))):
                seed_all(seed)
                generators.again()
                answers.append(self.call(whole, asked))
            self.call(whole, images.narrow(images.ndim - 4, 0, 1))
        first, second, beside = answers
        if not _alike(first, second, tolerance):
            raise self.remembers()
        kept = (images.shape[-4] + 1) // 2
        if kept < images.shape[-4] and not _alike(_of_first(first, kept), _of_first(beside, kept), tolerance):
            raise self.mixes(first, beside, kept, tolerance)

    @abstractmethod
    def remembers(self) -> UsageError:
        """Make the `UsageError` for two equal calls with different logits."""

    def mixes(self, first: Tensor, beside: Tensor, kept: int, tolerance: float) -> UsageError:
        """Make the `UsageError` for logits that depend on other images of the batch."""
        return UsageError(
            what=f"{self.who} mixes the images of a batch in eval mode: with other images beside them, the answers for "
            "the first ones change",
            why="an accuracy would depend on the batch size and the order of the images",
            fix="nn.BatchNorm, which has running statistics for eval mode, not a mean over the batch in forward",
        )


class _StudentProbe(_Called):
    contract = _STUDENT

    def __init__(self, student: nn.Module, classes: int) -> None:
        if isinstance(student, SingleStep):
            self.contract = _TEACHER
        role = "teacher" if isinstance(student, SingleStep) else "student"
        super().__init__(role, student, self.net(student), classes)

    def net(self, whole: nn.Module) -> nn.Module:
        return whole.net if isinstance(whole, Student | SingleStep) else whole

    def rows(self, images: Tensor) -> tuple[int, ...] | None:
        size = images.shape[-4]
        if isinstance(self.whole, SingleStep):
            return (size,)
        if isinstance(self.whole, Student):
            steps = len(images) if images.ndim == 5 else self.whole.timesteps
            return (steps, size) if self.whole.time_first else (steps * size,)
        return None

    def probed(self, batch: Batch, loss: nn.Module | None, machine: Machine) -> tuple[Tensor, StudentFeatures]:
        """Check it, and give logits_TBC and what a loss asks for, cut off from it."""
        with borrowed(self.whole) as whole:
            if whole is not self.whole:
                whole.cpu()
            images = _as_taken(batch.images, whole)
            hooks = StudentHooks(whole, loss)
            _wake(whole, statistics=whole is not self.whole)
            student_TBC = self.call(whole, images)
            seen = hooks.take(*student_TBC.shape[:2]).each(Tensor.detach)
            self.check_values(student_TBC, whole, images)
            if not student_TBC.requires_grad:
                raise UsageError(
                    what=f"{self.who} cannot learn: no gradient goes from its logits to a parameter",
                    why="it has no parameters, or .data, .detach(), .item() or torch.no_grad() cuts them off",
                    fix="layers with parameters, and nothing that cuts the graph in forward",
                )
            whole.eval()
            self.lay_out(whole, images, machine)
            self.check_calls(whole, images, 1e-5, (1, 1))
            self.warn_of_chance(whole, images)
            hooks.forget()
        return student_TBC.detach(), seen

    @torch.no_grad()
    def warn_of_chance(self, whole: nn.Module, images: Tensor) -> None:
        """Warn of logits that are random in eval mode: wanted with Poisson coding, a mistake with dropout."""
        seed_all(1)
        first = self.call(whole, images)
        seed_all(2)
        if not _alike(first, self.call(whole, images), 1e-5):
            warnings.warn(
                f"{self.who} draws random numbers in eval mode, so its accuracy is a matter of chance too: meant for "
                "random spike codes; a dropout is switched off by nn.Dropout or dropout(x, p, training=self.training)",
                stacklevel=2,
            )

    def explained(self, whole: nn.Module, images: Tensor, error: Exception) -> UsageError:
        if not (isinstance(whole, Student) and images.ndim == 4 and is_about_sizes(error)) or whole.timesteps == 1:
            return super().explained(whole, images, error)
        try:
            with torch.no_grad():
                whole(images.expand(whole.timesteps, *images.shape))
        except Exception:  # then it is something else
            return super().explained(whole, images, error)
        mistake = super().explained(whole, images, error)
        return UsageError(
            what=mistake.what,
            why=f"what comes before the first neuron is the same at all steps and is computed once: it has B = "
            f"{len(images)} rows, what comes after it T*B = {whole.timesteps * len(images)}",
            fix="tser_lightning.models.preact.add_to_stream(branch, x) for branch + x; elsewhere x.repeat(T, 1, 1, 1); "
            "sizes read off the tensor that is reshaped",
        )

    def misshapen(self, answer: Tensor, images: Tensor, wanted: str) -> UsageError:
        mistake = super().misshapen(answer, images, wanted)
        if not isinstance(self.whole, Student) or answer.ndim not in (2, 3):
            return mistake
        return UsageError(
            what=mistake.what,
            why=self.contract,
            fix="return the logits of all steps as they come, [T*B, classes], time outside: no unflatten, transpose or "
            "mean over time; the student does that",
        )

    def remembers(self) -> UsageError:
        return UsageError(
            what=f"{self.who} keeps state from one call to the next: the same images get another answer",
            why="a batch would depend on the batches before it; neurons start every call at rest",
            fix="neurons made by activation(channels), or what is kept set back at the start of forward",
        )

    def mixes(self, first: Tensor, beside: Tensor, kept: int, tolerance: float) -> UsageError:
        if isinstance(self.whole, Student) and _alike(
            _other_way(first)[:, :kept], _other_way(beside)[:, :kept], tolerance
        ):
            return UsageError(
                what=f"{self.who} returns its logits batch-major, [B*T, classes]",
                why="rows are folded time-major, [T*B, classes]: the B images of the first step come first",
                fix="logits.unflatten(0, (T, -1)) for [T, B, ...] inside, flatten(0, 1) of that at the end",
            )
        return super().mixes(first, beside, kept, tolerance)


class _TeacherProbe(_Called):
    contract = _TEACHER

    def __init__(self, teacher: Teacher, classes: int, name: str = "") -> None:
        super().__init__("teacher", teacher, teacher.net, classes)
        self.who += name

    def net(self, whole: nn.Module) -> nn.Module:
        return cast(Teacher, whole).net

    def rows(self, images: Tensor) -> tuple[int, ...] | None:
        return (images.shape[-4],)

    def probed(self, batch: Batch, loss: nn.Module | None, machine: Machine) -> TeacherOutputs:
        """Check it, and give what a loss asks for."""
        with borrowed(self.whole) as whole, torch.no_grad():
            if whole is not self.whole:
                whole.cpu()
            images = _as_taken(batch.images, whole)
            hooks = TeacherHooks(self.net(whole), loss)
            teacher_BC = self.call(whole, images)
            outputs = hooks.take(teacher_BC)
            self.check_values(teacher_BC, whole, images)
            self.lay_out(whole, images, machine)
            self.check_calls(whole, images, 1e-4, (1, 2))
            hooks.take(None)
        return outputs

    def remembers(self) -> UsageError:
        return UsageError(
            what=f"{self.who} gives another answer to the same images",
            why="it keeps state between calls, or draws random numbers in eval mode (dropout with training=True)",
            fix="nn.Dropout, or dropout(x, p, training=self.training), and no state",
        )


def exchanged(images: Tensor) -> Tensor:
    """Put copies of the first half of a batch, [B,...] or [T,B,...], in the place of the second half."""
    axis = images.ndim - 4
    size = images.shape[axis]
    kept = (size + 1) // 2
    return torch.cat([images.narrow(axis, 0, kept), images.narrow(axis, 0, size - kept)], axis)


def _of_first(logits: Tensor, kept: int) -> Tensor:
    """Give the logits of the first images, of [T, B, C] or [B, C]."""
    return logits.narrow(logits.ndim - 2, 0, kept)


def _other_way(logits_TBC: Tensor) -> Tensor:
    """Read the rows of [T, B, C] as [B, T] and give [T, B, C] of them."""
    steps, size, _ = logits_TBC.shape
    turned_TBC: Tensor = logits_TBC.flatten(0, 1).unflatten(0, (size, steps)).transpose(0, 1)
    return turned_TBC


def _alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    largest = float(one.abs().max()) if one.numel() else 0.0
    return bool(((one - other).abs() <= tolerance * max(largest, 1e-6)).all())


def _as_taken(images: Tensor, whole: nn.Module) -> Tensor:
    """Move images to the device of a network, and to float64 where its weights are."""
    parameter = next(whole.parameters(), images)
    return images.to(parameter.device, torch.float64 if parameter.dtype == torch.float64 else images.dtype)


def _wake(whole: nn.Module, statistics: bool) -> None:
    """Go to training mode; in a copy norms take over the statistics of the batch: without them a new net is silent."""
    whole.train()
    for module in whole.modules():
        if statistics and isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = 1.0
