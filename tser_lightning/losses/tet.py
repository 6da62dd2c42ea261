"""TET, temporal efficient training."""

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.logit_mse import LogitMSE
from tser_lightning.losses.term import share


class TET(DistillationLoss):
    """Temporal efficient training (Deng et al., ICLR 2022), after its public code; it needs no teacher.

        L = (1 - lam) mean_t CE(Z(t), y) + lam mean (Z - phi)^2

    Args:
        lam: Weight of the pull towards phi, in [0, 1]; the labels have 1 - lam.
        phi: Where all logits are drawn to.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[1.0, 1.0]]]).log()  # (1/4, 3/4), then (1/2, 1/2)
        >>> round(float(TET(lam=0.0)(student_TBC, None, torch.tensor([1])).total), 4)  # (ln 4/3 + ln 2) / 2
        0.4904
    """

    def __init__(self, lam: float = 0.001, phi: float = 1.0, label_smoothing: float = 0.0) -> None:
        ce = CrossEntropy(1 - share("lam", lam), "steps", label_smoothing)
        super().__init__({"ce": ce, "mse": LogitMSE(lam, phi)})
