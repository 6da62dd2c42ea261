"""QCFS: trained is the ANN of the paper, evaluated is the network of IF neurons that it is converted to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.measure import OperationCounter
from tser_lightning.models import TEBN, Network, Student, cnn_small, resnet_small
from tser_lightning.models.network import Parts
from tser_lightning.models.sew import SEWBlock
from tser_lightning.models.transformer import SelfAttention
from tser_lightning.neurons import IF, QCFS


def ann(student: Student) -> Student:
    """The ANN of a student in eval mode: its norms do not learn, its activations are those of the training."""
    for module in student.eval().modules():
        if isinstance(module, QCFS):
            module.train()
    return student


def network(steps: int, levels: int, widths: Any = (4, 8)) -> Student:
    torch.manual_seed(0)
    student = Student(resnet_small(5, 2, lambda c: QCFS(levels=levels), widths=widths), steps).double()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
            nn.init.normal_(module.running_mean, 0, 0.1)
        if isinstance(module, QCFS):
            nn.init.uniform_(module.threshold, 1, 3)
    return student


IMAGES_BCHW = 2 * torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_activation_is_the_equation_and_its_gradient_goes_straight_through_the_floor() -> None:
    neuron = QCFS(levels=3).double().train()
    neuron.threshold.data.fill_(1.7)
    z = torch.linspace(-1.02, 2.98, 41, dtype=torch.float64, requires_grad=True)
    a = neuron(z)
    for value, given in zip(a.tolist(), z.tolist(), strict=True):
        assert value == pytest.approx(1.7 * min(max((given * 3 / 1.7 + 0.5) // 1 / 3, 0), 1), abs=1e-12)
    a.sum().backward()
    assert z.grad is not None
    inside = (z > 0) & (z < 1.7 - 1e-9)
    torch.testing.assert_close(z.grad, inside.double())
    # The paper's derivative by the threshold: (a - z) / lambda inside, 1 above, 0 below.
    expected = torch.where(inside, (a - z) / 1.7, (z >= 1.7).double()).sum()
    assert float(neuron.threshold.grad) == pytest.approx(float(expected), rel=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_a_network_of_one_layer_is_converted_without_an_error_where_t_is_l(steps: int) -> None:
    class OneLayer(Network):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(2, 6, 3), QCFS(v_threshold=2.3, levels=steps)
            self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(54, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.pool(self.act(self.conv(x))).flatten(1))  # type: ignore[no-any-return]

    torch.manual_seed(3)
    student = Student(OneLayer(), steps).double()
    with torch.no_grad():
        spiking_BC = student.eval()(3 * IMAGES_BCHW).mean(0)
        trained_TBC = student.train()(3 * IMAGES_BCHW)
    assert trained_TBC.shape == (steps, 8, 5)
    torch.testing.assert_close(trained_TBC, spiking_BC.expand(steps, -1, -1), rtol=0, atol=1e-12)


def test_a_deep_network_comes_as_near_to_its_clipped_ann_as_there_are_steps() -> None:
    student = network(1, levels=1 << 20)  # so many levels that only the clip is left
    with torch.no_grad():
        expected_BC = ann(student)(IMAGES_BCHW)[0]
        errors = []
        for steps in (8, 64, 512):
            student.eval().timesteps = steps
            errors.append(float((student(IMAGES_BCHW).mean(0) - expected_BC).abs().max()))
    scale = float(expected_BC.abs().max())
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 0.02 * scale


def test_training_computes_one_step_for_all() -> None:
    student, rows = network(4, levels=4).train(), []
    student.net.get_submodule("conv1").register_forward_hook(lambda m, i, o: rows.append(len(o)))
    student.net.get_submodule("fc").register_forward_hook(lambda m, i, o: rows.append(len(o)))
    logits_TBC = student(IMAGES_BCHW)
    logits_TBC.sum().backward()
    assert rows == [8, 8]
    assert torch.equal(logits_TBC, logits_TBC[:1].expand(4, -1, -1))
    neurons = [module for module in student.modules() if isinstance(module, QCFS)]
    assert neurons
    assert all(neuron.threshold.grad is not None for neuron in neurons)
    student.eval()(IMAGES_BCHW)
    assert rows == [8, 8, 8, 32]


def test_a_stream_gives_the_same_as_the_whole_call() -> None:
    student = network(4, levels=4).eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(list(student.stream(IMAGES_BCHW))), student(IMAGES_BCHW))


def test_spikes_that_weigh_more_than_1_cost_what_spikes_of_1_cost() -> None:
    weighted = network(4, levels=4).eval()
    plain = Student(resnet_small(5, 2, lambda c: IF(reset="soft", v_init=0.5), widths=(4, 8)), 4).double().eval()
    names = {name: value for name, value in weighted.net.state_dict().items() if not name.endswith("threshold")}
    plain.net.load_state_dict(names)
    for module in weighted.modules():
        if isinstance(module, QCFS):
            module.threshold.data.fill_(1.0)
    counted = []
    for student in (weighted, plain):
        with OperationCounter(student) as counter, torch.no_grad():
            student(IMAGES_BCHW)
        counted.append(counter.compute())
    assert counted[0].folded == counted[1].folded
    for module in weighted.modules():  # the same spikes: thresholds, currents and classifier scaled alike
        if isinstance(module, QCFS):
            module.threshold.data.fill_(2.0)
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data *= 2
            module.bias.data *= 2
    for name, module in weighted.net.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name != "bn1":
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean *= 2
            module.running_var.copy_(4 * (module.running_var + module.eps) - module.eps)
    with OperationCounter(weighted) as counter, torch.no_grad():
        weighted(IMAGES_BCHW)
    again = counter.compute()
    assert again.folded == counted[1].folded
    assert again.layers["layer1.0.conv1"].input == "binary"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn_small(5, 2, QCFS), "takes the maximum"),
        (lambda: nn.Sequential(SEWBlock(4, 4, 1, Parts(QCFS), "iand")), "multiplies spikes where it connects"),
        (lambda: nn.Sequential(SelfAttention(8, 2, Parts(QCFS), preact=False)), "multiplies activations"),
        (lambda: resnet_small(5, 2, QCFS, widths=(4, 8), attention="pfa", attention_timesteps=2), "multiplies"),
    ],
)
def test_what_no_conversion_keeps_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Student(make(), 2)


def test_inputs_that_change_with_the_steps_have_no_ann() -> None:
    student = Student(resnet_small(5, 2, QCFS, widths=(4, 8)), 2).train()
    with pytest.raises(UsageError, match="here time steps differ"):
        student(torch.randn(2, 8, 2, 8, 8))
    per_step = Student(resnet_small(5, 2, QCFS, norm=lambda c: TEBN(c, 2), widths=(4, 8)), 2).train()
    with pytest.raises(UsageError, match="here time steps differ"):
        per_step(torch.randn(8, 2, 8, 8))
    with pytest.raises(ValueError, match="levels=0"):
        QCFS(levels=0)
