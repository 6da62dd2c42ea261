"""Kullback-Leibler divergence from the teacher."""

import torch.nn.functional as F
from torch import Tensor

from tser_lightning.losses.log_probs import Over, check_over, log_probs, student_log_probs
from tser_lightning.losses.term import Term, positive


def mean_kl(target_log_p: Tensor, log_p: Tensor) -> Tensor:
    """Compute the mean over all leading axes of KL(target || p) of two log-probabilities [..., C]."""
    return F.kl_div(log_p, target_log_p, reduction="none", log_target=True).sum(-1).mean()


class KLDivergence(Term):
    """Mean over time and batch of KL(teacher || student) at temperature tau (Eq. 5).

    With `over="steps"` the soft part of Eq. 8, else that of Eq. 7. No gradient reaches the teacher.

    Args:
        weight: Factor in the sum, alpha in Eq. 7, 8 and 11.
        over: "steps", "mean_logits" or "mean_probs": what is compared with the teacher.
        tau: Temperature of both distributions, > 0.
        tau_squared: Multiply by tau^2, so that the gradient keeps its size as tau grows (Hinton et al. 2015). The paper
            does not print it; the code of its group always has it.

    Raises:
        UsageError: `over` is not known, or `tau` is not above 0.

    Source:
        TSER (CVPR 2025), Eq. 5, 7 and 8.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0]]]).log(), torch.zeros(1, 2)
        >>> term = KLDivergence(tau=1.0)  # 1/2 ln(2 / 1) + 1/2 ln(2 / 3)
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4)
        0.1438
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0, over: Over = "steps", tau: float = 5.0, tau_squared: bool = True) -> None:
        super().__init__(weight)
        check_over(over)
        self.over, self.tau, self.tau_squared = over, positive("tau", tau), tau_squared
        self.sums_over_steps = over == "steps"

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        student_log_p = student_log_probs(student_TBC, self.over, self.tau)
        divergence = mean_kl(log_probs(teacher_BC.detach(), self.tau), student_log_p)
        return self.tau**2 * divergence if self.tau_squared else divergence
