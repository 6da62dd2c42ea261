import torch
from torch import Tensor, nn

from tser_lightning.models import Student, preact_resnet34
from tser_lightning.models.network import Parts
from tser_lightning.models.preact import PreActBlock, add_to_stream
from tser_lightning.neurons import LIF


def test_parameter_counts_of_ann_and_snn() -> None:
    for net in (preact_resnet34(1000), preact_resnet34(1000, 3, LIF)):
        assert sum(parameter.numel() for parameter in net.parameters()) == 21_806_184


def test_stream_that_is_still_the_same_for_all_steps_is_added_to_each() -> None:
    branch_TB, stream_B = torch.arange(6.0).view(6, 1), torch.tensor([[10.0], [20.0]])
    assert add_to_stream(branch_TB, stream_B).flatten().tolist() == [10, 21, 12, 23, 14, 25]
    assert add_to_stream(stream_B, stream_B).flatten().tolist() == [20, 40]


def test_block_equals_a_loop_over_time() -> None:
    torch.manual_seed(0)
    block = PreActBlock(4, 6, 2, Parts(LIF)).double().eval()
    x_TBCHW = torch.randn(3, 2, 4, 8, 8, dtype=torch.float64) * 2
    membranes = [torch.zeros(2, 4, 8, 8, dtype=torch.float64), torch.zeros(2, 6, 4, 4, dtype=torch.float64)]

    def fire(x: Tensor, neuron: int) -> Tensor:
        charged = 0.5 * membranes[neuron] + 0.5 * x
        spikes = (charged >= 1).double()
        membranes[neuron] = charged * (1 - spikes)
        return spikes

    expected = []
    for x in x_TBCHW:
        branch = fire(block.bn1(block.conv1(fire(x, 0))) + 1, 1)
        expected.append(block.bn2(block.conv2(branch)) + block.get_submodule("downsample")(x))
    nn.init.ones_(block.bn1.bias)  # type: ignore[arg-type]
    student = Student(nn.Sequential(block, nn.Flatten()), 3)
    torch.testing.assert_close(student(x_TBCHW), torch.stack(expected).flatten(2))
