import pytest
import torch

from tser_lightning.losses import LogitMSE


def test_is_the_mean_of_the_squared_distances_to_phi() -> None:
    student_TBC = torch.tensor([[[1.0, 3.0]], [[0.0, -1.0]]])
    labels_B = torch.zeros(1, dtype=torch.int64)
    assert LogitMSE()(student_TBC, None, labels_B).item() == pytest.approx((0 + 4 + 1 + 4) / 4)
    assert LogitMSE(phi=2.0)(student_TBC, None, labels_B).item() == pytest.approx((1 + 1 + 4 + 9) / 4)


def test_gradient() -> None:
    student_TBC = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    labels_B = torch.zeros(3, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda z: LogitMSE()(z, None, labels_B), student_TBC)
