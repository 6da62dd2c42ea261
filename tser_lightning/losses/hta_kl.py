"""HTA-KL, head-tail-aware KL divergence."""

from torch import Tensor

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.log_probs import Over, check_over, log_probs, student_log_probs
from tser_lightning.losses.term import Term, positive, share


class HTAKL(DistillationLoss):
    """Head-tail-aware KL (Zhang et al., arXiv 2504.20445), our interpretation of the paper's text.

        L = (1 - alpha) CE(mean_t z_t, y) + alpha HTA_tau(q, mean_t z_t)

    HTA (`HeadTailKL`) weighs KL and reverse KL image by image by where the student is off, so nothing changes under
    DDP. Uncertain, as no code was read: the class at which the head ends, whether the weights are constants, alpha, tau
    and the factor tau^2.

    Args:
        alpha: Weight of the teacher, in [0, 1]; the labels have 1 - alpha.
        tau: Temperature of both distributions, > 0.
        head: Share of the teacher's mass that is the head, in [0, 1].
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> teacher_BC = torch.tensor([[1.0, 0.0, 2.0]])
        >>> terms = HTAKL()(teacher_BC.expand(4, 1, 3), teacher_BC, torch.tensor([2]))  # a perfect student
        >>> round(float(terms.parts["hta_kl"]), 4), terms.weights
        (0.0, {'ce': 0.5, 'hta_kl': 0.5})
    """

    def __init__(self, alpha: float = 0.5, tau: float = 4.0, head: float = 0.5, label_smoothing: float = 0.0) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1 - share("alpha", alpha), "mean_logits", label_smoothing),
                "hta_kl": HeadTailKL(alpha, "mean_logits", tau, head),
            }
        )


class HeadTailKL(Term):
    """tau^2 times the mean over batch (and steps) of w KL(p || s) + (1 - w) KL(s || p), p the teacher's distribution.

    w is the share of the head in sum |p - s|; the head are the most probable classes of the teacher that are needed for
    `head` of its mass. w is a constant, 1/2 where p = s.

    Args:
        weight: Factor of this term in the loss, any finite number.
        over: "steps", "mean_logits" or "mean_probs": what is compared with the teacher.
        tau: Temperature of both distributions, > 0.
        head: Share of the teacher's probability that makes the head, in [0, 1].

    Raises:
        UsageError: `over` is not known, `tau` is not above 0, or `head` not in [0, 1].

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0]]]).log(), torch.zeros(1, 2)
        >>> term = HeadTailKL(tau=1.0, head=1.0)  # all is head: KL of (1/2, 1/2) and (1/4, 3/4)
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4)
        0.1438
    """

    needs_teacher = True

    def __init__(self, weight: float = 0.5, over: Over = "mean_logits", tau: float = 4.0, head: float = 0.5) -> None:
        super().__init__(weight)
        check_over(over)
        self.over, self.tau, self.head = over, positive("tau", tau), share("head", head)
        self.sums_over_steps = over == "steps"

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        log_s_TBC = student_log_probs(student_TBC, self.over, self.tau)
        log_p_BC = log_probs(teacher_BC.detach(), self.tau)
        forward_TB = (log_p_BC.exp() * (log_p_BC - log_s_TBC)).sum(-1)
        reverse_TB = (log_s_TBC.exp() * (log_s_TBC - log_p_BC)).sum(-1)
        w_TB = self._share_of_head(log_p_BC.exp(), log_s_TBC.detach().exp())
        return self.tau**2 * (w_TB * forward_TB + (1 - w_TB) * reverse_TB).mean()

    def _share_of_head(self, p_BC: Tensor, s_TBC: Tensor) -> Tensor:
        sorted_BC, order_BC = p_BC.sort(-1, descending=True)
        before_BC = sorted_BC.cumsum(-1) - sorted_BC  # the mass of more probable classes
        is_head_BC = (before_BC < self.head).to(p_BC).scatter(-1, order_BC, (before_BC < self.head).to(p_BC))
        gap_TBC = (p_BC - s_TBC).abs()
        total_TB = gap_TBC.sum(-1)
        share_TB = (gap_TBC * is_head_BC).sum(-1) / total_TB.clamp_min(1e-12)
        return share_TB.where(total_TB > 1e-12, 0.5)
