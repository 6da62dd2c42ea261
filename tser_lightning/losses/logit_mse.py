"""Mean squared error of the logits to a constant."""

from torch import Tensor

from tser_lightning.losses.log_probs import full_precision
from tser_lightning.losses.term import Term


class LogitMSE(Term):
    """Mean squared error of all logits at all steps to one value phi (TET, Deng et al., ICLR 2022).

    Args:
        weight: Factor in the sum, TET's lambda.
        phi: The value that every logit is pulled to.

    Examples:
        >>> import torch
        >>> float(LogitMSE(phi=1.0)(torch.tensor([[[1.0, 3.0]]]), None, torch.tensor([0])))  # (0 + 2^2) / 2
        2.0
    """

    sums_over_steps = True

    def __init__(self, weight: float = 1e-3, phi: float = 1.0) -> None:
        super().__init__(weight)
        self.phi = phi

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; only `student_TBC` is looked at."""
        return (full_precision(student_TBC) - self.phi).square().mean()
