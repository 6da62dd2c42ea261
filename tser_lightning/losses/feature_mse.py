"""Squared distance of projected features."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.losses.feature_maps import as_map, same_size
from tser_lightning.losses.feature_term import FeatureTerm
from tser_lightning.losses.projection import Projection


class FeatureMSE(FeatureTerm):
    """Squared distance between the teacher's features and the student's firing rates.

    Where the widths differ, a learnt 1x1 convolution brings the student's to the teacher's (as in BKDSNN's public code
    of KDSNN and LaSNN); where they are equal, the rates are compared as they are.

    Args:
        weight: Factor of this term in the loss, any finite number.
        student_taps: Layers of the student that are compared: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.
        reduction: "mean": over images, channels and pixels. "image": summed over channels and pixels, mean over images.

    Raises:
        UsageError: `reduction` is not known, or the layers are no pairs.

    Examples:
        >>> import torch
        >>> rate_BCHW, teacher_BCHW = torch.full((2, 3, 2, 2), 0.5), torch.ones(2, 3, 2, 2)
        >>> float(FeatureMSE(reduction="mean").distance(0, rate_BCHW, teacher_BCHW))  # 0.5^2
        0.25
        >>> float(FeatureMSE(reduction="image").distance(0, rate_BCHW, teacher_BCHW))  # of 3 2 2 values
        3.0
    """

    def __init__(
        self,
        weight: float = 1.0,
        student_taps: Sequence[str] = ("stage4",),
        teacher_taps: Sequence[str] = ("stage4",),
        reduction: Literal["mean", "image"] = "mean",
    ) -> None:
        super().__init__(weight, student_taps, teacher_taps)
        if reduction not in ("mean", "image"):
            raise UsageError(f"reduction = {reduction!r} is not known", "it is mean or image", "give reduction=mean")
        self.reduction = reduction
        self.projections = nn.ModuleList(Projection() for _ in self.pairs)

    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the squared distance of one pair."""
        student_BCHW, teacher_BCHW = same_size(as_map(student), as_map(teacher))
        if student_BCHW.shape[1] != teacher_BCHW.shape[1]:
            student_BCHW = self.projections[pair](student_BCHW, teacher_BCHW.shape[1])
        squares_BCHW = (student_BCHW - teacher_BCHW).square()
        return squares_BCHW.mean() if self.reduction == "mean" else squares_BCHW.sum() / len(squares_BCHW)
