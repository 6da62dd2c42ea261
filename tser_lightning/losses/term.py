"""One named part of a loss."""

from math import isfinite

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import Needs


class Term(nn.Module):
    """One part of a loss: a scalar made of the student's logits and of what it declares to need.

    A subclass defines `forward(student_TBC, teacher_BC, labels_B) -> Tensor`, which returns the unweighted scalar. One
    that has `needs` gets the keyword `context` besides (see `Loss`). What it trains (a projection) is a submodule: it
    is optimised with the student and never exported.

    Attributes:
        weight: The factor of this term in the sum.
        needs_teacher: Whether it compares with the teacher.
        needs: What else it asks for.
        sums_over_steps: Whether it is a sum over time steps, the mean of what it is for each step alone; see `Loss`.

    Args:
        weight: The factor of this term in the sum, any finite number.

    Raises:
        UsageError: The weight is not finite.

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import DistillationLoss
        >>> class LargestLogit(Term):
        ...     def forward(self, student_TBC, teacher_BC, labels_B):
        ...         return student_TBC.max()
        >>> loss = DistillationLoss({"largest": LargestLogit(weight=0.5)})
        >>> float(loss(torch.tensor([[[1.0, 3.0]]]), None, torch.tensor([1])).total)
        1.5
    """

    needs_teacher: bool = False
    needs: Needs = Needs()
    sums_over_steps: bool = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not isfinite(weight):
            raise UsageError(f"a loss term's weight is {weight}", "the sum would not be finite", "give a finite number")
        self.weight = float(weight)

    def extra_repr(self) -> str:
        """Show the weight."""
        return f"weight={self.weight:g}"


def positive(name: str, value: float) -> float:
    """Return `value`, or raise a UsageError if it is not above 0."""
    if not value > 0:
        raise UsageError(
            f"{name} = {value} is not above 0", "logits are divided by it", f"give {name} > 0, for example 5"
        )
    return value


def not_negative(name: str, value: float) -> float:
    """Return `value`, or raise a UsageError if it is below 0."""
    if not value >= 0:
        raise UsageError(f"{name} = {value} is below 0", "it would turn its term round", f"give {name} >= 0")
    return value


def share(name: str, value: float) -> float:
    """Return `value`, or raise a UsageError if it is not in [0, 1]."""
    if not 0 <= value <= 1:
        why = f"it is divided between two terms, which have {name} and 1 - {name}"
        raise UsageError(f"{name} = {value} is not in [0, 1]", why, f"give {name} from 0 to 1, for example 0.5")
    return value
