"""LaSNN, layer-wise distillation of features."""

from collections.abc import Sequence
from typing import Literal

from tser_lightning.errors import UsageError
from tser_lightning.losses.attention_transfer import AttentionTransfer
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.feature_mse import FeatureMSE
from tser_lightning.losses.feature_term import STAGES, FeatureTerm
from tser_lightning.losses.term import not_negative


class LaSNN(DistillationLoss):
    """LaSNN (Hong et al., arXiv 2304.09101), a reading: its code is not public and its maps could not be read.

    attention: CE(Z, y) + beta sum_j mean (A_j^teacher - A_j^student)^2 over the stages j, as in attention transfer.
    mse: CE(Z, y) + beta sum_j sum (P_j(F_j^student) - F_j^teacher)^2 / B, P_j a learnt 1x1 convolution where
    widths differ, which is how BKDSNN's code re-implements it. Z and F^student are means over time.
    Uncertain: the attention map and its weight. LaSNN also begins from the teacher's weights; that is the student's
    affair and not done here.

    Args:
        map: What of the features is compared: "attention" (maps of activity) or "mse" (all values).
        beta: Weight of the stages. None: 10 for attention (attention transfer's own 1000 drowns the labels on small
            images), 7e-5 for mse (BKDSNN's).
        student_taps: Layers of the student that are compared: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: An unknown map, or a value out of its range.

    Examples:
        >>> LaSNN().weights, LaSNN(map="mse").weights
        ({'ce': 1.0, 'attention': 10.0}, {'ce': 1.0, 'mse': 7e-05})
        >>> LaSNN().student_taps
        ('stage1', 'stage2', 'stage3', 'stage4')
    """

    def __init__(
        self,
        map: Literal["attention", "mse"] = "attention",
        beta: float | None = None,
        student_taps: Sequence[str] = STAGES,
        teacher_taps: Sequence[str] = STAGES,
        label_smoothing: float = 0.0,
    ) -> None:
        if map not in ("attention", "mse"):
            raise UsageError(f"map = {map!r} is not known", "LaSNN has attention and mse", "give map=attention")
        beta = not_negative("beta", beta if beta is not None else 10.0 if map == "attention" else 7e-5)
        stages: FeatureTerm
        if map == "attention":
            stages = AttentionTransfer(beta, student_taps, teacher_taps)
        else:
            stages = FeatureMSE(beta, student_taps, teacher_taps, reduction="image")
        ce = CrossEntropy(over="mean_logits", label_smoothing=label_smoothing)
        super().__init__({"ce": ce, map: stages})
