from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tser_lightning.models import Student
from tser_lightning.models.fusing import Layers, allow_fusing, norm_act
from tser_lightning.models.network import Factory
from tser_lightning.models.resnet import resnet_small
from tser_lightning.models.sdt import sdt
from tser_lightning.models.sew import sew_resnet18
from tser_lightning.models.spikformer import spikformer
from tser_lightning.models.spikingformer import spikingformer
from tser_lightning.models.vgg import vgg_small
from tser_lightning.neurons import IF, LIF, LSG, PLIF


class Pair(nn.Module):
    """conv-norm-neuron, then conv-norm, the first neurons' spikes added, neuron."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, neuron: Factory = LIF) -> None:
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(2, 6, 3, padding=1), norm(6), neuron(6)
        self.conv2, self.norm2, self.act2 = nn.Conv2d(6, 6, 3, padding=1), norm(6), neuron(6)

    def forward(self, x: Tensor) -> Tensor:
        x = norm_act(self.norm1, self.act1, self.conv1(x))
        return norm_act(self.norm2, self.act2, self.conv2(x), x).flatten(1)


def both(net: nn.Module, dtype: torch.dtype = torch.float64) -> tuple[Student, Student]:
    """The same student fused and not, with norms that do something."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 1, 2)
            nn.init.normal_(module.bias)
    fused = Student(net, timesteps=3).to(dtype)
    apart = deepcopy(fused)
    allow_fusing(apart, False)
    return fused, apart


