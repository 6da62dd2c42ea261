import pytest
import torch
from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models import relu, resnet_small
from tser_lightning.training.feature_hooks import FeatureHooks, over_steps


def test_a_stage_name_and_a_module_path_catch_the_same_layer_once() -> None:
    network = resnet_small(3, 1, relu).eval()
    path = network.stages["stage4"]
    taps = FeatureHooks(network, ("stage4", path), "student")
    logits = network(torch.rand(2, 1, 8, 8))
    caught = taps.take()
    assert set(caught) == {"stage4", path}
    torch.testing.assert_close(caught["stage4"], caught[path], rtol=0, atol=0)
    torch.testing.assert_close(network.get_submodule(network.penultimate)(caught[path].mean((2, 3))), logits)
    assert taps.take() == {}


def test_without_taps_there_is_no_hook() -> None:
    network = resnet_small(3, 1, relu)
    FeatureHooks(network, (), "student")
    assert not any(module._forward_hooks for module in network.modules())


def test_an_unknown_tap_is_refused_with_what_is_close_to_it() -> None:
    network = nn.Sequential(nn.Linear(1, 1))
    network.stages = {"stage4": "0"}  # type: ignore[assignment]
    with pytest.raises(UsageError, match="stage4"):
        FeatureHooks(network, ("stage5",), "teacher")


@pytest.mark.parametrize(("steps", "images"), [(4, 2), (2, 2), (1, 3), (2, 1)])
def test_what_is_computed_once_per_image_is_the_same_at_every_step(steps: int, images: int) -> None:
    once, every = torch.rand(images, 5), torch.rand(steps * images, 5)
    torch.testing.assert_close(over_steps("bn1", once, steps, images), torch.stack([once] * steps), rtol=0, atol=0)
    unfolded = over_steps("act1", every, steps, images)
    for step in range(steps):
        for image in range(images):
            assert torch.equal(unfolded[step, image], every[step * images + image])


def test_a_feature_of_another_number_of_rows_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="odd"):
        over_steps("odd", torch.rand(7, 2), 2, 4)
