"""Checks of a loss before a training: a finite scalar with a gradient, and nothing changed by the call.

Legend: T time step, B image, C class.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.errors import UsageError
from tser_lightning.losses import Heads, LossTerms
from tser_lightning.losses.contract import needs_of
from tser_lightning.training.loss_context import StepState, StudentFeatures, keywords
from tser_lightning.training.teacher_inference import TeacherOutputs
from tser_lightning.training.user_code import PASSED_ON, described, failed, named

RESERVED = (
    "loss",
    "seconds",
    "seconds_per_step",
    "peak_memory_mb",
)  # what is recorded under train/ besides the parts of a loss
_LOSS = (
    "a loss is called as loss(student_TBC, teacher_BC, labels_B), time first, and returns a scalar tensor or LossTerms"
)


class LossCalls:
    """Calls a loss on what student and teacher gave for a few images.

    Args:
        loss: As `fit` takes it; a copy, for it may make what it trains itself.
        student_TBC: The student's logits for a few images.
        seen: What the loss asks for of the student.
        teacher_outputs: What it asks for of the teacher.
        batch: What student and teacher have seen.
        heads: The classifiers, for a loss that asks for them.

    Attributes:
        who: What the loss is called in messages.
        leaves: What a gradient is wanted for: logits and features of the student.
    """

    def __init__(
        self,
        loss: nn.Module,
        student_TBC: Tensor,
        seen: StudentFeatures,
        teacher_outputs: TeacherOutputs,
        batch: Batch,
        heads: Heads | None,
    ) -> None:
        self.loss, self.teacher_outputs, self.batch, self.heads = loss, teacher_outputs, batch, heads
        self.student_TBC = student_TBC.cpu().requires_grad_()
        self.seen = seen.each(lambda value: value.cpu().requires_grad_())
        self.who = named("loss", loss)
        self.leaves = [self.student_TBC, *(value for group in self.seen for value in group.values())]

    def __call__(self, progress: float) -> Any:
        """Call the loss as at a fraction of the training that is done."""
        return self._called(self.student_TBC, self.seen, progress)

    def parameters(self) -> set[str]:
        """List the parameters that the loss trains itself; none for a callable that is no module."""
        return {name for name, _ in self.loss.named_parameters()} if isinstance(self.loss, nn.Module) else set()

    def given(self) -> dict[str, Tensor]:
        """The tensors that the loss is given and must not change, by the names that messages use."""
        logits_BC = self.teacher_outputs.logits
        return {"labels": self.batch.labels} | ({} if logits_BC is None else {"teacher's logits": logits_BC})

    def over(self, steps: slice, student_TBC: Tensor, progress: float) -> Tensor:
        """Call the loss on some of the time steps of other logits, and give its scalar."""
        value = self._called(student_TBC[steps], self.seen.of(steps), progress)
        return value.total if isinstance(value, LossTerms) else value

    def _called(self, student_TBC: Tensor, seen: StudentFeatures, progress: float) -> Any:
        step_state = StepState(lambda: progress, lambda images: self.student_TBC.detach().clone())
        asked = keywords(self.loss, seen, self.teacher_outputs, self.batch, self.heads, step_state)
        return self.loss(student_TBC, self.teacher_outputs.logits, self.batch.labels, **asked)


def probe_loss(calls: LossCalls, through_time: bool = True) -> None:
    """Check what a loss returns for logits and features that need a gradient.

    One that depends on the fraction of the training that is done is called at its begin, in the middle and at its end.
    One that a student learns from step by step is called on each step alone besides.

    Args:
        calls: The loss and what it is called with.
        through_time: Whether gradients go back through all steps; False: it must be a sum over them.

    Raises:
        UsageError: It fails; it gives no finite scalar with a finite gradient; a part has a name that is taken; it
            is not the sum that it says it is.
    """
    for progress in (0.0, 0.5, 0.999) if needs_of(calls.loss).progress else (0.0,):
        _probe_call(calls, progress)
        if not through_time:
            _probe_sum(calls, progress)


def _probe_call(calls: LossCalls, progress: float) -> None:
    teacher_BC, who = calls.teacher_outputs.logits, calls.who
    given, parameters = calls.given(), calls.parameters()
    copies = {name: value.clone() for name, value in given.items()}
    try:
        value = calls(progress)
    except PASSED_ON:
        raise
    except Exception as error:
        shapes = f"on student_TBC {list(calls.student_TBC.shape)}, teacher_BC "
        shapes += f"{None if teacher_BC is None else list(teacher_BC.shape)}, labels_B {list(calls.batch.labels.shape)}"
        missing = "; teacher_BC is None unless the class says needs_teacher = True" if teacher_BC is None else ""
        fix = "def forward(self, student_TBC, teacher_BC, labels_B)"
        if teacher_BC is None and "None" in str(error):
            fix = "the class attribute needs_teacher = True, and a teacher"
        raise failed(error, who, shapes, _LOSS + missing, fix) from error
    for name, before in copies.items():
        if not torch.equal(given[name], before):
            raise UsageError(
                what=f"{who} changes the {name} that it is given, in place",
                why="accuracy, and a cache of the teacher's logits, would have what it leaves there",
                fix="y = y * a in place of y.mul_(a), clone() before a change in place",
            )
    added = sorted(calls.parameters() - parameters)
    if added and not needs_of(calls.loss).observed:
        raise UsageError(
            what=f"{who} makes parameters when it is called: {', '.join(added[:4])}",
            why="the optimiser has been made by then: they would never be trained, nor be in a checkpoint",
            fix="the layers made in __init__; sizes that come from student and teacher are asked for as a context",
        )
    total = value.total if isinstance(value, LossTerms) else value
    _check_total(who, total)
    if isinstance(value, LossTerms):
        _check_parts(who, value)
    grads = torch.autograd.grad(total, calls.leaves, allow_unused=True) if total.requires_grad else (None,)
    if all(grad is None for grad in grads):
        raise UsageError(
            what=f"{who} has no gradient: its value does not depend on the student's logits",
            why=".detach(), .item(), argmax, a comparison or torch.no_grad() cuts the student off",
            fix="a loss of differentiable operations on student_TBC itself",
        )
    if not all(bool(grad.isfinite().all()) for grad in grads if grad is not None):
        raise UsageError(
            what=f"{who} has a gradient that is not finite on the first training images, though the logits are finite",
            why="a square root or a log at 0, or a division by 0, inside the loss",
            fix="log_softmax in place of softmax and log, and a small number added before a root or a division",
        )


@torch.no_grad()
def _probe_sum(calls: LossCalls, progress: float) -> None:
    """Check that a loss is the mean of its values for each step alone, on logits that differ from step to step."""
    spread_TBC = calls.student_TBC.detach() + torch.randn_like(calls.student_TBC)
    whole, again = (calls.over(slice(None), spread_TBC, progress) for _ in range(2))
    try:
        steps = [calls.over(slice(t, t + 1), spread_TBC, progress) for t in range(len(spread_TBC))]
        apart = torch.stack(steps).mean()
    except Exception as error:
        why = "sums_over_steps = True says that it is the mean of what it is for each step alone"
        fix = "no sums_over_steps, or a loss of any number of steps"
        raise failed(error, calls.who, "on a single time step", why, fix) from error
    draws = not torch.equal(whole, again)  # random numbers of its own: no two calls compare
    if not draws and not torch.allclose(whole, apart, rtol=1e-3, atol=1e-5):
        raise UsageError(
            what=f"{calls.who} says sums_over_steps = True, but is {float(whole):.6g} for all steps and "
            f"{float(apart):.6g} as the mean over each step alone",
            why="it compares steps with each other, or averages their logits before it does anything with them",
            fix="no sums_over_steps, or a loss of student_TBC[t] for each t and then .mean()",
        )


def _check_total(who: str, total: object) -> None:
    if not isinstance(total, Tensor) or total.ndim != 0 or not total.is_floating_point():
        fix = "return the tensor itself, without .item(), .numpy() or a container, or LossTerms(total, parts, weights)"
        if isinstance(total, Tensor):
            fix = "return loss.mean(), a tensor of no axes" if total.ndim else "a loss of floating point"
        raise UsageError(what=f"{who} returns {described(total)}, not a scalar tensor", why=_LOSS, fix=fix)
    if not total.isfinite():
        raise UsageError(
            what=f"{who} is {float(total.detach())} on the first training images, though all logits are finite",
            why="a log of 0, a division by 0 or a factor that is not finite, inside the loss",
            fix="log_softmax in place of softmax and log, and a small number added before a log or a division",
        )


def _check_parts(who: str, terms: LossTerms) -> None:
    if not isinstance(terms.parts, Mapping):
        raise UsageError(
            what=f"{who} returns LossTerms whose parts are {described(terms.parts)}, not a dict",
            why="parts are recorded by their names",
            fix='LossTerms(total, {"ce": ce}, {"ce": 1.0})',
        )
    if stray := sorted(map(str, terms.weights.keys() - terms.parts.keys())):
        raise UsageError(
            what=f"{who} returns a weight for {', '.join(map(repr, stray))}, which is no part of it",
            why=f"the parts are {', '.join(map(repr, terms.parts)) or 'none'}; each is recorded with its weight",
            fix='the same names in both: LossTerms(total, {"ce": ce}, {"ce": 1.0})',
        )
    for name, part in terms.parts.items():
        if name in RESERVED or not isinstance(name, str):
            raise UsageError(
                what=f"{who} has a part named {name!r}",
                why=f"parts are recorded as train/NAME, and train/{name} is recorded already",
                fix=f'another name, e.g. LossTerms(total, {{"my_{name}": ...}}, ...)',
            )
        if not isinstance(part, Tensor) or part.ndim != 0:
            raise UsageError(
                what=f"{who} has a part {name!r} that is {described(part)}, not a scalar tensor",
                why="parts are added up over an epoch, as tensors, so that no step waits for them",
                fix=f'{{"{name}": {name}.detach()}}, a tensor of no axes',
            )
