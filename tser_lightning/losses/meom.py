"""MEOM, its part on logits."""

import torch
from torch import Tensor

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.log_probs import full_precision, log_probs
from tser_lightning.losses.term import Term, not_negative


class MEOM(DistillationLoss):
    """Many Eyes, One Mind (Sun et al., ICLR 2026): its part on logits, our interpretation of the paper's text.

        L = mean_t CE(z_t, y) + beta mean_t KL_tau(q || z_t) + gamma TPD,  KL_tau with the factor tau^2

    TPD (`ProgressiveSteps`) draws the prediction that a shorter run gives to that of one step more. Not here: the
    teacher's several views, one for each step, which the paper makes by masks on its features; how they are drawn could
    not be found out, and all steps have the same q. Uncertain: whether TPD's softmax has the temperature too. It is a
    sum over images: nothing changes under DDP.

    Args:
        beta: Weight of the KL divergence from the teacher, >= 0.
        gamma: Weight of TPD, the part between the steps, >= 0.
        tau: Temperature of the KL divergence, > 0.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> terms = MEOM()(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7]))
        >>> {name: round(float(part), 4) for name, part in terms.parts.items()}  # tpd: the entropy of the target, ln 10
        {'ce': 2.3026, 'kl': 0.0, 'tpd': 2.3026}
    """

    def __init__(self, beta: float = 0.5, gamma: float = 0.3, tau: float = 3.0, label_smoothing: float = 0.0) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "steps", label_smoothing),
                "kl": KLDivergence(not_negative("beta", beta), "steps", tau),
                "tpd": ProgressiveSteps(not_negative("gamma", gamma)),
            }
        )


class ProgressiveSteps(Term):
    """Mean over t < T and batch of the cross-entropy of m_t with softmax(m_(t+1)), m_t the mean of the first t logits.

    The target is a constant. With a single step it is 0.

    Args:
        weight: Factor of this term in the loss, any finite number.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[9.0, 3.0]]]).log()  # the mean of both logits is (ln 3, ln 3)
        >>> term = ProgressiveSteps()  # -1/2 (ln 1/4 + ln 3/4)
        >>> round(float(term(student_TBC, None, torch.tensor([0]))), 4)
        0.837
    """

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; only `student_TBC` is looked at."""
        student_TBC = full_precision(student_TBC)
        if len(student_TBC) == 1:
            return student_TBC.sum() * 0
        count_T = torch.arange(1, len(student_TBC) + 1, device=student_TBC.device).to(student_TBC)
        log_p_TBC = log_probs(student_TBC.cumsum(0) / count_T[:, None, None])
        return -(log_p_TBC[1:].detach().exp() * log_p_TBC[:-1]).sum(-1).mean()
