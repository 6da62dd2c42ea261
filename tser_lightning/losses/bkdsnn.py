"""BKDSNN, blurred knowledge distillation."""

from collections.abc import Sequence

from tser_lightning.losses.blurred_feature import BlurredFeature
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.term import not_negative
from tser_lightning.losses.wsld import WSLD


class BKDSNN(DistillationLoss):
    """BKDSNN (Xu et al., ECCV 2024), after its official code: blurred knowledge and weighted soft labels.

        L = CE(mean_t Z(t), y) + beta BRD + WSLD

    BRD (`BlurredFeature`) restores the teacher's last feature from the student's with channels hidden; `WSLD` weighs
    the teacher's soft labels.

    Args:
        beta: Weight of BRD: 7e-5 for CNNs on ImageNet, 2e-3 for transformers and event data (alpha there).
        tau: Temperature of both distributions in WSLD, > 0.
        masked: Probability that a channel is hidden (lambda there).
        clip: Whether the teacher's feature is scaled to the student's maximum.
        student_taps: The layer of the student that is compared: a stage or a module path.
        teacher_taps: The layer of the teacher that it is compared with.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> loss = BKDSNN(beta=0.0)  # without BRD
        >>> features = {"student_features": {"stage4": torch.zeros(4, 2, 8, 2, 2)}}
        >>> features["teacher_features"] = {"stage4": torch.zeros(2, 16, 2, 2)}
        >>> terms = loss(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7]), **features)
        >>> round(float(terms.total.detach()), 4)  # ln 10 + 4 (1 - 1 / e) ln 10: both networks know nothing
        8.1246
    """

    def __init__(
        self,
        beta: float = 7e-5,
        tau: float = 2.0,
        masked: float = 0.15,
        clip: bool = False,
        student_taps: Sequence[str] = ("stage4",),
        teacher_taps: Sequence[str] = ("stage4",),
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
                "brd": BlurredFeature(not_negative("beta", beta), student_taps, teacher_taps, masked, clip),
                "wsld": WSLD(1.0, tau),
            }
        )
