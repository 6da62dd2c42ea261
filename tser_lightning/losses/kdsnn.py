"""KDSNN, joint distillation of logits and features."""

from collections.abc import Sequence
from typing import Literal

from tser_lightning.errors import UsageError
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.feature_mse import FeatureMSE
from tser_lightning.losses.soft_cross_entropy import SoftCrossEntropy
from tser_lightning.losses.term import Term, not_negative, share


class KDSNN(DistillationLoss):
    """KDSNN (Xu et al., CVPR 2023), a reading: its code is not public and its equations could not be read.

    joint: (1 - alpha) CE(Z, y) + alpha tau^2 CE(Q_teacher, Q_student) + beta mean (F_teacher - P(r_student))^2 with Z
    the mean over time of the logits, Q at temperature tau, r the firing rate of one stage, P a learnt 1x1 convolution
    where the widths differ.
    response: without the last part. feature: CE(Z, y) + beta mean (F_teacher - P(r_student))^2.
    Uncertain: the feature's layer, norm and weight; that the soft part is a cross-entropy is what the TSER paper says.

    Args:
        mode: Which parts: "joint", "response" or "feature".
        alpha: Weight of the teacher's logits.
        tau: Temperature of the soft cross-entropy, > 0.
        beta: Weight of the feature's squared distance, >= 0.
        student_taps: The layer of the student that is compared.
        teacher_taps: The layer of the teacher that it is compared with.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: An unknown mode, or a value out of its range.

    Examples:
        >>> import torch
        >>> loss = KDSNN(mode="response", tau=1.0)  # no feature
        >>> round(float(loss(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7])).total), 4)  # ln 10
        2.3026
        >>> KDSNN(mode="joint").weights, KDSNN(mode="joint").student_taps
        ({'ce': 0.5, 'soft_ce': 0.5, 'feature': 1.0}, ('stage4',))
    """

    def __init__(
        self,
        mode: Literal["joint", "response", "feature"] = "joint",
        alpha: float = 0.5,
        tau: float = 5.0,
        beta: float = 1.0,
        student_taps: Sequence[str] = ("stage4",),
        teacher_taps: Sequence[str] = ("stage4",),
        label_smoothing: float = 0.0,
    ) -> None:
        if mode not in ("joint", "response", "feature"):
            raise UsageError(
                f"mode = {mode!r} is not known", "KDSNN has joint, response and feature", "give mode=joint"
            )
        hard = 1.0 if mode == "feature" else 1 - share("alpha", alpha)
        terms: dict[str, Term] = {"ce": CrossEntropy(hard, over="mean_logits", label_smoothing=label_smoothing)}
        if mode != "feature":
            terms["soft_ce"] = SoftCrossEntropy(alpha, over="mean_logits", tau=tau)
        if mode != "response":
            terms["feature"] = FeatureMSE(not_negative("beta", beta), student_taps, teacher_taps)
        super().__init__(terms)
