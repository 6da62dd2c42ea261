import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tser_lightning.models import BNTT, TAB, TDBN, TEBN, Student, relu, resnet_small
from tser_lightning.models.norms import NormByStep
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


def drawn(norm: NormByStep) -> NormByStep:
    """Weights as after a training."""
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    return norm.double()


def slow(norm: NormByStep, batches: list[Tensor], momentum: float | None) -> tuple[list[Tensor], list[nn.BatchNorm2d]]:
    """A BatchNorm2d for every step; that of TAB sees what came in up to it and keeps the last."""
    norms = [nn.BatchNorm2d(4, eps=norm.eps, momentum=momentum).double() for _ in norm.weight]
    for t, each in enumerate(norms):
        each.weight.data.copy_(norm.weight[t])
        each.bias.data.copy_(torch.zeros(4) if norm.bias is None else norm.bias[t])
    found = []
    for x_TBCHW in batches:
        steps = []
        for t, each in enumerate(norms):
            if isinstance(norm, TAB):
                accumulated = each(x_TBCHW[: t + 1].transpose(0, 1).reshape(-1, 4, 5, 5)).view(2, t + 1, 4, 5, 5)[:, t]
                steps.append(norm.p[t] ** 2 * accumulated)
            else:
                steps.append(each(x_TBCHW[t]))
        found.append(torch.stack(steps))
    return found, norms


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("make", [BNTT, TAB])
def test_norms_by_step_are_a_batch_norm_for_every_step(make: type[NormByStep], momentum: float | None) -> None:
    norm = drawn(make(4, timesteps=3, momentum=momentum))
    batches = [(torch.randn(3, 2, 4, 5, 5, dtype=torch.float64) * 2 + 1).requires_grad_() for _ in range(2)]
    expected, norms = slow(norm, batches, momentum)
    ours = [norm(x) for x in batches]
    grads = [
        torch.autograd.grad(torch.stack([(y * y.detach().cos()).sum() for y in found]).sum(), batches)
        for found in (ours, expected)
    ]
    for one, other in zip([*ours, *grads[0]], [*expected, *grads[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for t, each in enumerate(norms):
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(norm.get_buffer(name)[t], each.get_buffer(name))
        each.eval()
    norm.eval()
    x = batches[0].detach()
    expected_eval = torch.stack([each(x[t]) for t, each in enumerate(norms)])
    scale = norm.p.square().view(-1, 1, 1, 1, 1) if isinstance(norm, TAB) else 1
    torch.testing.assert_close(norm(x), scale * expected_eval)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [BNTT, TAB])
def test_norms_by_step_give_the_same_step_by_step(make: type[NormByStep], training: bool) -> None:
    """Also in train mode, where a step may be a training of its own; two steps more than there are weights."""
    students = [Student(nn.Sequential(drawn(make(4, timesteps=2)), nn.Flatten()), 4) for _ in range(2)]
    students[1].load_state_dict(students[0].state_dict())
    image = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    for student in students:
        student.train(training)
    whole, streamed = students[0](image), torch.stack(list(students[1].stream(image)))
    torch.testing.assert_close(streamed, whole)
    frames = torch.randn(4, 2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(list(students[1].stream(frames))), students[0](frames))


@pytest.mark.parametrize("make", [BNTT, TAB])
def test_the_weights_of_a_batch_norm_load_into_every_step(make: type[NormByStep]) -> None:
    theirs, norm = nn.BatchNorm2d(4), make(4, timesteps=3)
    for tensor in (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var):
        nn.init.uniform_(tensor)  # type: ignore[arg-type]
    given = {name: value for name, value in theirs.state_dict().items() if name != "bias" or norm.bias is not None}
    assert norm.load_state_dict(given, strict=False).unexpected_keys == []
    for name, value in given.items():
        assert all(torch.equal(own, value) for own in norm.state_dict()[name].view(-1, *value.shape))
    again = make(4, timesteps=3)
    again.load_state_dict(norm.state_dict())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in norm.state_dict().items())


def test_without_a_momentum_the_running_statistics_are_the_mean_over_all_batches() -> None:
    ours, theirs = TDBN(4, momentum=None).double(), nn.BatchNorm2d(4, momentum=None).double()
    for batch in torch.randn(3, 5, 4, 2, 2, dtype=torch.float64):
        ours(batch)
        theirs(batch)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
