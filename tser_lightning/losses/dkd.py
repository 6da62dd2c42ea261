"""DKD, decoupled knowledge distillation."""

import torch
from torch import Tensor

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.log_probs import OverLogits, averaged_steps, check_over_logits, full_precision, log_probs
from tser_lightning.losses.piecewise_linear import PiecewiseLinear
from tser_lightning.losses.shapes import label_classes
from tser_lightning.losses.standardised import Standardised
from tser_lightning.losses.term import Term, not_negative, positive, share


class DKD(DistillationLoss):
    """Decoupled knowledge distillation (Zhao et al., CVPR 2022), a reproduction of its public code.

        L = CE(mean_t z_t, y) + r (alpha TCKD + beta NCKD) of mean_t z_t

    TCKD (`TargetKD`) compares the probability of the label, NCKD (`NonTargetKD`) the distribution over the other
    classes; r rises in a line from 0 to 1 over the share `warmup` of the training (20 of 240 epochs there). How its
    logits meet time is ours: their mean, or every step with `over=steps`. It is a sum over images: nothing changes
    under DDP. A mixed label counts as its largest class.

    Args:
        alpha: Weight of TCKD, the part on the label's probability, >= 0.
        beta: Weight of NCKD, the part on the other classes, >= 0; 1 to 8 there, by teacher.
        tau: Temperature of both distributions, > 0.
        warmup: Share of the training in which the weights rise, in [0, 1]; 0 for none.
        over: "mean_logits", or "steps": every step is compared.
        standardise: Whether logits are standardised first (`Standardised`, Sun et al., CVPR 2024).
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> teacher_BC = torch.tensor([[1.0, 0.0, 2.0]])
        >>> terms = DKD(warmup=0)(teacher_BC.expand(4, 1, 3), teacher_BC, torch.tensor([2]))  # a perfect student
        >>> round(float(terms.parts["tckd"]), 4), round(float(terms.parts["nckd"]), 4)
        (0.0, 0.0)
        >>> terms.weights
        {'ce': 1.0, 'tckd': 1.0, 'nckd': 8.0}
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        tau: float = 4.0,
        warmup: float = 1 / 12,
        over: OverLogits = "mean_logits",
        standardise: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        parts: dict[str, Term] = {
            "tckd": TargetKD(not_negative("alpha", alpha), over, tau),
            "nckd": NonTargetKD(not_negative("beta", beta), over, tau),
        }
        if standardise:
            parts = {name: Standardised(term, over) for name, term in parts.items()}
        super().__init__({"ce": CrossEntropy(1.0, "mean_logits", label_smoothing), **parts})
        if share("warmup", warmup):
            for name in parts:
                self.schedule(name, PiecewiseLinear([[0, 0], [warmup, 1]]))


class _Decoupled(Term):
    needs_teacher = True

    def __init__(self, weight: float = 1.0, over: OverLogits = "mean_logits", tau: float = 4.0) -> None:
        super().__init__(weight)
        check_over_logits(over)
        self.over, self.tau = over, positive("tau", tau)
        self.sums_over_steps = over == "steps"

    def split(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give log-probabilities [T, B, C] of the student, [B, C] of the teacher, and where the label is, [B, C]."""
        log_s_TBC = log_probs(averaged_steps(student_TBC, self.over), self.tau)
        log_p_BC = log_probs(full_precision(teacher_BC.detach()), self.tau)
        classes = torch.arange(log_p_BC.shape[-1], device=log_p_BC.device)
        return log_s_TBC, log_p_BC, classes == label_classes(labels_B)[:, None]


class TargetKD(_Decoupled):
    """tau^2 times the mean of KL(b || b'), b and b' the probabilities of the label and of all else (TCKD).

    Args:
        weight: Factor of this term in the loss, any finite number.
        over: "mean_logits", or "steps": every step is compared.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `over` is not known, or `tau` is not above 0.

    Source:
        Zhao et al., CVPR 2022 (DKD).

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 1.0, 2.0]]]).log(), torch.tensor([[1.0, 1.0, 6.0]]).log()
        >>> term = TargetKD(tau=1.0)  # 3/4 ln(3/2) + 1/4 ln(1/2): of the label 3/4 and 1/2
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([2]))), 4)
        0.1308
    """

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar."""
        log_s_TBC, log_p_BC, is_label_BC = self.split(student_TBC, teacher_BC, labels_B)
        parts = []
        for where_BC in (is_label_BC, ~is_label_BC):
            log_s_TB = log_s_TBC.masked_fill(~where_BC, -torch.inf).logsumexp(-1)
            log_p_B = log_p_BC.masked_fill(~where_BC, -torch.inf).logsumexp(-1)
            parts.append(log_p_B.exp() * (log_p_B - log_s_TB))
        return self.tau**2 * (parts[0] + parts[1]).mean()


class NonTargetKD(_Decoupled):
    """tau^2 times the mean of KL(p || s) over the classes that are not the label, each renormalised (NCKD).

    Args:
        weight: Factor of this term in the loss, any finite number.
        over: "mean_logits", or "steps": every step is compared.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `over` is not known, or `tau` is not above 0.

    Source:
        Zhao et al., CVPR 2022 (DKD).

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0, 9.0]]]).log(), torch.tensor([[2.0, 2.0, 1.0]]).log()
        >>> term = NonTargetKD(tau=1.0)  # KL of (1/2, 1/2) and (1/4, 3/4), whatever the label has
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([2]))), 4)
        0.1438
    """

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar."""
        log_s_TBC, log_p_BC, is_label_BC = self.split(student_TBC, teacher_BC, labels_B)
        # A large finite number: the difference of two infinite logarithms would be no number.
        log_s_TBC = log_s_TBC.masked_fill(is_label_BC, -1e4).log_softmax(-1)
        log_p_BC = log_p_BC.masked_fill(is_label_BC, -1e4).log_softmax(-1)
        return self.tau**2 * (log_p_BC.exp() * (log_p_BC - log_s_TBC)).sum(-1).mean()
