"""Distillation of the mean over time, and the labels alone."""

from typing import Literal

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.log_probs import averaged
from tser_lightning.losses.tser import TSER


class VanillaKD(TSER):
    """Vanilla distillation of a spiking student (TSER paper, Eq. 7): only the mean over time is taught.

        L = (1 - alpha) CE(mean_t Z(t), y) + alpha tau^2 KL(Q_teacher || Q(mean_t Z(t)))

    Args:
        alpha: Weight of the teacher, in [0, 1]; the labels have 1 - alpha.
        tau: Temperature of the KL divergence.
        mean: What is averaged: "logits" (Algorithm 1) or "probs" (Eq. 7 as printed).
        tau_squared: Whether the KL divergence is multiplied by tau^2.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC, labels_B = torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7])
        >>> round(float(VanillaKD(alpha=0.0)(student_TBC, teacher_BC, labels_B).total), 4)  # ln 10
        2.3026
    """

    def __init__(
        self,
        alpha: float = 0.5,
        tau: float = 5.0,
        mean: Literal["logits", "probs"] = "logits",
        tau_squared: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            alpha,
            tau,
            separate_ce=False,
            separate_kl=False,
            regularise_entropy=False,
            mean=mean,
            tau_squared=tau_squared,
            label_smoothing=label_smoothing,
        )


class LabelsOnly(DistillationLoss):
    """Cross-entropy of the mean over time without a teacher: CE(mean_t Z(t), y), the hard part of Eq. 7.

    Args:
        mean: What is averaged: "logits" or "probs".
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[1.0, 1.0]]]).log()  # (1/4, 3/4), then (1/2, 1/2)
        >>> round(float(LabelsOnly(mean="probs")(student_TBC, None, torch.tensor([1])).total), 4)  # ln 8/5
        0.47
    """

    def __init__(self, mean: Literal["logits", "probs"] = "logits", label_smoothing: float = 0.0) -> None:
        super().__init__({"ce": CrossEntropy(1.0, averaged(mean), label_smoothing)})