def everything(student: Student, images: Tensor, steps: int = 2) -> dict[str, Tensor]:
    """Outputs, gradients and buffers after some calls."""
    images = images.clone().requires_grad_()
    found: dict[str, Tensor] = {}
    for step in range(steps):
        logits_TBC = student(images)
        weights = torch.arange(logits_TBC.numel(), dtype=images.dtype).view_as(logits_TBC).cos()
        (logits_TBC * weights).sum().backward()
        found[f"logits {step}"] = logits_TBC.detach()
    assert images.grad is not None
    found["images"] = images.grad
    found |= {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    return found | dict(student.named_buffers())


class Operators(TorchDispatchMode):
    """Notes the names of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    def fused(self) -> int:
        """How often a norm and a neuron ran as one."""
        return self.names.count("tser_lightning::norm_lif")


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": Pair,
    "PLIF": lambda: Pair(neuron=PLIF),
    "LSG": lambda: Pair(neuron=LSG),
    "IF-soft": lambda: Pair(neuron=partial(IF, reset="soft", v_threshold=0.7)),
    "detached": lambda: Pair(neuron=partial(LIF, detach_reset=True, surrogate="atan")),
    "average-of-all": lambda: Pair(partial(nn.BatchNorm2d, momentum=None)),
    "no-running": lambda: Pair(partial(nn.BatchNorm2d, track_running_stats=False)),
    "no-affine": lambda: Pair(partial(nn.BatchNorm2d, affine=False)),
    "resnet": lambda: resnet_small(5, 2, LIF, widths=(4, 6)),
    "vgg": lambda: vgg_small(5, 2, LIF),
    "spikformer": lambda: spikformer(5, 2, LIF, depth=1, dim=16, heads=2),
    "spikingformer": lambda: spikingformer(5, 2, LIF, depth=1, dim=16, heads=2),
    "sdt": lambda: sdt(5, 2, LIF, depth=1, dim=16, heads=2),
    "sew": lambda: sew_resnet18(5, 2, LIF, stem="cifar"),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_fused_is_unfused_in_float64(name: str, training: bool) -> None:
    fused, apart = (student.train(training) for student in both(NETS[name]()))
    images = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    expected = everything(apart, images)
    with Operators() as ran:
        ours = everything(fused, images)
    assert ran.fused()
    assert ours.keys() == expected.keys()
    for key in expected:
        exact = key.startswith("logits") or "running" in key or "tracked" in key
        torch.testing.assert_close(ours[key], expected[key], rtol=0 if exact else 1e-9, atol=0 if exact else 1e-9)


def test_event_frames_and_channels_last() -> None:
    fused, apart = both(Pair())
    frames = torch.randn(3, 2, 2, 5, 7, dtype=torch.float64)
    fused, apart = (s.to(memory_format=torch.channels_last) for s in (fused, apart))
    ours, expected = everything(fused, frames), everything(apart, frames)
    for key in expected:
        torch.testing.assert_close(ours[key], expected[key], rtol=1e-9, atol=1e-9)


def test_float32_spikes_flip_less_than_once_in_a_million() -> None:
    fused, apart = both(Pair(), torch.float32)
    images = torch.randn(16, 2, 32, 32)
    ours, expected = fused(images), apart(images)
    assert (ours != expected).sum() <= 1 + 1e-6 * ours.numel()


def test_autocast() -> None:
    fused, apart = both(Pair(), torch.float32)
    images = torch.randn(4, 2, 8, 8)
    results = []
    for student in (fused, apart):
        with torch.autocast("cpu", torch.bfloat16):
            spikes = student(images)
        spikes.float().square().sum().backward()
        grad = student.net.get_parameter("conv1.weight").grad
        assert grad is not None
        results.append((spikes, grad))
    assert results[0][0].dtype == torch.bfloat16
    assert (results[0][0] != results[1][0]).float().mean() < 0.01
    assert (results[0][1] - results[1][1]).norm() < 0.05 * results[1][1].norm()


def test_keeps_the_norms_input_alone() -> None:
    sizes = []
    for student in both(Pair()):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            student(torch.randn(4, 2, 16, 16, dtype=torch.float64))
        sizes.append(sum(kept.values()))
    layer = 4 * 6 * 16 * 16 * 8  # bytes of one image per step of six channels
    # Apart: y and x of the first pair once (static), its spikes, and y and x of the second, three steps each.
    assert sizes[1] - sizes[0] == pytest.approx(layer + 3 * layer, rel=0.02)


def test_can_be_differentiated_twice() -> None:
    seconds = []
    for student in both(Pair()):
        images = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        images.requires_grad_()
        (first,) = torch.autograd.grad(student(images).sum(), images, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), images)[0])
    assert seconds[0].abs().sum() > 0
    torch.testing.assert_close(*seconds)


def alone(student: Student) -> None:
    allow_fusing(student, False)


def heard(student: Student) -> None:
    student.net.get_submodule("act2").register_forward_hook(lambda *_: None)
    student.net.get_submodule("norm1").register_forward_pre_hook(lambda *_: None)


def synchronised(student: Student) -> None:
    student.net = nn.SyncBatchNorm.convert_sync_batchnorm(student.net).eval()


@pytest.mark.parametrize("change", [alone, heard, synchronised])
def test_is_left_apart_when_it_has_to_be(change: Callable[[Student], Any]) -> None:
    fused, apart = both(Pair())
    for student in (fused, apart):
        change(student)
    images = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    with Operators() as ran:
        assert torch.equal(fused(images), apart(images))
    assert not ran.fused()


def test_streams_step_by_step() -> None:
    fused, _ = both(Pair())
    fused.eval()
    images = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(list(fused.stream(images))), fused(images))


@torch.no_grad()
@pytest.mark.parametrize("neuron", [LIF, PLIF, partial(LIF, reset="soft_delayed")])
def test_a_stream_without_gradients_computes_as_one_with_the_numbers_of_both_apart(neuron: Factory) -> None:
    fused, apart = (student.eval() for student in both(Pair(neuron=neuron)))
    images, calls = torch.randn(3, 2, 4, 4, dtype=torch.float64), Counter[Student]()
    for student in (fused, apart):
        for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
            vars(norm)["forward"] = counted(norm.forward, calls, student)
    expected = torch.stack(list(apart.stream(images)))
    assert torch.equal(torch.stack(list(fused.stream(images))), expected)
    assert expected.std() > 0
    assert calls == {apart: 2 * 3}


def counted(function: Callable[..., Tensor], calls: Counter[Student], student: Student) -> Callable[..., Tensor]:
    def call(x: Tensor) -> Tensor:
        calls[student] += 1
        return function(x)

    return call


@torch.no_grad()
def test_a_backend_without_a_step_of_its_own_streams_apart() -> None:
    fused, apart = (student.eval() for student in both(Pair(neuron=partial(LIF, backend="reference"))))
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(torch.stack(list(fused.stream(images))), torch.stack(list(apart.stream(images))))


def test_one_value_per_channel_is_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Student(Layers(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), LIF(3)), timesteps=2)(torch.zeros(1, 2, 1, 1))
