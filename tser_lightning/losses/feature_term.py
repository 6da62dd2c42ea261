"""What all terms on features share: layers in pairs, and time averaged away."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import LossContext, Needs
from tser_lightning.losses.term import Term

STAGES = ("stage1", "stage2", "stage3", "stage4")


class FeatureTerm(Term):
    """The sum over pairs of layers of a distance between the student's mean over time and the teacher's feature.

    A subclass defines `distance`. Spikes become firing rates by the mean over time. No gradient reaches the teacher.

    Args:
        weight: Factor of this term in the loss, any finite number.
        student_taps: Layers of the student: stage names or module paths.
        teacher_taps: The layers of the teacher that they are compared with, in the same order.

    Raises:
        UsageError: No layers, or not equally many of student and teacher.

    Examples:
        >>> import torch
        >>> class LargestGap(FeatureTerm):
        ...     def distance(self, pair, student, teacher):
        ...         return (student - teacher).abs().max()
        >>> term = LargestGap(1.0, ["stage4"], ["stage4"])
        >>> spikes_TBC, teacher_BC = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]), torch.tensor([[1.0, 2.0]])
        >>> from tser_lightning.losses import LossContext
        >>> features = {"student_features": {"stage4": spikes_TBC}, "teacher_features": {"stage4": teacher_BC}}
        >>> context = LossContext(**features)
        >>> float(term(torch.zeros(2, 1, 10), torch.zeros(1, 10), torch.tensor([3]), context))  # 2 - (0 + 1) / 2
        1.5
    """

    needs_teacher = True

    def __init__(self, weight: float, student_taps: Sequence[str], teacher_taps: Sequence[str]) -> None:
        super().__init__(weight)
        if not student_taps or len(student_taps) != len(teacher_taps):
            raise UsageError(
                f"{len(student_taps)} student_taps, {len(teacher_taps)} teacher_taps",
                "layers are compared in pairs",
                "give equally many, and at least one: student_taps=[stage4] teacher_taps=[stage4]",
            )
        self.pairs = tuple(zip(student_taps, teacher_taps, strict=True))
        self.needs = Needs(student_features=tuple(student_taps), teacher_features=tuple(teacher_taps))

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, context: LossContext) -> Tensor:
        """Return the scalar; only the features are looked at."""
        distances = []
        for pair, (student_layer, teacher_layer) in enumerate(self.pairs):
            student = context.student_features[student_layer]
            teacher = context.teacher_features[teacher_layer].detach()
            rate = student.mean(0, dtype=torch.promote_types(student.dtype, torch.float32))
            distances.append(self.distance(pair, rate, teacher.to(rate.dtype)))
        return torch.stack(distances).sum()

    @abstractmethod
    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare one pair of features, each [B, C, H, W], [B, N, C] or [B, C], in float32 or float64.

        Args:
            pair: The index of the pair of layers.
            student: The student's feature, averaged over time.
            teacher: The teacher's feature.

        Returns:
            A scalar.
        """
