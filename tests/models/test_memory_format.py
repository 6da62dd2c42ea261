from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from tser_lightning.models import Student
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import LIF

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def student(size: int = 16) -> tuple[Student, torch.Tensor]:
    """A student with maps of 16x16, 8x8 and 4x4 pixels, and images for it."""
    torch.manual_seed(0)
    made = Student(resnet_small(4, 3, LIF, widths=(4, 6, 8)), timesteps=2).double()
    return made, torch.randn(2, 3, size, size, dtype=torch.float64)


def last(net: nn.Module) -> set[str]:
    """The 3x3 convolutions whose weights lie channels last."""
    return {
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and not module.weight.is_contiguous()
        and module.weight.is_contiguous(memory_format=torch.channels_last)
    }


def all_3x3(net: nn.Module) -> set[str]:
    return {n for n, module in net.named_modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)}


def test_small_maps_stay_contiguous_on_a_processor() -> None:
    net, images = student()
    small = {name for name in all_3x3(net) if "layer3" in name}
    assert 0 < len(small) < len(all_3x3(net))
    lay_out(net, images, CPU)
    assert last(net) == all_3x3(net) - small
    seen: dict[str, torch.Tensor] = {}
    for name in all_3x3(net):
        hook = partial(lambda name, _, args, y: seen.update({name: y}), name)
        net.get_submodule(name).register_forward_hook(hook)
    net(images)
    for name, y in seen.items():
        assert y.is_contiguous() == (name in small), name
    lay_out(net, torch.cat([images, images], 2)[..., :32, :16], CPU)  # 8x4 pixels
    assert last(net) == all_3x3(net)


def test_strided_1x1_convolutions_of_few_channels_stay_contiguous_on_a_processor() -> None:
    made, images = student()
    shortcuts = {
        name: module.in_channels
        for name, module in made.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    }
    assert set(shortcuts.values()) == {4, 6}
    lay_out(made, images, CPU)
    for name in shortcuts:
        conv = made.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.stride()[2:] == (1, 1)  # channels last: (in_channels, in_channels)
        seen: list[bool] = []
        conv.register_forward_hook(lambda _, args, y, seen=seen: seen.append(args[0].is_contiguous()))
        made(images)
        assert seen == [True], name


def test_maps_are_contiguous_where_that_is_wished_also_from_one_channel_that_may_be_either() -> None:
    images = torch.rand(5, 8, 8, 1).permute(0, 3, 1, 2)
    assert images.is_contiguous()
    assert images.is_contiguous(memory_format=torch.channels_last)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    lay_out(net, images, CPU, channels_last=False)
    flat = net(images)
    assert flat.view(5, -1).shape == (5, 256)


def test_another_device_and_another_wish_take_it_back() -> None:
    net, images = student()
    hooks = [len(module._forward_pre_hooks) for module in net.modules()]
    lay_out(net, images, CPU)
    lay_out(net, images, CPU)
    assert max(len(module._forward_pre_hooks) for module in net.modules()) == 1
    lay_out(net, images, GPU)
    assert last(net) == all_3x3(net)
    assert [len(module._forward_pre_hooks) for module in net.modules()] == hooks
    lay_out(net, images, CPU, channels_last=False)
    assert not last(net)
    assert [len(module._forward_pre_hooks) for module in net.modules()] == hooks


@pytest.mark.parametrize("packed", [False, True])
def test_no_number_shows_it(packed: bool) -> None:
    laid, images = student()
    plain = deepcopy(laid)
    laid.net.get_submodule("layer1").eval()
    before = {name: value.clone() for name, value in laid.state_dict().items()}
    lay_out(laid, images, CPU)
    assert not laid.net.get_submodule("layer1").training
    assert laid.net.get_submodule("layer2").training
    for name, value in laid.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    laid.train()
    for net in (laid, plain):
        net.saves_memory = packed
        (net(images) * torch.arange(16, dtype=torch.float64).view(2, 2, 4).cos()).sum().backward()
    for ours, expected in zip(laid.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-9, atol=1e-12)
        assert ours.grad.stride() == ours.stride()
