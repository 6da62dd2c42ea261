from collections.abc import Callable

import pytest
import torch
from torch import nn

from tser_lightning.models import Network, vgg11, vgg16, vgg_small
from tser_lightning.neurons import LIF


@pytest.mark.parametrize(
    ("build", "count_10", "count_100"), [(vgg11, 9_231_114, 9_277_284), (vgg16, 14_728_266, 14_774_436)]
)
def test_parameter_counts_of_ann_and_snn(build: Callable[..., Network], count_10: int, count_100: int) -> None:
    with torch.device("meta"):
        for classes, count in ((10, count_10), (100, count_100)):
            assert sum(parameter.numel() for parameter in build(classes).parameters()) == count
            assert sum(parameter.numel() for parameter in build(classes, 3, LIF).parameters()) == count


def test_convolutions_are_numbered_as_in_torchvision() -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        theirs = models.vgg16_bn().features.state_dict()
        ours = vgg16(10).get_submodule("features").state_dict()
    assert {name: weight.shape for name, weight in ours.items()} == {n: w.shape for n, w in theirs.items()}


def test_equals_torchvision_with_average_pooling() -> None:
    models = pytest.importorskip("torchvision.models")
    ours = vgg11(10).eval()
    theirs = models.vgg11_bn().features.eval()
    theirs.load_state_dict(ours.get_submodule("features").state_dict())
    for index, layer in enumerate(theirs):
        if isinstance(layer, nn.MaxPool2d):
            theirs[index] = nn.AvgPool2d(2)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = theirs(images).flatten(1)
        torch.testing.assert_close(ours(images), ours.get_submodule("fc")(features))


@pytest.mark.parametrize(("build", "pixels"), [(vgg11, 32), (vgg_small, 8)])
def test_stages_are_group_ends_before_pooling(build: Callable[..., Network], pixels: int) -> None:
    net, sizes = build(10), {}
    for stage, path in net.stages.items():
        net.get_submodule(path).register_forward_hook(
            lambda _, inputs, output, stage=stage: sizes.update({stage: output.shape[-1]})
        )
    net(torch.zeros(1, 3, pixels, pixels))
    assert list(net.stages) == ["stage1", "stage2", "stage3", "stage4"]
    assert sizes["stage4"] == 2
    assert isinstance(net.get_submodule(net.penultimate), nn.Linear)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="32x32"):
        vgg16(10)(torch.zeros(1, 3, 28, 28))
