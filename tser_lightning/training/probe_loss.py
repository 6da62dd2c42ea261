"""A loss on a few logits, before a training: does it give what a training needs?

Legend: T time step, B image, C class.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tser_lightning.losses import LossTerms
from tser_lightning.mistake import Mistake
from tser_lightning.training.own_code import PASSED_ON, described, failed, named

RESERVED = ("loss", "seconds", "peak_memory_mb")  # what is recorded under train/ besides the parts of a loss
_LOSS = (
    "a loss is called as loss(student_TBC, teacher_BC, labels_B), time first, and returns a scalar tensor or LossTerms"
)


def probe_loss(
    loss: nn.Module,
    student_TBC: Tensor,
    teacher_BC: Tensor | None,
    labels_B: Tensor,
    features: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None,
) -> None:
    """Call a loss on logits and features that a gradient is wanted for.

    Args:
        loss: As `fit` takes it; a copy, for it may make what it trains itself.
        student_TBC: Logits.
        teacher_BC: Logits, or None for a loss that needs no teacher.
        labels_B: Class indices [B], or distributions [B, C].
        features: Of student and teacher, by name, for a loss that wants them.

    Raises:
        Mistake: It fails; it gives no finite scalar with a finite gradient; a part has a name that is taken.
    """
    who = named("loss", loss)
    student_TBC = student_TBC.cpu().requires_grad_()
    leaves, settings = [student_TBC], {}
    if features is not None:
        student_features = {name: y.cpu().requires_grad_() for name, y in features[0].items()}
        leaves += student_features.values()
        settings = {"student_features": student_features, "teacher_features": dict(features[1])}
    try:
        value = loss(student_TBC, teacher_BC, labels_B, **settings)
    except PASSED_ON:
        raise
    except Exception as error:
        given = f"on student_TBC {list(student_TBC.shape)}, teacher_BC "
        given += f"{None if teacher_BC is None else list(teacher_BC.shape)}, labels_B {list(labels_B.shape)}"
        missing = "; teacher_BC is None unless the class says needs_teacher = True" if teacher_BC is None else ""
        fix = "def forward(self, student_TBC, teacher_BC, labels_B)"
        if teacher_BC is None and "None" in str(error):
            fix = "the class attribute needs_teacher = True, and a teacher"
        raise failed(error, who, given, _LOSS + missing, fix) from error
    total = value.total if isinstance(value, LossTerms) else value
    _check_total(who, total)
    if isinstance(value, LossTerms):
        _check_parts(who, value)
    grads = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else (None,)
    if all(grad is None for grad in grads):
        raise Mistake(
            what=f"{who} has no gradient: its value does not depend on the student's logits",
            why=".detach(), .item(), argmax, a comparison or torch.no_grad() cuts the student off",
            fix="a loss of differentiable operations on student_TBC itself",
        )
    if not all(bool(grad.isfinite().all()) for grad in grads if grad is not None):
        raise Mistake(
            what=f"{who} has a gradient that is not finite on the first training images, though the logits are finite",
            why="a square root or a log at 0, or a division by 0, inside the loss",
            fix="log_softmax in place of softmax and log, and a small number added before a root or a division",
        )


def _check_total(who: str, total: object) -> None:
    if not isinstance(total, Tensor) or total.ndim != 0 or not total.is_floating_point():
        fix = "return the tensor itself, without .item(), .numpy() or a container, or LossTerms(total, parts, weights)"
        if isinstance(total, Tensor):
            fix = "return loss.mean(), a tensor of no axes" if total.ndim else "a loss of floating point"
        raise Mistake(what=f"{who} returns {described(total)}, not a scalar tensor", why=_LOSS, fix=fix)
    if not total.isfinite():
        raise Mistake(
            what=f"{who} is {float(total.detach())} on the first training images, though all logits are finite",
            why="a log of 0, a division by 0 or a factor that is not finite, inside the loss",
            fix="log_softmax in place of softmax and log, and a small number added before a log or a division",
        )


def _check_parts(who: str, terms: LossTerms) -> None:
    if not isinstance(terms.parts, Mapping):
        raise Mistake(
            what=f"{who} returns LossTerms whose parts are {described(terms.parts)}, not a dict",
            why="parts are recorded by their names",
            fix='LossTerms(total, {"ce": ce}, {"ce": 1.0})',
        )
    for name, part in terms.parts.items():
        if name in RESERVED or not isinstance(name, str):
            raise Mistake(
                what=f"{who} has a part named {name!r}",
                why=f"parts are recorded as train/NAME, and train/{name} is recorded already",
                fix=f'another name, e.g. LossTerms(total, {{"my_{name}": ...}}, ...)',
            )
        if not isinstance(part, Tensor) or part.ndim != 0:
            raise Mistake(
                what=f"{who} has a part {name!r} that is {described(part)}, not a scalar tensor",
                why="parts are added up over an epoch, as tensors, so that no step waits for them",
                fix=f'{{"{name}": {name}.detach()}}, a tensor of no axes',
            )
