import dataclasses

import pytest
import torch
from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.losses import BlurredFeature, DistillationLoss
from tser_lightning.models import Student, resnet18, resnet_small, spikformer
from tser_lightning.neurons import LIF, PLIF
from tser_lightning.training import Recipe
from tser_lightning.training.sharding import _blocks, check_sharding


def learning_loss() -> nn.Module:
    loss = DistillationLoss({"feature": BlurredFeature()})
    loss.register_parameter("projection", nn.Parameter(torch.zeros(2)))
    return loss


@pytest.mark.parametrize(
    ("neuron", "loss", "recipe", "said"),
    [
        (PLIF, nn.Identity(), Recipe(), r"the student's net\.\S*\.w"),
        (LIF, learning_loss(), Recipe(), "this loss"),
        (LIF, nn.Identity(), dataclasses.replace(Recipe(), ema=0.9), r"ema=0\.9"),
        (LIF, nn.Identity(), dataclasses.replace(Recipe(), precision="16-mixed"), "precision=16-mixed"),
    ],
)
def test_what_cannot_lie_in_parts_is_refused(neuron: type[LIF], loss: nn.Module, recipe: Recipe, said: str) -> None:
    student = Student(resnet_small(10, 1, neuron, widths=(4, 8)), 2)
    with pytest.raises(UsageError, match=f"strategy=fsdp does not go with {said}"):
        check_sharding(student, loss, recipe)
    check_sharding(Student(resnet_small(10, 1, LIF, widths=(4, 8)), 2), nn.Identity(), Recipe())


def test_nearly_all_of_a_network_lies_in_blocks_that_are_gathered_one_by_one() -> None:
    for net, blocks in ((resnet18(10, 3, LIF), 8), (spikformer(10, 3, LIF, depth=4, dim=384), 4)):
        found = list(_blocks(net))
        assert len(found) >= blocks
        inside = sum(parameter.numel() for block in found for parameter in block.parameters())
        assert inside > 0.7 * sum(parameter.numel() for parameter in net.parameters())
        assert max(sum(p.numel() for p in block.parameters()) for block in found) < 0.5 * inside
