import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from tser_lightning.measure import Count, OperationCounter, Operations, energy_mj, student_energy, teacher_energy
from tser_lightning.models.norms import TEBN
from tser_lightning.models.resnet import resnet18
from tser_lightning.models.student import Student
from tser_lightning.models.vgg import vgg16
from tser_lightning.neurons import ILIF, LIF


def count(model: nn.Module, *batches: Tensor) -> Operations:
    with OperationCounter(model) as counter, torch.no_grad():
        for images in batches:
            model(images)
    return counter.compute()


class Spike(LIF):
    """Fires at whatever is at least 0.5: its spikes can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__(decay=0.0, v_threshold=0.5)


@pytest.mark.parametrize(
    ("network", "ops", "macs"),
    [
        # Table 4 of the TSER paper; per step: convolutions and fc, 2 x BatchNorm, pooling inputs
        (resnet18, 4 * (555_468_900 + 1_228_800 + 8_192), 4 * 3_049_572),
        (vgg16, 4 * (313_524_324 + 552_960 + 124_928), 4 * 68_558_948),
    ],
)
def test_operations_of_table_4(network: type[nn.Module], ops: int, macs: int) -> None:
    torch.manual_seed(0)  # an untrained student: its deep layers are silent, which must not hide an analog input
    student = Student(network(100, 3, LIF), timesteps=4).eval()
    operations = count(student, torch.randn(1, 3, 32, 32))
    assert (operations.paper.ops, operations.paper.mac) == (ops, macs)
    assert operations.uncounted == ()


def test_an_ann_does_macs_alone() -> None:
    torch.manual_seed(0)
    ann = resnet18(100).eval()
    cost = teacher_energy(count(ann, torch.randn(1, 3, 32, 32)))
    assert cost["teacher_macs"] == 555_468_900 + 1_228_800 + 8_192
    assert cost["teacher_energy_mj"] == pytest.approx(4.6e-9 * cost["teacher_macs"])
    assert cost["teacher_macs_folded"] == 555_468_800


def test_a_net_worked_out_by_hand() -> None:
    # Image 1x4x4 of ones but one analog value; conv 3x3 (identity kernel, bias 0) keeps it; 10 of 16 neurons fire.
    conv1, norm, conv2 = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3, padding=1)
    fc = nn.Linear(2, 3, bias=False)
    net = nn.Sequential(conv1, norm, Spike(), conv2, Spike(), nn.AvgPool2d(4), nn.Flatten(), fc).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        conv1.weight[0, 0, 1, 1] = norm.weight[0] = 1
        net.get_parameter("3.bias")[0] = 1  # one channel always fires, one never
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, :2] = 1  # corners and border: the first two rows
    image[0, 0, 2, 1:3] = 0.9  # two inside
    operations = count(Student(net, timesteps=2), image)
    by_kind = {path: layer.paper for path, layer in operations.layers.items()}
    assert by_kind["0"] == Count(2 * (9 * 16 + 16), 0, 2 * 160)
    assert by_kind["1"] == Count(2 * 2 * 16, 0, 64)
    assert by_kind["3"] == Count(2 * (9 * 32 + 32), 2 * 320 * 10 / 16, 0)
    assert by_kind["5"] == Count(2 * 32, 2 * 16, 0)
    assert by_kind["7"] == Count(2 * 6, 0, 12)
    assert operations.paper.mac == 320 + 64 + 12
    folded = {path: layer.folded for path, layer in operations.layers.items()}
    assert folded["0"] == Count(9 * 16, 0, 144)  # once
    assert folded["1"] == Count(0, 0, 0)
    # Places met: a corner 4, an edge 6, inside 9, on two output channels.
    met = (4 + 6 + 6 + 4) + (6 + 9 + 9 + 6) + (9 + 9)
    assert folded["3"] == Count(2 * 9 * 32, 2 * 2 * met, 0)
    cost = student_energy(operations)
    assert cost["energy_mj"] == pytest.approx((0.9 * (400 + 32) + 4.6 * 396) * 1e-9)
    assert cost["energy_folded_mj"] == pytest.approx((0.9 * 4 * met + 4.6 * (144 + 12)) * 1e-9)
    kinds = {path: layer.input for path, layer in operations.layers.items()}
    assert kinds == {"0": "analog", "1": None, "3": "binary", "5": "binary", "7": "analog"}
    assert operations.layers["3"].rate == 100 * 10 / 16


def test_energy_of_known_counts() -> None:
    # Table 4 of the TSER paper, VGG-16's row, 274.2 M MACs and 160 M ACs
    assert energy_mj(Count(1.26e9, 160e6, 274.2e6)) == pytest.approx(1.405, abs=5e-4)


def small_net() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        Spike(),
        nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2),
        Spike(),
        nn.Conv2d(6, 4, 3, dilation=2, padding=2),
        Spike(),
        nn.Conv2d(4, 4, 3, padding="same"),
        Spike(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 12),
        Spike(),
        nn.Linear(12, 5, bias=False),
    ).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3)  # or the deeper layers would be silent
    return net


def test_folded_counts_equal_those_of_spikingjelly() -> None:
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter")
    student = Student(small_net(), timesteps=3)
    images = 3 * torch.randn(5, 2, 12, 12, generator=torch.Generator().manual_seed(2))
    operations = count(student, images)
    folded = operations.folded
    synops, macs = counters.SynOpCounter(), counters.MACCounter(extra_ignore_modules=[nn.BatchNorm2d, Spike])
    with counters.DispatchCounterMode([synops, macs]), torch.no_grad():
        student(images)
    assert folded.ac * 5 == pytest.approx(synops.get_total(), rel=1e-12)
    assert folded.mac * 5 == pytest.approx(macs.get_total(), rel=1e-12)
    assert all(layer.rate != 0 for layer in operations.layers.values())


def test_the_split_into_batches_changes_no_bit() -> None:
    student = Student(small_net(), timesteps=3)
    images = 3 * torch.randn(5, 2, 12, 12, generator=torch.Generator().manual_seed(2))
    assert count(student, images) == count(student, images[:1], images[1:4], images[4:])


def test_frames_are_charged_at_every_step_by_both_conventions() -> None:
    student = Student(small_net(), timesteps=3)
    images = 3 * torch.randn(5, 2, 12, 12, generator=torch.Generator().manual_seed(2))
    still, moving = count(student, images), count(student, images.expand(3, 5, 2, 12, 12))
    assert moving.paper == still.paper
    assert moving.layers["0"].folded.mac == 3 * still.layers["0"].folded.mac == still.layers["0"].paper.mac


def test_a_norm_over_time_costs_as_much_as_a_plain_one() -> None:
    def net(norm: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 3, 3), norm, Spike(), nn.Flatten(), nn.Linear(300, 2)).eval()

    images = torch.randn(5, 2, 12, 12)
    plain, over_time = (count(Student(net(norm), 3), images).layers for norm in (nn.BatchNorm2d(3), TEBN(3, 3)))
    assert plain["1"].paper == over_time["1"].paper == Count(3 * 2 * 300, 0, 3 * 2 * 300)


def test_an_integer_input_is_named_and_does_macs() -> None:
    class Add(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = Spike(), Spike(), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.a(x.flatten(1)) + self.b(x.flatten(1)))
            return out

    layer = count(Student(Add(), 2), torch.zeros(1, 1, 4, 4)).layers["fc"]  # silent: 0 + 0 looks binary
    assert layer.input == "integer"
    assert layer.paper == Count(2 * 51, 0, 2 * 51)


class Attention(nn.Module):
    """q k^T v over 4 tokens of width 4; the neurons let spikes through as they are."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v, self.fused = Spike(), Spike(), Spike(), fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x)[:, 0], self.k(x)[:, 0], self.v(x)[:, 0]
        fused = F.scaled_dot_product_attention
        out: Tensor = fused(q, k, v) if self.fused else 0.25 * (q @ k.transpose(-1, -2)) @ v
        return out.flatten(1)


