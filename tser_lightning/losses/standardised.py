"""Logit standardisation."""

from torch import Tensor

from tser_lightning.losses.contract import LossContext, keywords_for, needs_of
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.log_probs import OverLogits, averaged_steps, check_over_logits, full_precision
from tser_lightning.losses.term import Term, not_negative


def standardised(logits: Tensor) -> Tensor:
    """Bring logits to mean 0 and standard deviation 1 over the classes: (z - mean) / (std + 1e-7)."""
    logits = full_precision(logits)
    return (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True) + 1e-7)


class Standardised(Term):
    """Any term on logits, of standardised logits of student and teacher (Sun et al., CVPR 2024).

    The term then compares the order of the logits and no longer their size.

    Args:
        term: Any term on logits; its weight is this one's.
        over: "steps": the logits of each step are standardised. "mean_logits": their mean over time is, and the term
            sees that as a single step.

    Raises:
        UsageError: `over` is not known.

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import KLDivergence
        >>> teacher_BC = torch.tensor([[1.0, 0.0, 2.0]])
        >>> term = Standardised(KLDivergence(tau=2.0))
        >>> twice = term(2 * teacher_BC[None] + 1, teacher_BC, torch.tensor([2]))  # the same logits once standardised
        >>> abs(round(float(twice), 4))
        0.0
    """

    def __init__(self, term: Term, over: OverLogits = "steps") -> None:
        super().__init__(term.weight)
        check_over_logits(over)
        self.term, self.over = term, over
        self.needs_teacher, self.needs = term.needs_teacher, needs_of(term)
        self.sums_over_steps = over == "steps" and term.sums_over_steps

    def forward(
        self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, context: LossContext | None = None
    ) -> Tensor:
        """Return the term's scalar."""
        student_TBC = standardised(averaged_steps(student_TBC, self.over))
        teacher_BC = None if teacher_BC is None else standardised(teacher_BC)
        asked = keywords_for(self.term, context or LossContext())
        value: Tensor = self.term(student_TBC, teacher_BC, labels_B, **asked)
        return value


class LogitStandardization(DistillationLoss):
    """KD of standardised logits (Sun et al., CVPR 2024), a reproduction of its public code.

        L = ce CE + kd KL_tau(N(q) || N(z)),  N(z) = (z - mean) / std over the classes, KL_tau with the factor tau^2

    How its logits meet time is ours: z are the logits of every step (`over=steps`, then CE is of every step too), or
    their mean. `Standardised` does the same to any other term. It is a sum over images: nothing changes under DDP.

    Args:
        ce: Weight of the cross-entropy with the labels, >= 0.
        kd: Weight of the KL divergence of standardised logits, >= 0.
        tau: Temperature of the KL divergence, > 0.
        over: "steps": every step is taught; "mean_logits": the mean of their logits.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> terms = LogitStandardization()(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7]))
        >>> terms.weights, round(float(terms.total), 4)  # 0.1 ln 10
        ({'ce': 0.1, 'kl': 9.0}, 0.2303)
    """

    def __init__(
        self,
        ce: float = 0.1,
        kd: float = 9.0,
        tau: float = 2.0,
        over: OverLogits = "steps",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(not_negative("ce", ce), over, label_smoothing),
                "kl": Standardised(KLDivergence(not_negative("kd", kd), "steps", tau), over),
            }
        )
