"""Cross-entropy with the teacher's distribution."""

from torch import Tensor

from tser_lightning.losses.log_probs import Over, check_over, log_probs, student_log_probs
from tser_lightning.losses.term import Term, positive


class SoftCrossEntropy(Term):
    """tau^2 times the mean over time and batch of -sum Q_teacher log Q_student at temperature tau.

    It differs from tau^2 KL(teacher || student) by the teacher's entropy, a constant: both have the same gradient.

    Args:
        weight: Factor of this term in the loss, any finite number.
        over: "steps", "mean_logits" or "mean_probs": what is compared with the teacher.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `over` is not known, or `tau` is not above 0.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0]]]).log(), torch.zeros(1, 2)
        >>> term = SoftCrossEntropy(tau=1.0)  # -1/2 (ln 1/4 + ln 3/4)
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4)
        0.837
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0, over: Over = "mean_logits", tau: float = 5.0) -> None:
        super().__init__(weight)
        check_over(over)
        self.over, self.tau = over, positive("tau", tau)
        self.sums_over_steps = over == "steps"

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        teacher_p = log_probs(teacher_BC.detach(), self.tau).exp()
        student_log_p = student_log_probs(student_TBC, self.over, self.tau)
        return -(self.tau**2) * (teacher_p * student_log_p).sum(-1).mean()
