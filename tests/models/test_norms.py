import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tser_lightning.models import TDBN, TEBN, Student, relu, resnet_small
from tser_lightning.neurons import LIF

Array = NDArray[np.float64]


@pytest.fixture
def x_TBCHW() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 2, 4, 5, 5, dtype=torch.float64) * 2 + 1


def normalised(x_TBCHW: Array) -> Array:
    out = np.empty_like(x_TBCHW)
    for channel in range(x_TBCHW.shape[2]):
        values = x_TBCHW[:, :, channel]
        out[:, :, channel] = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    return out


@pytest.mark.parametrize("branches", [1, 2])
def test_tdbn_equals_numpy(x_TBCHW: Tensor, branches: int) -> None:
    norm = TDBN(4, v_threshold=0.5).double()
    norm.alpha = branches**-0.5
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    weight, bias = norm.weight.detach().numpy()[:, None, None], norm.bias.detach().numpy()[:, None, None]
    expected = weight * (branches**-0.5 * 0.5 * normalised(x_TBCHW.numpy())) + bias
    actual = norm(x_TBCHW.flatten(0, 1)).unflatten(0, (3, 2)).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_tdbn_keeps_the_running_statistics_of_batch_norm(x_TBCHW: Tensor) -> None:
    ours, theirs = TDBN(4).double(), nn.BatchNorm2d(4).double()
    for _ in range(2):
        torch.testing.assert_close(ours(x_TBCHW.flatten(0, 1)), theirs(x_TBCHW.flatten(0, 1)))
    assert all(torch.equal(buffer, theirs.get_buffer(name)) for name, buffer in ours.named_buffers())
    torch.testing.assert_close(ours.eval()(x_TBCHW[0]), theirs.eval()(x_TBCHW[0]))


def test_tdbn_starts_as_spikingjelly_does(x_TBCHW: Tensor) -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    theirs = layer.ThresholdDependentBatchNorm2d(1.0, 0.5, 4).double()
    torch.testing.assert_close(TDBN(4, 0.5).double()(x_TBCHW.flatten(0, 1)).unflatten(0, (3, 2)), theirs(x_TBCHW))


def test_branches_that_are_added_are_scaled_by_the_root_of_two() -> None:
    net = resnet_small(10, 1, LIF, TDBN)
    alphas = {name: module.alpha for name, module in net.named_modules() if isinstance(module, TDBN)}
    assert alphas["bn1"] == alphas["layer2.0.bn1"] == 1
    assert alphas["layer2.0.bn2"] == alphas["layer2.0.downsample.1"] == pytest.approx(0.5**0.5)


def test_tebn_equals_spikingjelly(x_TBCHW: Tensor) -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    ours, theirs = TEBN(4, timesteps=3).double(), layer.TemporalEffectiveBatchNorm2d(3, 4).double()
    nn.init.uniform_(ours.p)
    theirs.scale.data.copy_(ours.p)
    torch.testing.assert_close(ours(x_TBCHW), theirs(x_TBCHW))


def test_tebn_in_a_student_weighs_every_step_and_the_last_weight_goes_on(x_TBCHW: Tensor) -> None:
    norm = TEBN(4, timesteps=2).double().eval()
    norm.p.data.copy_(torch.tensor([1.0, 3.0]))
    student = Student(nn.Sequential(norm, nn.Flatten()), 3)
    logits_TBC = student(x_TBCHW[0])
    torch.testing.assert_close(logits_TBC[1], 3 * logits_TBC[0])
    torch.testing.assert_close(logits_TBC[2], logits_TBC[1])
    torch.testing.assert_close(torch.stack(list(student.stream(x_TBCHW[0]))), logits_TBC)


def test_weights_of_batch_norm_load_into_tdbn() -> None:
    resnet_small(10, 1, LIF, TDBN).load_state_dict(resnet_small(10, 1, relu).state_dict(), strict=True)
