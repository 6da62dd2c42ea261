from collections.abc import Callable

import pytest
import torch
from torch import nn

from tser_lightning.models import Network, Student, sew_resnet18, sew_resnet34, sew_resnet50
from tser_lightning.models.sew import CONNECTIONS, Connect
from tser_lightning.neurons import IF

COUNTS = [(sew_resnet18, 11_689_512), (sew_resnet34, 21_797_672), (sew_resnet50, 25_557_032)]


@pytest.mark.parametrize(("build", "count"), COUNTS)
def test_parameter_counts_of_ann_and_snn(build: Callable[..., Network], count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build(1000).parameters()) == count
        assert sum(parameter.numel() for parameter in build(1000, 3, IF).parameters()) == count


@pytest.mark.parametrize(
    ("connect", "expected"), [("add", [0, 1, 1, 2]), ("and", [0, 0, 0, 1]), ("iand", [0, 1, 0, 0])]
)
def test_connections_of_branch_0011_with_shortcut_0101(connect: str, expected: list[int]) -> None:
    branch, shortcut = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 1, 0, 1])
    assert CONNECTIONS[connect](branch, shortcut).tolist() == expected


@pytest.mark.parametrize(
    ("name", "connect"), [("sew_resnet18", "add"), ("sew_resnet18", "iand"), ("sew_resnet50", "add")]
)
def test_equals_spikingjelly(name: str, connect: Connect) -> None:
    jelly = pytest.importorskip("spikingjelly.activation_based")
    models = pytest.importorskip("spikingjelly.activation_based.model.sew_resnet")
    build = {"sew_resnet18": sew_resnet18, "sew_resnet50": sew_resnet50}[name]
    torch.manual_seed(0)
    theirs: nn.Module = getattr(models, name)(cnf=connect.upper(), spiking_neuron=jelly.neuron.IFNode, num_classes=5)
    ours = build(5, 3, IF, connect=connect)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0, 0.5)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for module in theirs.modules():  # the shortcut fires in the paper's own code, but not in SpikingJelly's
        shortcut = getattr(module, "downsample", None)
        if isinstance(shortcut, nn.Sequential):
            shortcut.append(jelly.neuron.IFNode())
    jelly.functional.set_step_mode(theirs, "m")
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected_TBC = theirs.double().eval()(images.expand(3, -1, -1, -1, -1))
        student = Student(ours.double().eval(), 3)
        torch.testing.assert_close(student(images), expected_TBC)
    assert not torch.equal(expected_TBC[0], expected_TBC[1])


def test_an_unknown_connection_is_refused() -> None:
    with pytest.raises(ValueError, match="connect"):
        sew_resnet18(10, connect="or")
