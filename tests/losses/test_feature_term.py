import pytest
import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses import FeatureTerm, LossContext


class Difference(FeatureTerm):
    def distance(self, pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        return (pair + 1) * (student - teacher).sum()


def test_pairs_are_compared_after_the_mean_over_time_and_summed() -> None:
    term = Difference(1.0, ("a", "b"), ("x", "y"))
    spikes_TBC = torch.tensor([[[1.0]], [[0.0]], [[0.0]], [[1.0]]], dtype=torch.bfloat16)
    rates = torch.full((2, 1, 1), 3.0)
    found = term(
        torch.zeros(4, 1, 2),
        None,
        torch.zeros(1, dtype=torch.int64),
        LossContext(
            student_features={"a": spikes_TBC, "b": rates},
            teacher_features={"x": torch.full((1, 1), 0.25), "y": torch.ones(1, 1, requires_grad=True)},
        ),
    )
    assert found.item() == 1 * (0.5 - 0.25) + 2 * (3 - 1)
    assert found.dtype == torch.float32
    assert not found.requires_grad


@pytest.mark.parametrize(("student_taps", "teacher_taps"), [((), ()), (("stage4",), ("stage3", "stage4"))])
def test_taps_come_in_pairs(student_taps: tuple[str, ...], teacher_taps: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="taps"):
        Difference(1.0, student_taps, teacher_taps)
