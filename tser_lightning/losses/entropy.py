"""Entropy of the student's predictions."""

from torch import Tensor

from tser_lightning.losses.log_probs import log_probs
from tser_lightning.losses.term import Term, positive


def entropy(log_p: Tensor) -> Tensor:
    """Compute the entropy in nats of log-probabilities [..., C]; [...]."""
    return -(log_p.exp() * log_p).sum(-1)


class Entropy(Term):
    """Mean over time and batch of the student's entropy in nats, in [0, ln C] (Eq. 9).

    The regulariser of Eq. 10 is -lam times this: its weight is negative, so that minimising the sum raises the entropy
    of every step (a confidence penalty). The paper's text speaks of the teacher's output; the formula, which is
    followed here, acts on the student alone.

    Args:
        weight: Factor in the sum, -lam in Eq. 10.
        tau: Temperature of the distribution, > 0; the paper gives none.

    Raises:
        UsageError: `tau` is not above 0.

    Source:
        TSER (CVPR 2025), Eq. 9 and 10.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]]).clamp_min(1e-30).log()  # uniform, then certain
        >>> round(float(Entropy()(student_TBC, None, torch.tensor([0]))), 4)  # (ln 2 + 0) / 2
        0.3466
    """

    sums_over_steps = True

    def __init__(self, weight: float = -0.01, tau: float = 1.0) -> None:
        super().__init__(weight)
        self.tau = positive("entropy_tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; only `student_TBC` is looked at."""
        log_p = log_probs(student_TBC, self.tau)
        return entropy(log_p).mean()