def test_attention_products_count_coincidences_then_spikes() -> None:
    image = (torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    layers = count(Student(Attention(), 2), image).layers
    spikes = image[0, 0]
    coincidences = sum(bool(spikes[i, d]) and bool(spikes[j, d]) for i in range(4) for j in range(4) for d in range(4))
    assert layers[".product1"].input == "binary x binary"
    assert layers[".product1"].paper == layers[".product1"].folded == Count(2 * 64, 2 * coincidences, 0)
    assert layers[".product2"].input == "analog x binary"
    assert layers[".product2"].paper == Count(2 * 64, 2 * 4 * spikes.sum().item(), 0)


def test_fused_attention_counts_as_two_products() -> None:
    image = (torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    apart, fused = count(Student(Attention(), 2), image), count(Student(Attention(fused=True), 2), image)
    assert apart.paper == fused.paper


def test_what_no_rule_counts_is_named() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.spike = nn.Parameter(torch.ones(3, 16)), Spike()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = F.linear(self.spike(x.flatten(1)), self.weight)
            return out

    operations = count(Student(Strange(), 2), torch.ones(1, 1, 4, 4))
    assert operations.uncounted == (": linear",)


def test_counting_changes_nothing() -> None:
    student = Student(small_net(), timesteps=3).train()
    images = torch.randn(2, 2, 12, 12)
    expected = student(images).detach()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with OperationCounter(student) as counter:
        assert torch.equal(student(images), expected)
    after_call = {name: value.clone() for name, value in student.state_dict().items()}
    state = torch.get_rng_state()
    counter.compute()
    assert torch.equal(torch.get_rng_state(), state)
    assert student.training
    assert all(torch.equal(after_call[name], value) for name, value in student.state_dict().items())
    assert before.keys() == after_call.keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def _count_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    student = Student(small_net(), timesteps=3)
    images = 3 * torch.randn(5, 2, 12, 12, generator=torch.Generator().manual_seed(2))
    with OperationCounter(student) as counter, torch.no_grad():
        student(images[:2] if rank == 0 else images[2:])
    counter.reduce()
    assert counter.compute() == count(student, images)
    torch.distributed.destroy_process_group()


def test_two_processes_with_uneven_shares_equal_one(tmp_path: Path) -> None:
    start_processes(_count_a_share, (str(tmp_path),), nprocs=2, start_method="fork")


def test_without_data_there_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="nothing was classified"):
        OperationCounter(small_net()).compute()
    assert math.isfinite(energy_mj(Count(0, 0, 0)))


def test_counting_waits_for_no_device() -> None:
    student = Student(small_net(), timesteps=3).to("meta")  # a meta tensor has no values: whatever asks for one fails
    with OperationCounter(student) as counter, torch.no_grad():
        student(torch.randn(5, 2, 12, 12, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        counter.compute()


def test_a_number_of_spikes_is_so_many_accumulations() -> None:
    """Against the binary steps that it runs as, convolved one by one with ones in place of the weights."""
    torch.manual_seed(0)
    neuron, conv = ILIF(max_spikes=3), nn.Conv2d(2, 5, 3, padding=1, stride=2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), neuron, conv, ILIF(), nn.Flatten(), nn.Linear(5 * 9, 3)).eval()
    images = 3 * torch.randn(4, 1, 8, 8)
    operations = count(Student(net, timesteps=2), images)
    with torch.no_grad():
        counts = neuron(net[0](images).expand(2, -1, -1, -1, -1))
    spikes = neuron.in_binary_steps(counts).flatten(0, 1)
    assert counts.max() == 3
    met = F.conv2d(spikes, torch.ones(5, 2, 3, 3), stride=2, padding=1).sum().item()
    layer = operations.layers["2"]
    assert layer.input == "integer"
    assert layer.folded == Count(2 * 18 * 5 * 9, met / 4, 0)
    assert layer.rate == pytest.approx(100 * (counts != 0).float().mean().item())
    ops = 2 * (18 * 5 * 9 + 5 * 9)
    assert (layer.paper.ops, layer.paper.mac) == (ops, 0)
    assert layer.paper.ac == pytest.approx(3 * ops * spikes.mean().item(), rel=1e-6)


def test_products_of_numbers_of_spikes_count_the_coincidences_of_their_binary_steps() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.matmul(x.unflatten(1, (4, 3)), x.unflatten(1, (3, 4)))

    torch.manual_seed(0)
    neuron = ILIF(max_spikes=3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 12), neuron, Product(), nn.Flatten(), nn.Linear(16, 2))
    images = 3 * torch.randn(2, 1, 3, 3)
    operations = count(Student(net, timesteps=1), images)
    with torch.no_grad():
        counts_BM = neuron(net[1](images.flatten(1)).unsqueeze(0))[0]
    met = 0
    for left in neuron.in_binary_steps(counts_BM[None]):
        for right in neuron.in_binary_steps(counts_BM[None]):
            met += int((left.unflatten(1, (4, 3)) @ right.unflatten(1, (3, 4))).sum())
    assert operations.layers["3.product1"].folded.ac == met / 2
