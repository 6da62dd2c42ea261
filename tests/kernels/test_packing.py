from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.kernels.packing import contiguous, from_bits, packed_spikes, to_bits
from tser_lightning.models import Student
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import ILIF, LIF, lif


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("numel", [1, 7, 8, 9, 1000])
def test_every_spike_comes_back(dtype: torch.dtype, numel: int) -> None:
    spikes = torch.randint(2, (numel,)).to(dtype)
    bits = to_bits(spikes)
    assert bits.dtype == torch.uint8
    assert len(bits) == (numel + 7) // 8
    assert torch.equal(from_bits(bits, numel, dtype), spikes)


def test_bits_by_hand() -> None:
    assert to_bits(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1])).tolist() == [1, 6]


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradients_are_the_same(channels_last: bool) -> None:
    images = torch.randn(2, 3, 9, 9)
    student = Student(resnet_small(5, 3, LIF, widths=(8, 16)), timesteps=3)
    if channels_last:
        student = student.to(memory_format=torch.channels_last)
    gradients = []
    for saves in (False, True):
        student.saves_memory = saves
        student.zero_grad()
        student(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    for ours, expected in zip(*gradients, strict=True):
        assert torch.equal(ours, expected)


def saved_by_a_convolution(spikes: Tensor, change: bool = False) -> list[Any]:
    """What a convolution of some spikes keeps, packed or not."""
    conv = nn.Conv2d(2, 3, 3)
    if change:
        spikes = spikes.add_(0)
    out = conv(spikes)
    assert out.grad_fn is not None
    return [out.grad_fn._raw_saved_input.data]


def test_a_convolution_keeps_bits() -> None:
    x = torch.randn(4, 2, 2, 5, 5)
    with packed_spikes():
        spikes = lif(x)[0].flatten(0, 1)
        (kept,) = saved_by_a_convolution(spikes)
    assert not isinstance(kept, Tensor)
    assert kept.packed.numel() == 4 * 2 * 2 * 25 // 8


def test_a_copy_of_spikes_is_known_for_spikes() -> None:
    x = torch.randn(4, 2, 2, 5, 5).transpose(2, 4)
    with packed_spikes():
        spikes = lif(x)[0].flatten(0, 1).transpose(1, 3)
        assert contiguous(spikes) is spikes
        copy = contiguous(spikes.transpose(2, 3))
        (kept,) = saved_by_a_convolution(copy)
        assert not isinstance(kept, Tensor)
        assert torch.equal(kept.unpack(), spikes.transpose(2, 3))
        (kept,) = saved_by_a_convolution(contiguous((2 * spikes).transpose(2, 3)))
        assert isinstance(kept, Tensor)


def test_what_is_not_whole_binary_memory_is_kept_as_it_is() -> None:
    x = torch.randn(4, 2, 2, 5, 5)
    with packed_spikes():
        spikes = lif(x)[0].flatten(0, 1)
        for other in (spikes[1:], spikes[:1].expand(3, 2, 5, 5), spikes * 2, torch.rand(2, 2, 5, 5)):
            (kept,) = saved_by_a_convolution(other)
            assert isinstance(kept, Tensor)
        (kept,) = saved_by_a_convolution(spikes, change=True)
        assert isinstance(kept, Tensor)


def test_memory_given_back_is_not_taken_for_spikes() -> None:
    conv = nn.Conv2d(2, 3, 3)
    with packed_spikes():
        for _ in range(20):
            lif(torch.randn(4, 1, 2, 5, 5))
            other = torch.rand(4, 2, 5, 5)
            out = conv(other)
            out.sum().backward()
            assert conv.weight.grad is not None
            expected = torch.autograd.grad(nn.functional.conv2d(other, conv.weight).sum(), conv.weight)[0]
            torch.testing.assert_close(conv.weight.grad, expected)
            conv.zero_grad()


def test_nothing_is_kept_without_gradients() -> None:
    student = Student(resnet_small(5, 3, LIF, widths=(8,)), timesteps=3).eval()
    student.saves_memory = True
    with torch.inference_mode(), packed_spikes():
        logits = student(torch.zeros(2, 3, 9, 9))
    torch.testing.assert_close(logits, student(torch.zeros(2, 3, 9, 9)).detach())


@pytest.mark.parametrize("most", [3, 300])
def test_numbers_of_spikes_are_kept_as_bytes_where_they_fit(most: int) -> None:
    currents = (most * torch.rand(4, 2, 2, 5, 5)).requires_grad_()
    with packed_spikes():
        counts = ILIF(max_spikes=most)(currents).flatten(0, 1)
        assert counts.max() > 1
        (kept,) = saved_by_a_convolution(counts)
    if most > 255:
        assert kept is counts or torch.equal(kept, counts)
        return
    assert kept.packed.dtype == torch.uint8
    assert kept.packed.numel() == counts.numel()
    assert torch.equal(kept.unpack(), counts)


def test_the_gradients_of_numbers_of_spikes_are_the_same() -> None:
    student, images = Student(resnet_small(5, 3, ILIF, widths=(8, 16)), timesteps=2), 3 * torch.randn(2, 3, 9, 9)
    gradients = []
    for saves in (False, True):
        student.saves_memory = saves
        student.zero_grad()
        student(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    for ours, expected in zip(*gradients, strict=True):
        assert torch.equal(ours, expected)
