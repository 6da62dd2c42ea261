"""What a student learns from: terms, and losses composed of them.

Legend: T time step, B image, C class (of logits) or channel (of features), H, W, N token.
"""

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss, LossTerms
from tser_lightning.losses.entropy import Entropy
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.logit_mse import LogitMSE
from tser_lightning.losses.term import Term

__all__ = [
    "CrossEntropy",
    "DistillationLoss",
    "Entropy",
    "KLDivergence",
    "LogitMSE",
    "LossTerms",
    "Term",
]
