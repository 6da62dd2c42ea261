"""TDD, temporal decoupling distillation."""

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.right_steps import RightSteps
from tser_lightning.losses.term import not_negative


class TDD(DistillationLoss):
    """Temporal decoupling distillation (Yu et al., ICML 2025, arXiv 2501.15925), a reproduction of its public code.

        L = mean_t [ CE(z_t, y) + alpha KL_tau(q || z_t) + beta KL_tau(s || z_t) ],  KL_tau with the factor tau^2

    z_t are the student's logits at step t, q the teacher's, s the mean of the logits of those steps that are right on
    the image (`RightSteps`). It is a sum over images: nothing changes under DDP.

    Args:
        alpha: Weight of the KL divergence from the teacher, >= 0.
        beta: Weight of the KL divergence from the steps that are right, >= 0.
        tau: Temperature of both divergences, > 0.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC, labels_B = torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7])
        >>> round(float(TDD()(student_TBC, teacher_BC, labels_B).total), 4)  # ln 10: both divergences are 0
        2.3026
    """

    def __init__(self, alpha: float = 0.2, beta: float = 0.5, tau: float = 3.0, label_smoothing: float = 0.0) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "steps", label_smoothing),
                "kl": KLDivergence(not_negative("alpha", alpha), "steps", tau),
                "self_kl": RightSteps(not_negative("beta", beta), tau),
            }
        )
