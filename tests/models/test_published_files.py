"""Networks against their public files: counts, and logits that the public code gave for the same weights (float64)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.models import (
    Student,
    max_resnet18,
    meta_spikeformer,
    ms_resnet18,
    ms_resnet34,
    ms_resnet104,
    qkformer,
)
from tser_lightning.models.ms_resnet import PooledShortcutBlock, deep_stem, ms_resnet
from tser_lightning.models.network import Parts
from tser_lightning.neurons import LIF


def filled(net: nn.Module) -> nn.Module:
    """Fill parameters and running statistics, in the order of their names, so that neurons fire; float64, eval."""
    for number, (name, tensor) in enumerate(sorted(net.double().state_dict().items())):
        if tensor.is_floating_point() and tensor.dim():
            tensor.copy_(_values(name, number, tensor))
    return net.eval()


def images(size: int) -> Tensor:
    """Two images [2, 3, size, size]."""
    return torch.sin(torch.arange(6 * size * size, dtype=torch.float64) * 1.7).view(2, 3, size, size)


def _values(name: str, number: int, tensor: Tensor) -> Tensor:
    wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7 + number).view_as(tensor)
    if name.endswith("running_var"):
        return 1 + 0.3 * wave
    if tensor.dim() > 1:
        return wave * math.sqrt(4 / tensor[0].numel())
    return 0.3 + 0.3 * wave if name.endswith("bias") else 1 + 0.3 * wave if name.endswith("weight") else 0.1 * wave


COUNTS: list[tuple[Callable[[], nn.Module], int]] = [
    (lambda: ms_resnet18(1000), 11_693_736),
    (lambda: ms_resnet34(1000), 21_801_896),
    (lambda: ms_resnet104(1000), 77_350_504),
    (lambda: max_resnet18(10), 12_502_090),
    (lambda: qkformer(100), 6_740_884),
    (lambda: qkformer(1000, depth=10, dim=384, heads=6, patch_size=16), 16_473_688),
    (lambda: qkformer(1000, depth=10, dim=512, heads=8, patch_size=16), 29_079_336),
    (lambda: qkformer(1000, depth=10, dim=768, heads=12, patch_size=16), 64_962_760),
    (lambda: meta_spikeformer(1000, dim=256, last_dim=360), 15_112_208),
    (lambda: meta_spikeformer(1000), 31_333_864),
    (lambda: meta_spikeformer(1000, dim=512, last_dim=640), 55_350_248),
]


@pytest.mark.parametrize(("build", "count"), COUNTS)
def test_parameter_counts(build: Callable[[], nn.Module], count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == count


def published_neuron(channels: int | None = None, v_threshold: float = 0.5) -> LIF:
    """MS-ResNet's: V = 0.25 V + X, threshold 0.5."""
    return LIF(channels, decay=0.25, decay_input=False, v_threshold=v_threshold, detach_reset=True)


def deep() -> nn.Module:
    net = ms_resnet((1, 2, 1, 1), PooledShortcutBlock, 5, 3, Parts(published_neuron), "imagenet")
    return deep_stem(net, 3, "imagenet", dropout=0.2)


LOGITS: list[tuple[str, Callable[[], nn.Module], int, list[float]]] = [  # of the second image, three classes of five
    (
        "ms_resnet18",
        lambda: ms_resnet18(5, 3, published_neuron),
        32,
        [0.2184706477860618, 0.5309724973371523, 0.7790781271294296],
    ),
    ("ms_resnet104", deep, 64, [-0.41169218830571036, -0.36936220300169337, -0.19024506040263778]),
    (
        "max_resnet18",
        lambda: max_resnet18(5, 3, LIF),
        16,
        [-0.019051836999766415, 0.3955788605256581, 0.7548060512592013],
    ),
    (
        "qkformer for CIFAR",
        lambda: qkformer(5, 3, LIF, depth=3, dim=64, heads=8),
        16,
        [0.06290292430556715, 0.5094604564956, 0.8548836875420491],
    ),
    (
        "qkformer for ImageNet",
        lambda: qkformer(5, 3, LIF, depth=4, dim=64, heads=2, patch_size=16),
        32,
        [-0.2911864277031438, -0.5531088745114394, -0.2444070762320003],
    ),
    (
        "meta_spikeformer",
        lambda: meta_spikeformer(5, 3, LIF, dim=64, last_dim=80, heads=4),
        32,
        [-0.15129089458981743, 0.29003508862305033, 0.7001255973683452],
    ),
]


@pytest.mark.parametrize(("build", "size", "expected"), [pytest.param(*row[1:], id=row[0]) for row in LOGITS])
def test_logits_are_those_of_the_public_code(build: Callable[[], nn.Module], size: int, expected: list[float]) -> None:
    student = Student(filled(build()), 3)
    with torch.no_grad():
        logits_TBC = student(images(size))
    assert logits_TBC.mean(0)[1, :3].tolist() == pytest.approx(expected, abs=1e-9)
    assert not torch.equal(logits_TBC[0], logits_TBC[1])


def test_residual_branches_of_ms_resnet_start_at_nothing() -> None:
    net = ms_resnet18(5, stem="cifar")
    block = net.get_submodule("layer1.0").eval()
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"patch_size": 8}, "4 or 16"), ({"depth": 2}, "too small"), ({"dim": 40, "heads": 8}, "divided")],
)
def test_what_qkformer_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        qkformer(5, **settings)
