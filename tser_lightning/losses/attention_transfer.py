"""Distance of spatial attention maps."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from tser_lightning.losses.feature_maps import as_map, same_size
from tser_lightning.losses.feature_term import STAGES, FeatureTerm
from tser_lightning.losses.term import positive


class AttentionTransfer(FeatureTerm):
    """Sum over stages of mean (A_teacher - A_student)^2 (Zagoruyko and Komodakis, ICLR 2017).

    A(F) = vec(mean_c |F|^p), divided by its Euclidean norm: where in the image a stage is active. It has no channels,
    so that no projection is needed.

    Args:
        weight: Factor of this term in the loss, any finite number.
        student_taps: Layers of the student that are compared: stages or module paths.
        teacher_taps: The layers of the teacher that they are compared with.
        p: The power of the activations, > 0; 2 in the paper.

    Raises:
        UsageError: `p` is not above 0, or the layers are no pairs.

    Examples:
        >>> import torch
        >>> term = AttentionTransfer(student_taps=["stage4"], teacher_taps=["stage4"])
        >>> left_B1HW, right_B1HW = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
        >>> float(term.distance(0, left_B1HW, right_B1HW))  # of the unit vectors (1, 0) and (0, 1)
        1.0
    """

    def __init__(
        self,
        weight: float = 10.0,
        student_taps: Sequence[str] = STAGES,
        teacher_taps: Sequence[str] = STAGES,
        p: float = 2.0,
    ) -> None:
        super().__init__(weight, student_taps, teacher_taps)
        self.p = positive("p", p)

    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean squared difference of the two attention maps."""
        student_BCHW, teacher_BCHW = same_size(as_map(student), as_map(teacher))
        return (self._attention(student_BCHW) - self._attention(teacher_BCHW)).square().mean()

    def _attention(self, feature_BCHW: Tensor) -> Tensor:
        return F.normalize(feature_BCHW.abs().pow(self.p).mean(1).flatten(1))
