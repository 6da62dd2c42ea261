from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from tser_lightning.losses import AttentionTransfer, LossContext

LOGITS_TBC, LABELS_B = torch.zeros(3, 2, 10), torch.zeros(2, dtype=torch.int64)


def seen(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> LossContext:
    return LossContext(student_features=student, teacher_features=teacher)


STAGES = ("stage1", "stage2", "stage3", "stage4")


def attention(feature_CHW: Tensor, p: float) -> list[float]:
    channels, height, width = feature_CHW.shape
    pixels = [
        sum(abs(feature_CHW[c, i, j].item()) ** p for c in range(channels)) / channels
        for i, j in np.ndindex(height, width)
    ]
    norm = sqrt(sum(pixel**2 for pixel in pixels))
    return [pixel / norm for pixel in pixels]


@pytest.mark.parametrize("p", [1, 2, 4])
def test_equals_a_loop_over_stages_images_and_pixels(p: int) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = {"stage1": 4, "stage2": 4, "stage3": 2, "stage4": 2}
    student = {tap: torch.rand(3, 2, 5, size, size, generator=draw, dtype=torch.float64) for tap, size in sizes.items()}
    teacher = {tap: torch.randn(2, 7, size, size, generator=draw, dtype=torch.float64) for tap, size in sizes.items()}
    expected = 0.0
    for tap, size in sizes.items():
        for b in range(2):
            ours, theirs = attention(student[tap].mean(0)[b], p), attention(teacher[tap][b], p)
            squares = [(a - s) ** 2 for a, s in zip(theirs, ours, strict=True)]
            expected += sum(squares) / (2 * size**2)
    found = AttentionTransfer(p=p)(LOGITS_TBC, None, LABELS_B, seen(student, teacher))
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_silent_neurons_have_a_finite_gradient() -> None:
    silent = {tap: torch.zeros(3, 2, 5, 4, 4, requires_grad=True) for tap in STAGES}
    teacher = {tap: torch.rand(2, 5, 4, 4) for tap in STAGES}
    AttentionTransfer()(LOGITS_TBC, None, LABELS_B, seen(silent, teacher)).backward()
    for spikes_TBCHW in silent.values():
        assert spikes_TBCHW.grad is not None
        assert spikes_TBCHW.grad.isfinite().all()
