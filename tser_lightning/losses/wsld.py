"""Weighted soft-label distillation."""

import torch
from torch import Tensor

from tser_lightning.losses.cross_entropy import cross_entropy
from tser_lightning.losses.log_probs import log_probs, student_log_probs
from tser_lightning.losses.term import Term, positive


class WSLD(Term):
    """Soft cross-entropy with the teacher, weighted by how much better than the student the teacher knows an image.

    tau^2 mean_b w_b CE(Q_teacher, Q_student) at temperature tau, w = 1 - exp(-CE_student / CE_teacher) from the
    cross-entropies with the label at temperature 1, through which no gradient flows (Zhou et al., ICLR 2021, as in
    BKDSNN, Xu et al., ECCV 2024). The student's logits are averaged over time first.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `tau` is not above 0.

    Examples:
        >>> import torch
        >>> term = WSLD(tau=1.0)  # both know nothing: (1 - 1 / e) ln 10
        >>> round(float(term(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7]))), 4)
        1.4555
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0, tau: float = 2.0) -> None:
        super().__init__(weight)
        self.tau = positive("tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar."""
        student_log_p = student_log_probs(student_TBC, "mean_logits", self.tau).squeeze(0)
        teacher_p = log_probs(teacher_BC.detach(), self.tau).exp()
        soft_B = -(teacher_p * student_log_p).sum(-1)
        return self.tau**2 * (self._focus(student_TBC.detach(), teacher_BC.detach(), labels_B) * soft_B).mean()

    def _focus(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        student_B = cross_entropy(student_log_probs(student_TBC, "mean_logits").squeeze(0), labels_B)
        teacher_B = cross_entropy(log_probs(teacher_BC), labels_B)
        # A teacher that is certain and right has a cross-entropy of 0: the ratio is then infinite and the weight 1.
        return 1 - torch.exp(-student_B / teacher_B.clamp_min(torch.finfo(teacher_B.dtype).tiny))
