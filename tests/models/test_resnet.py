from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tser_lightning.models import Network, resnet18, resnet19, resnet34, resnet_small
from tser_lightning.neurons import LIF

COUNTS: list[tuple[Callable[..., Network], dict[str, str], int, int]] = [  # for 10 and 100 classes
    (resnet18, {}, 11_173_962, 11_220_132),
    # Norms on five shortcuts that change no shape, 2 * (64 + 64 + 128 + 256 + 512); the classifier of its ResNet-19.
    (resnet18, {"variant": "glif"}, 11_173_962 + 2048 - 5130 + 256 * (512 + 10), 11_220_132 + 2048 - 100),
    (resnet34, {}, 21_282_122, 21_328_292),
    (resnet19, {}, 12_697_994, 12_721_124),
    (resnet19, {"variant": "group"}, 12_697_994, 12_721_124),
    (resnet19, {"variant": "tet"}, 12_630_858, 12_653_988),
    (resnet19, {"variant": "mpbn"}, 12_569_226, 12_615_396),
    # That of MPBN, 2816 weights of norms on six shortcuts more; its classifier without bias, or 512-256-10 instead.
    (resnet19, {"variant": "glif"}, 12_569_226 + 2816 - 5130 + 256 * (512 + 10), 12_615_396 + 2816 - 100),
]


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("build", "settings", "count_10", "count_100"), COUNTS)
def test_parameter_counts_of_ann_and_snn(
    build: Callable[..., Network], settings: dict[str, str], count_10: int, count_100: int
) -> None:
    with torch.device("meta"):
        assert [parameters(build(10, **settings)), parameters(build(100, **settings))] == [count_10, count_100]
        assert [parameters(build(10, 3, LIF, **settings)), parameters(build(100, 3, LIF, **settings))] == [
            count_10,
            count_100,
        ]


@pytest.mark.parametrize(("name", "build"), [("resnet18", resnet18), ("resnet34", resnet34)])
def test_torchvision_weights_load_and_give_the_same_logits(name: str, build: Callable[..., Network]) -> None:
    models = pytest.importorskip("torchvision.models")
    theirs: nn.Module = getattr(models, name)(num_classes=7).eval()
    ours = build(7, stem="imagenet").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("build", [resnet18, resnet19, resnet_small])
def test_weights_of_the_ann_twin_load_into_the_student(build: Callable[..., Network]) -> None:
    build(10, 3, LIF).load_state_dict(build(10, 3).state_dict(), strict=True)


def test_every_activation_is_a_module_of_its_own() -> None:
    activations = [name for name, module in resnet18(10, 3, LIF).named_modules() if isinstance(module, LIF)]
    assert len(activations) == 17  # the stem and two in each of eight blocks
    assert activations[:3] == ["act1", "layer1.0.act1", "layer1.0.act2"]


@pytest.mark.parametrize("build", [resnet18, resnet19, resnet34, resnet_small])
def test_stages_and_classifier_are_modules(build: Callable[..., Network]) -> None:
    net, shapes = build(10), {}
    assert list(net.stages) == ["stage1", "stage2", "stage3", "stage4"]
    for stage, path in net.stages.items():
        net.get_submodule(path).register_forward_hook(
            lambda _, inputs, output, stage=stage: shapes.update({stage: list(output.shape[-2:])})
        )
    net(torch.zeros(1, 3, 32, 32))
    assert shapes["stage1"] == [32, 32]
    assert shapes["stage4"] in ([4, 4], [8, 8])
    assert isinstance(net.get_submodule(net.penultimate), nn.Linear)


def test_the_resnet18_of_glif_halves_the_image_twice_and_has_no_bias_in_its_classifier() -> None:
    # networks_for_CIFAR.py, ResNet_18_stand_CW: stage_stride = [1, 1, 2, 2]; four halvings less than 32 pixels give 8.
    net, shapes = resnet18(100, variant="glif"), []
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        net.get_submodule(layer).register_forward_hook(lambda _, inputs, output: shapes.append(list(output.shape[1:])))
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
    assert shapes == [[64, 32, 32], [128, 32, 32], [256, 16, 16], [512, 8, 8]]
    assert [name for name, _ in net.get_submodule("fc").named_parameters()] == ["weight"]
    assert not [
        name for name, module in net.named_modules() if "downsample" in name and isinstance(module, nn.Identity)
    ]


def test_imagenet_stem_divides_the_image_by_four() -> None:
    shape: list[Any] = []
    net = resnet18(10, stem="imagenet")
    net.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: shape.extend(inputs[0].shape))
    net(torch.zeros(1, 3, 64, 64))
    assert shape == [1, 64, 16, 16]


def test_hand_worked_block() -> None:
    # Kernels that copy their channel: act2(2x + x) of the ANN is 3x where x > 0.
    net = resnet_small(2, 1, widths=(1,)).eval()
    block = net.get_submodule("layer1.0")
    for name, scale in (("conv1", 1.0), ("conv2", 2.0)):
        kernel = nn.init.zeros_(block.get_submodule(name).weight)  # type: ignore[arg-type]
        kernel.data[0, 0, 1, 1] = scale
    x = torch.tensor([[[[1.0, -1.0], [0.5, 2.0]]]])
    expected = torch.tensor([[[[3.0, 0.0], [1.5, 6.0]]]])
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=0)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="stem"):
        resnet18(10, stem="mnist")
    with pytest.raises(ValueError, match="variant"):
        resnet19(10, variant="sew")
    with pytest.raises(ValueError, match="variant"):
        resnet18(10, variant="tet")
