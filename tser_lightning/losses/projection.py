"""A 1x1 convolution whose widths are known only when the first features come."""

from torch import Tensor, nn


class Projection(nn.Module):
    """A 1x1 convolution with bias from the student's width to the teacher's, made at the first call.

    The optimiser must be made, and a state loaded, after that first call; a call on zeros will do. torch's LazyConv2d
    learns the width that comes in alone; the width that goes out is the teacher's, which nobody knows before either.
    """

    conv: nn.Conv2d | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("conv", None)

    def forward(self, student_BCHW: Tensor, channels: int) -> Tensor:
        """Project to `channels` channels; the result has the dtype of `student_BCHW`, also under autocast."""
        if self.conv is None:
            self.conv = nn.Conv2d(student_BCHW.shape[1], channels, kernel_size=1).to(student_BCHW)
        projected: Tensor = self.conv(student_BCHW)
        return projected.to(student_BCHW.dtype)
