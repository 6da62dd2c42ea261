"""Strong-to-weak and weak-to-strong self-distillation."""

from typing import Literal

from torch import Tensor

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.kl_divergence import mean_kl
from tser_lightning.losses.log_probs import log_probs
from tser_lightning.losses.term import Term, not_negative, positive


class StepToStep(Term):
    """tau^2 KL between the logits of the surest and the least sure step, mean over the batch; the taught one learns.

    How sure a step is, is the mean over the batch of its largest probability: a number of the batch. So the choice of
    the steps depends on the batch: each process under DDP and each part of an accumulated batch chooses its own. With a
    single step it is 0.

    Args:
        weight: Factor of this term in the loss, any finite number.
        taught: Which of the two learns: "weak" (from the strong) or "strong" (from the weak).
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `tau` is not above 0.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 1.0]], [[1.0, 3.0]]]).log()  # weak, then strong
        >>> term = StepToStep(taught="weak", tau=1.0)  # 1/4 ln(1 / 2) + 3/4 ln(3 / 2)
        >>> round(float(term(student_TBC, None, torch.tensor([1]))), 4)
        0.1308
    """

    def __init__(self, weight: float = 1.0, taught: Literal["weak", "strong"] = "weak", tau: float = 2.0) -> None:
        super().__init__(weight)
        self.taught, self.tau = taught, positive("tau", tau)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; only `student_TBC` is looked at."""
        sure_T = log_probs(student_TBC.detach()).amax(-1).exp().mean(-1)
        # An index by a tensor: the host does not wait for an accelerator.
        strong_BC = log_probs(student_TBC, self.tau).index_select(0, sure_T.argmax(0, keepdim=True))
        weak_BC = log_probs(student_TBC, self.tau).index_select(0, sure_T.argmin(0, keepdim=True))
        teacher, learner = (strong_BC, weak_BC) if self.taught == "weak" else (weak_BC, strong_BC)
        return self.tau**2 * mean_kl(teacher.detach(), learner)


class StrongToWeak(DistillationLoss):
    """Self-distillation from the surest step (Ding et al., NeurIPS 2025, arXiv 2510.07924), our interpretation.

        L = CE(mean_t z_t, y) + lam KL_tau(z_strong || z_weak),  z_strong a constant, KL_tau with the factor tau^2

    strong and weak are the steps of the highest and lowest mean confidence in the batch (`StepToStep`), so the loss
    changes under DDP and accumulation. No teacher is needed. Uncertain, as no code was read: that the confidence is the
    largest probability and that it is averaged before the steps are chosen.

    Args:
        lam: Weight of the KL divergence between the two steps, >= 0.
        tau: Temperature of both distributions, > 0.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 1.0]], [[1.0, 3.0]]]).log()
        >>> round(float(StrongToWeak(tau=1.0)(student_TBC, None, torch.tensor([1])).parts["self_kl"]), 4)
        0.1308
    """

    def __init__(self, lam: float = 1.0, tau: float = 2.0, label_smoothing: float = 0.0) -> None:
        super().__init__(_terms("weak", lam, tau, label_smoothing))


class WeakToStrong(DistillationLoss):
    """Self-distillation from the least sure step (Ding et al., NeurIPS 2025, arXiv 2510.07924), our interpretation.

        L = CE(mean_t z_t, y) + lam KL_tau(z_weak || z_strong),  z_weak a constant, KL_tau with the factor tau^2

    As `StrongToWeak`, with its doubts, the other way round.

    Args:
        lam: Weight of the KL divergence between the two steps, >= 0.
        tau: Temperature of both distributions, > 0.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 1.0]], [[1.0, 3.0]]]).log()  # KL of (1/2, 1/2) and (1/4, 3/4)
        >>> round(float(WeakToStrong(tau=1.0)(student_TBC, None, torch.tensor([1])).parts["self_kl"]), 4)
        0.1438
    """

    def __init__(self, lam: float = 1.0, tau: float = 2.0, label_smoothing: float = 0.0) -> None:
        super().__init__(_terms("strong", lam, tau, label_smoothing))


def _terms(taught: Literal["weak", "strong"], lam: float, tau: float, label_smoothing: float) -> dict[str, Term]:
    return {
        "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
        "self_kl": StepToStep(not_negative("lam", lam), taught, tau),
    }
