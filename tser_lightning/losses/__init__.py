"""What a student learns from: methods by their names, and the terms that they are made of.

Legend: T time step, B image, C class (of logits) or channel (of features), H, W, N token.
"""

from tser_lightning.losses.attention_transfer import AttentionTransfer
from tser_lightning.losses.bkdsnn import BKDSNN
from tser_lightning.losses.blurred_feature import BlurredFeature
from tser_lightning.losses.ckdsnn import CKDSNN, NoisyLogits, SaliencyMaps
from tser_lightning.losses.contract import Heads, Loss, LossContext, LossTerms, Needs, SpikingStudent
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.dist import DIST, Relation
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.dkd import DKD, NonTargetKD, TargetKD
from tser_lightning.losses.entropy import Entropy
from tser_lightning.losses.feature_mse import FeatureMSE
from tser_lightning.losses.feature_term import FeatureTerm
from tser_lightning.losses.hta_kl import HTAKL, HeadTailKL
from tser_lightning.losses.im_loss import CurrentMean, IMLoss
from tser_lightning.losses.kdsnn import KDSNN
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.lasnn import LaSNN
from tser_lightning.losses.logit_mse import LogitMSE
from tser_lightning.losses.meom import MEOM, ProgressiveSteps
from tser_lightning.losses.piecewise_linear import PiecewiseLinear
from tser_lightning.losses.right_steps import RightSteps
from tser_lightning.losses.sakd import SAKD, TransformedFeature
from tser_lightning.losses.sealkd import ErrorAwareAlignment, SeAlKD, TemporalAlignment
from tser_lightning.losses.soft_cross_entropy import SoftCrossEntropy
from tser_lightning.losses.standardised import LogitStandardization, Standardised
from tser_lightning.losses.strong_and_weak import StepToStep, StrongToWeak, WeakToStrong
from tser_lightning.losses.tdd import TDD
from tser_lightning.losses.term import Term
from tser_lightning.losses.tet import TET
from tser_lightning.losses.tser import TSER
from tser_lightning.losses.vanilla_kd import LabelsOnly, VanillaKD
from tser_lightning.losses.wsld import WSLD

__all__ = [
    "BKDSNN",
    "CKDSNN",
    "DIST",
    "DKD",
    "HTAKL",
    "KDSNN",
    "MEOM",
    "SAKD",
    "TDD",
    "TET",
    "TSER",
    "WSLD",
    "AttentionTransfer",
    "BlurredFeature",
    "CrossEntropy",
    "CurrentMean",
    "DistillationLoss",
    "Entropy",
    "ErrorAwareAlignment",
    "FeatureMSE",
    "FeatureTerm",
    "HeadTailKL",
    "Heads",
    "IMLoss",
    "KLDivergence",
    "LaSNN",
    "LabelsOnly",
    "LogitMSE",
    "LogitStandardization",
    "Loss",
    "LossContext",
    "LossTerms",
    "Needs",
    "NoisyLogits",
    "NonTargetKD",
    "PiecewiseLinear",
    "ProgressiveSteps",
    "Relation",
    "RightSteps",
    "SaliencyMaps",
    "SeAlKD",
    "SoftCrossEntropy",
    "SpikingStudent",
    "Standardised",
    "StepToStep",
    "StrongToWeak",
    "TargetKD",
    "TemporalAlignment",
    "Term",
    "TransformedFeature",
    "VanillaKD",
    "WeakToStrong",
]
