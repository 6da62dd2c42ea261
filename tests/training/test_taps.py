import pytest
import torch
from torch import nn

from tser_lightning.mistake import Mistake
from tser_lightning.models import relu, resnet_small
from tser_lightning.training.taps import Taps


def test_a_stage_name_and_a_module_path_catch_the_same_layer_once() -> None:
    network = resnet_small(3, 1, relu).eval()
    path = network.stages["stage4"]
    taps = Taps(network, ("stage4", path), "student")
    logits = network(torch.rand(2, 1, 8, 8))
    caught = taps.take()
    assert set(caught) == {"stage4", path}
    torch.testing.assert_close(caught["stage4"], caught[path], rtol=0, atol=0)
    torch.testing.assert_close(network.get_submodule(network.penultimate)(caught[path].mean((2, 3))), logits)
    assert taps.take() == {}


def test_without_taps_there_is_no_hook() -> None:
    network = resnet_small(3, 1, relu)
    Taps(network, (), "student")
    assert not any(module._forward_hooks for module in network.modules())


def test_an_unknown_tap_is_refused_with_what_is_close_to_it() -> None:
    network = nn.Sequential(nn.Linear(1, 1))
    network.stages = {"stage4": "0"}  # type: ignore[assignment]
    with pytest.raises(Mistake, match="stage4"):
        Taps(network, ("stage5",), "teacher")
