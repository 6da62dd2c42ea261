"""Distillation of every time step from the steps that are right."""

from torch import Tensor

from tser_lightning.losses.kl_divergence import mean_kl
from tser_lightning.losses.log_probs import full_precision, log_probs
from tser_lightning.losses.shapes import label_classes
from tser_lightning.losses.term import Term, positive


class RightSteps(Term):
    """tau^2 times the mean over time and batch of KL(s || z_t), s the mean of the logits of the steps that are right.

    Right means that the largest logit is the label's (the largest share of a mixed label). s is a constant; where no
    step is right it is 0 for all classes, a uniform target.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `tau` is not above 0.

    Source:
        TDD (Yu et al., ICML 2025, arXiv 2501.15925), `make_teacher` in model/layer.py of its code.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[3.0, 1.0]]]).log()  # right at the first step alone
        >>> term = RightSteps(tau=1.0)  # half of KL of (1/4, 3/4) and (3/4, 1/4), ln 3 / 2
        >>> round(float(term(student_TBC, None, torch.tensor([1]))), 4)
        0.2747
    """

    def __init__(self, weight: float = 0.5, tau: float = 3.0) -> None:
        super().__init__(weight)
        self.tau = positive("tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; `teacher_BC` is not looked at."""
        logits_TBC = full_precision(student_TBC.detach())
        right_TB1 = (logits_TBC.argmax(-1) == label_classes(labels_B)).unsqueeze(-1)
        target_BC = (logits_TBC * right_TB1).sum(0) / right_TB1.sum(0).clamp_min(1)
        return self.tau**2 * mean_kl(log_probs(target_BC, self.tau), log_probs(student_TBC, self.tau))
