"""SAKD, self-architectural distillation."""

from collections.abc import Sequence

from torch import Tensor, nn

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.feature_maps import as_map, same_size
from tser_lightning.losses.feature_term import STAGES, FeatureTerm
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.term import Term, not_negative, positive


class SAKD(DistillationLoss):
    """Self-architectural distillation (Qiu et al., Neural Networks 2024), a reproduction of its public CIFAR script.

        L = CE(mean_t z_t, y) + beta sum over stages of mean (G(mean_t f) - F)^2 + c KL_tau(q || mean_t z_t)

    f and F are features of student and teacher, G a learnt 3x3 convolution with BatchNorm. c is 0 in that script. The
    paper also begins from the teacher's weights; that is the student's affair and not done here. BatchNorm sees the
    batch: with `machine.sync_batchnorm` that of all processes, else each one's own.

    Args:
        beta: Weight of the features' squared distance, >= 0.
        c: Weight of the KL divergence from the teacher's logits, >= 0; 0 leaves it out.
        tau: Temperature of the KL divergence, > 0.
        student_taps: Layers of the student: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> SAKD().weights, SAKD(c=0.5).weights
        ({'ce': 1.0, 'feature': 100.0}, {'ce': 1.0, 'feature': 100.0, 'kl': 0.5})
        >>> SAKD().teacher_taps
        ('stage1', 'stage2', 'stage3', 'stage4')
    """

    def __init__(
        self,
        beta: float = 100.0,
        c: float = 0.0,
        tau: float = 4.0,
        student_taps: Sequence[str] = STAGES,
        teacher_taps: Sequence[str] = STAGES,
        label_smoothing: float = 0.0,
    ) -> None:
        terms: dict[str, Term] = {
            "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
            "feature": TransformedFeature(not_negative("beta", beta), student_taps, teacher_taps),
        }
        positive("tau", tau)
        if not_negative("c", c):
            terms["kl"] = KLDivergence(c, "mean_logits", tau)
        super().__init__(terms)


class TransformedFeature(FeatureTerm):
    """Sum over pairs of layers of the mean of (G(rate) - F)^2, G a learnt conv3x3 - BatchNorm of the teacher's width.

    Args:
        weight: Factor of this term in the loss, any finite number.
        student_taps: Layers of the student that are compared: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.

    Raises:
        UsageError: The layers are no pairs.

    Examples:
        >>> import torch
        >>> term = TransformedFeature(student_taps=["stage4"], teacher_taps=["stage4"])
        >>> student_BCHW, teacher_BCHW = torch.rand(2, 4, 2, 2), torch.rand(2, 8, 2, 2)
        >>> term.distance(0, student_BCHW, teacher_BCHW).shape
        torch.Size([])
        >>> sum(parameter.numel() for parameter in term.parameters())  # 8 4 3 3, then a weight and a bias for each of 8
        304
    """

    def __init__(
        self, weight: float = 100.0, student_taps: Sequence[str] = STAGES, teacher_taps: Sequence[str] = STAGES
    ) -> None:
        super().__init__(weight, student_taps, teacher_taps)
        self.transforms = nn.ModuleList(Transform() for _ in self.pairs)

    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean squared distance of one pair."""
        student_BCHW, teacher_BCHW = same_size(as_map(student), as_map(teacher))
        transformed_BCHW: Tensor = self.transforms[pair](student_BCHW, teacher_BCHW.shape[1])
        return (transformed_BCHW - teacher_BCHW).square().mean()


class Transform(nn.Module):
    """conv3x3 - BatchNorm to a number of channels, made at the first call like a `Projection`."""

    layers: nn.Sequential | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("layers", None)

    def forward(self, feature_BCHW: Tensor, channels: int) -> Tensor:
        """Transform to `channels` channels; a map of the same size and dtype, also under autocast."""
        if self.layers is None:
            conv = nn.Conv2d(feature_BCHW.shape[1], channels, kernel_size=3, padding=1, bias=False)
            self.layers = nn.Sequential(conv, nn.BatchNorm2d(channels)).to(feature_BCHW)
        transformed: Tensor = self.layers(feature_BCHW)
        return transformed.to(feature_BCHW.dtype)
