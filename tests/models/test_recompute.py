import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.models import Student
from tser_lightning.models.network import Factory
from tser_lightning.models.norms import BNTT, TAB, TEBN
from tser_lightning.models.resnet import resnet_small
from tser_lightning.models.sew import sew_resnet18
from tser_lightning.models.spikformer import spikformer
from tser_lightning.models.vgg import vgg_small
from tser_lightning.neurons import ILIF, LIF, MPBN, PLIF
from tser_lightning.training.feature_hooks import FeatureHooks

IMAGES_BCHW = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 4


def student(make: Factory, neuron: Factory = LIF, norm: Factory = nn.BatchNorm2d, **settings: Any) -> Student:
    torch.manual_seed(0)
    return Student(make(5, 3, neuron, norm, **settings), 3)


STUDENTS = {
    "resnet": partial(student, resnet_small, widths=(8, 16)),
    "vgg": partial(student, vgg_small),
    "sew": partial(student, sew_resnet18, stem="cifar"),
    "spikformer": partial(student, spikformer, depth=2, dim=32, heads=4),
    "plif and tebn": partial(student, resnet_small, PLIF, partial(TEBN, timesteps=3), widths=(8, 16)),
    "mpbn": partial(student, vgg_small, MPBN),
    "ilif and bntt": partial(student, resnet_small, ILIF, partial(BNTT, timesteps=3), widths=(8, 16)),
    "tab": partial(student, resnet_small, LIF, partial(TAB, timesteps=2), widths=(8, 16)),
    "cumulative": partial(student, vgg_small, norm=partial(nn.BatchNorm2d, momentum=None)),
}
every = pytest.mark.parametrize("name", STUDENTS)


def saved(model: Student, images: Tensor = IMAGES_BCHW) -> tuple[Tensor, int]:
    """Logits of all steps, and the bytes that are kept for their backward pass; one memory counts once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits_TBC = model(images)
    return logits_TBC, sum(kept.values())


def after_a_step(model: Student) -> tuple[dict[str, Tensor], int]:
    """Logits, gradients and buffers after two calls, and what the first kept."""
    found: dict[str, Tensor] = {}
    size = 0
    for step in range(2):
        torch.manual_seed(step)
        logits_TBC, kept = saved(model)
        logits_TBC.square().sum().backward()
        found[f"logits {step}"], size = logits_TBC.detach(), size or kept
    found |= {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | dict(model.named_buffers()), size


@every
def test_everything_is_the_same_and_less_is_kept(name: str) -> None:
    plain = STUDENTS[name]()
    recomputing = copy.deepcopy(plain)
    recomputing.recomputes = True
    (expected, much), (found, little) = after_a_step(plain), after_a_step(recomputing)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key
    assert any(value.any() for key, value in expected.items() if key.endswith("weight"))
    assert little < 0.6 * much
    assert not any("forward" in vars(module) for module in recomputing.modules())


def test_with_bits_the_gradients_are_the_same_too() -> None:
    plain = STUDENTS["resnet"]()
    lowest = copy.deepcopy(plain)
    lowest.saves_memory = lowest.recomputes = True
    (expected, _), (found, _) = after_a_step(plain), after_a_step(lowest)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


class Noisy(nn.Module):
    """A block that draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.drop = nn.Conv2d(3, 3, 3, padding=1), LIF(3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop(self.act(self.conv(x)))
        return dropped


def test_random_numbers_of_a_block_are_drawn_once() -> None:
    torch.manual_seed(0)
    plain = Student(nn.Sequential(Noisy(), Noisy(), nn.Flatten(), nn.Linear(768, 2)), 2)
    recomputing = copy.deepcopy(plain)
    recomputing.recomputes = True
    (expected, _), (found, _) = after_a_step(plain), after_a_step(recomputing)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("name", "inside"), [("resnet", "layer2.0.act1"), ("vgg", "features.2"), ("spikformer", "block.0.q")]
)
def test_a_tap_inside_a_block_catches_the_first_call_alone(name: str, inside: str) -> None:
    gradients = []
    for recomputes in (False, True):
        model = STUDENTS[name]()
        model.recomputes = recomputes
        taps = FeatureHooks(model.net, ("stage4", inside), "student")
        logits_TBC = model(IMAGES_BCHW)
        caught = taps.take()
        assert caught.keys() == {"stage4", inside}
        (logits_TBC.sum() + sum(feature.square().sum() for feature in caught.values())).backward()
        assert taps.take() == {}
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_streaming_and_measuring_recompute_nothing() -> None:
    model = STUDENTS["resnet"]().eval()
    model.recomputes = True
    steps = torch.stack(list(model.stream(IMAGES_BCHW)))
    torch.testing.assert_close(steps, model(IMAGES_BCHW))
    with torch.no_grad():
        assert saved(model)[1] == 0
