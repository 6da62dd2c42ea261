import numpy as np
import pytest
import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses import FeatureMSE, LossContext

LOGITS_TBC, LABELS_B = torch.zeros(3, 2, 10), torch.zeros(2, dtype=torch.int64)


def seen(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> LossContext:
    return LossContext(student_features=student, teacher_features=teacher)


@pytest.mark.parametrize("reduction", ["mean", "image"])
def test_equals_a_loop_over_pixels(reduction: str) -> None:
    student_TBCHW = torch.randint(2, (3, 2, 4, 2, 2)).double()
    teacher_BCHW = torch.randn(2, 5, 2, 2, dtype=torch.float64)
    term = FeatureMSE(1.0, ("s",), ("t",), reduction=reduction)  # type: ignore[arg-type]
    found = term(LOGITS_TBC, None, LABELS_B, seen({"s": student_TBCHW}, {"t": teacher_BCHW}))
    state = {name: value.numpy() for name, value in term.state_dict().items()}
    kernel, bias = state["projections.0.conv.weight"][:, :, 0, 0], state["projections.0.conv.bias"]
    total = 0.0
    for b, i, j in np.ndindex(2, 2, 2):
        rate = sum(student_TBCHW[t, b, :, i, j].numpy() for t in range(3)) / 3
        total += float(((kernel @ rate + bias - teacher_BCHW[b, :, i, j].numpy()) ** 2).sum())
    assert found.item() == pytest.approx(total / (2 * 5 * 4 if reduction == "mean" else 2), abs=1e-10)


def test_equal_widths_are_compared_without_a_projection() -> None:
    student_TBCHW, teacher_BCHW = torch.rand(3, 2, 4, 2, 2), torch.rand(2, 4, 2, 2)
    term = FeatureMSE(1.0, ("s",), ("t",))
    found = term(LOGITS_TBC, None, LABELS_B, seen({"s": student_TBCHW}, {"t": teacher_BCHW}))
    torch.testing.assert_close(found, torch.nn.functional.mse_loss(student_TBCHW.mean(0), teacher_BCHW))
    assert not list(term.parameters())


def test_an_unknown_reduction_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="reduction"):
        FeatureMSE(reduction="sum")  # type: ignore[arg-type]
