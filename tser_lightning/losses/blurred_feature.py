"""Blurred-feature distillation (BRD)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.losses.feature_maps import as_map, pooled, same_size
from tser_lightning.losses.feature_term import FeatureTerm
from tser_lightning.losses.projection import Projection


class BlurredFeature(FeatureTerm):
    """Restore the teacher's last feature from the student's after hiding some of its channels.

    sum (G(m . F_student) - F_teacher)^2 / B, with F_student the mean over time, m a mask that is 0 for each channel of
    each image with probability `masked` (and not rescaled), and G a learnt conv3x3 - ReLU - conv3x3 of the teacher's
    width (BKDSNN, Xu et al., ECCV 2024, official code). A learnt 1x1 convolution comes first where the widths differ.
    A teacher without maps (a transformer: tokens or a pooled vector) is compared by its pooled vector with the spatial
    mean of G. Masks are drawn from torch's global generator.

    Args:
        weight: Factor in the sum: 7e-5 for the ImageNet CNNs of the paper, 2e-3 for its transformers and event data.
        student_taps: Layers of the student that are compared: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.
        masked: Probability that a channel is hidden, lambda in the paper.
        clip: Scale the teacher's feature to the maximum of the student's. As in the official code the gradient flows
            through that maximum too; no published script sets it.

    Raises:
        UsageError: `masked` is not in [0, 1), or the layers are no pairs.

    Examples:
        >>> import torch
        >>> term = BlurredFeature()
        >>> student_BCHW, teacher_BCHW = torch.rand(2, 4, 2, 2), torch.rand(2, 8, 2, 2)
        >>> term.distance(0, student_BCHW, teacher_BCHW).shape
        torch.Size([])
        >>> sum(parameter.numel() for parameter in term.parameters())  # 4 8 + 8, then twice 8 8 3 3 + 8
        1208
    """

    def __init__(
        self,
        weight: float = 7e-5,
        student_taps: Sequence[str] = ("stage4",),
        teacher_taps: Sequence[str] = ("stage4",),
        masked: float = 0.15,
        clip: bool = False,
    ) -> None:
        super().__init__(weight, student_taps, teacher_taps)
        if not 0 <= masked < 1:
            raise UsageError(f"masked = {masked} is not in [0, 1)", "it is a probability", "give masked=0.15")
        self.masked, self.clip = masked, clip
        self.aligns = nn.ModuleList(Projection() for _ in self.pairs)
        self.generators = nn.ModuleList(Generator() for _ in self.pairs)

    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the squared distance of the restored feature, summed over channels and pixels, mean over images."""
        student_BCHW = as_map(student)
        has_map = teacher.dim() == 4
        if has_map:
            student_BCHW, target = same_size(student_BCHW, teacher)
        else:
            target = pooled(teacher)
        if student_BCHW.shape[1] != target.shape[1]:
            student_BCHW = self.aligns[pair](student_BCHW, target.shape[1])
        if self.clip:
            target = target / target.max().clamp_min(1e-12) * student_BCHW.max()
        restored: Tensor = self.generators[pair](self._hide(student_BCHW))
        return ((restored if has_map else restored.mean((2, 3))) - target).square().sum() / len(target)

    def _hide(self, feature_BCHW: Tensor) -> Tensor:
        images, channels = feature_BCHW.shape[:2]
        return feature_BCHW * (torch.rand(images, channels, 1, 1, device=feature_BCHW.device) >= self.masked)


class Generator(nn.Module):
    """conv3x3 - ReLU - conv3x3 with biases, all of its input's width; made at the first call like a `Projection`."""

    layers: nn.Sequential | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("layers", None)

    def forward(self, feature_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape and dtype, also under autocast."""
        if self.layers is None:
            width = feature_BCHW.shape[1]
            convs = [nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in range(2)]
            self.layers = nn.Sequential(convs[0], nn.ReLU(), convs[1]).to(feature_BCHW)
        restored: Tensor = self.layers(feature_BCHW)
        return restored.to(feature_BCHW.dtype)
