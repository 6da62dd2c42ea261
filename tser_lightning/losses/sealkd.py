"""SeAl-KD, selective alignment distillation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.entropy import entropy
from tser_lightning.losses.kl_divergence import mean_kl
from tser_lightning.losses.log_probs import full_precision, log_probs
from tser_lightning.losses.shapes import label_classes
from tser_lightning.losses.term import Term, not_negative, positive


class SeAlKD(DistillationLoss):
    """Selective alignment distillation (Sun et al., arXiv 2605.14252), a reproduction of its public code.

        L = mean_t CE(z_t, y) + alpha ELA + beta STA

    ELA (`ErrorAwareAlignment`) teaches a step that is wrong only what it has to know; STA (`TemporalAlignment`) draws
    each step to the others, the sure and similar ones most. The weights are those that the paper prints; the public
    script's defaults are 0. It is a sum over images: nothing changes under DDP.

    Args:
        alpha: Weight of ELA, the teacher's part, >= 0.
        beta: Weight of STA, the part between the steps, >= 0.
        tau: Temperature of both divergences, > 0.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> teacher_BC = torch.tensor([[1.0, 0.0, 2.0]])
        >>> terms = SeAlKD()(teacher_BC.expand(4, 1, 3), teacher_BC, torch.tensor([2]))  # a perfect student
        >>> {name: abs(round(float(part), 4)) for name, part in terms.parts.items() if name != "ce"}
        {'ela': 0.0, 'sta': 0.0}
    """

    def __init__(self, alpha: float = 0.6, beta: float = 0.15, tau: float = 3.0, label_smoothing: float = 0.0) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "steps", label_smoothing),
                "ela": ErrorAwareAlignment(not_negative("alpha", alpha), tau),
                "sta": TemporalAlignment(not_negative("beta", beta), tau),
            }
        )


class ErrorAwareAlignment(Term):
    """tau^2 times the mean over time and batch of KL(q' || z'_t).

    Where step t takes a wrong class w for the label y, z'_t is z_t with the logit of w set to that of y, and q' is q
    with both at the lower of the two; elsewhere z' = z and q' = q.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `tau` is not above 0.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[2.0, 5.0, 1.0]]]), torch.tensor([[9.0, 0.0, -1.0]])
        >>> term = ErrorAwareAlignment()  # wrong: (2, 2, 1) is taught by (0, 0, -1), the same distribution
        >>> abs(round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4))
        0.0
    """

    needs_teacher = True
    sums_over_steps = True

    def __init__(self, weight: float = 0.6, tau: float = 3.0) -> None:
        super().__init__(weight)
        self.tau = positive("tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar."""
        student_TBC = full_precision(student_TBC)
        teacher_TBC = full_precision(teacher_BC.detach()).expand_as(student_TBC)
        chosen_TB1 = student_TBC.argmax(-1, keepdim=True)
        label_TB1 = label_classes(labels_B)[None, :, None].expand_as(chosen_TB1)
        # Where the step is right, both are the same class and nothing changes.
        lower_TB1 = torch.minimum(teacher_TBC.gather(-1, label_TB1), teacher_TBC.gather(-1, chosen_TB1))
        teacher_TBC = teacher_TBC.scatter(-1, label_TB1, lower_TB1).scatter(-1, chosen_TB1, lower_TB1)
        student_TBC = student_TBC.scatter(-1, chosen_TB1, student_TBC.gather(-1, label_TB1))
        return self.tau**2 * mean_kl(log_probs(teacher_TBC, self.tau), log_probs(student_TBC, self.tau))


class TemporalAlignment(Term):
    """tau^2 times the mean over time and batch of KL(m_t || z_t), m_t a weighted mean of the logits of the other steps.

    m_t = sum_u w_tu z_u with w_t the softmax over u != t of c_u cos(z_t, z_u), c_u = 1 - H(z_u) / ln C. m_t is a
    constant. With a single step it is 0.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `tau` is not above 0.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[3.0, 1.0]]]).log()
        >>> term = TemporalAlignment(tau=1.0)  # of two steps each learns from the other: ln 3 / 2
        >>> round(float(term(student_TBC, None, torch.tensor([0]))), 4)
        0.5493
    """

    def __init__(self, weight: float = 0.15, tau: float = 3.0) -> None:
        super().__init__(weight)
        self.tau = positive("tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; only `student_TBC` is looked at."""
        if len(student_TBC) == 1:
            return full_precision(student_TBC).sum() * 0
        mean_TBC = self._of_the_others(full_precision(student_TBC.detach()))
        return self.tau**2 * mean_kl(log_probs(mean_TBC, self.tau), log_probs(student_TBC, self.tau))

    def _of_the_others(self, logits_TBC: Tensor) -> Tensor:
        steps, _, classes = logits_TBC.shape
        most = torch.tensor(float(classes)).log().clamp_min(torch.finfo(torch.float32).tiny)  # of one class it is 0
        sure_TB = 1 - entropy(log_probs(logits_TBC)) / most.to(logits_TBC)
        unit_BTC = F.normalize(logits_TBC, dim=-1).transpose(0, 1)
        scores_BTU = unit_BTC @ unit_BTC.mT * sure_TB.T.unsqueeze(1)
        itself_TU = torch.eye(steps, dtype=torch.bool, device=logits_TBC.device)
        weights_BTU = scores_BTU.masked_fill(itself_TU, -torch.inf).softmax(-1)
        return (weights_BTU @ logits_TBC.transpose(0, 1)).transpose(0, 1)
