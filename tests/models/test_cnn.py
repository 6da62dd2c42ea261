import pytest
import torch
from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models import Student, cnn_small
from tser_lightning.neurons import LIF


def test_parameters_of_ann_and_snn_are_those_counted_by_hand() -> None:
    convolutions = 1 * 8 * 9 + 8 * 16 * 9 + 16 * 32 * 9
    norms, classifier = 2 * (8 + 16 + 32), 32 * 7 * 7 * 10 + 10
    for net in (cnn_small(10, 1, grid=7), cnn_small(10, 1, LIF, grid=7)):
        assert sum(p.numel() for p in net.parameters()) == convolutions + norms + classifier == 21_634


def test_it_equals_its_layers_one_after_the_other() -> None:
    net = cnn_small(5, 1, grid=2).eval()
    images = torch.randn(3, 1, 8, 8)
    weights = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    conv1, bn1, conv2, bn2, conv3, bn3 = weights
    x = nn.functional.max_pool2d(bn1(conv1(images)), 2).relu()
    x = nn.functional.max_pool2d(bn2(conv2(x)).relu(), 2)
    x = bn3(conv3(x)).relu()
    torch.testing.assert_close(net(images), net.get_submodule("fc")(x.flatten(1)))


def test_what_comes_before_the_first_neuron_is_computed_once_per_image() -> None:
    student = Student(cnn_small(5, 1, LIF), timesteps=3)
    seen: dict[str, int] = {}
    for name in ("conv1", "conv2"):
        hook = student.net.get_submodule(name).register_forward_hook
        hook(lambda _, args, y, name=name: seen.update({name: len(y)}))
    assert student(torch.randn(2, 1, 8, 8)).shape == (3, 2, 5)
    assert seen == {"conv1": 2, "conv2": 6}


@pytest.mark.parametrize("widths", [(4,), (4, 6), (4, 6, 8, 10)])
def test_any_number_of_convolutions(widths: tuple[int, ...]) -> None:
    net = cnn_small(5, 1, widths=widths)
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == len(widths)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert net.stages["stage4"] == f"attention{len(widths)}"


def test_images_that_are_too_small_for_the_grid_are_refused() -> None:
    with pytest.raises(UsageError, match="too small for a grid of 7"):
        cnn_small(5, 1, grid=7)(torch.zeros(1, 1, 8, 8))
