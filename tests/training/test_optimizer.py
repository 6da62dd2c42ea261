from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import SGD, Adadelta, AdamW, Optimizer

from tser_lightning.neurons import LIF, PLIF
from tser_lightning.neurons.clock import OverTime
from tser_lightning.training.optimizer import make_optimizer, parameter_groups


class Gate(OverTime):
    def __init__(self) -> None:
        super().__init__()
        self.lr_scales = {"gate": 0.1}
        self.gate = Parameter(torch.zeros(3, 3))
        self.leak = Parameter(torch.zeros(()))

    def forward(self, currents: Tensor) -> Tensor:
        return currents


def test_only_weights_decay_and_every_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), LIF(4), PLIF(4), Gate(), nn.Flatten(), nn.Linear(4, 2))
    groups = parameter_groups(model, lr=0.5)
    decaying = [group for group in groups if "weight_decay" not in group]
    assert [p.shape for group in decaying for p in group["params"]] == [(4, 1, 3, 3), (2, 4)]
    assert all(group["weight_decay"] == 0.0 for group in groups if group not in decaying)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())


def test_a_neuron_may_learn_more_slowly() -> None:
    slow = [group for group in parameter_groups(nn.Sequential(Gate(), nn.Linear(2, 2)), lr=0.5) if "lr" in group]
    assert [group["lr"] for group in slow] == [0.05]
    assert slow[0]["params"][0].shape == (3, 3)


def test_frozen_parameters_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert [p.shape for group in parameter_groups(layer, lr=1.0) for p in group["params"]] == [(2, 2)]


FACTORIES: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "adamw": partial(AdamW, lr=1e-2, weight_decay=0.06),
}


def trained(make: Callable[..., Optimizer], fused: bool, steps: int = 5) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), PLIF(4), nn.Flatten(), nn.Linear(16, 2))
    optimizer = make_optimizer(make, model, fused)
    images = torch.randn(6, 1, 4, 4)
    for _ in range(steps):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("name", FACTORIES)
def test_fused_steps_are_the_same_but_for_rounding(name: str) -> None:
    (fused, one), (plain, other) = (trained(FACTORIES[name], fused) for fused in (True, False))
    assert [group["fused"] for group in one.param_groups] == [True] * 2
    assert not any(group["fused"] for group in other.param_groups)
    for ours, expected in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [partial(Adadelta, lr=0.1), lambda groups: SGD(groups, lr=0.1)])
def test_an_optimiser_without_a_fused_step_is_made_as_it_is(make: Callable[..., Any]) -> None:
    _, optimizer = trained(make, fused=True, steps=1)
    assert not optimizer.param_groups[0].get("fused")


def test_a_device_without_a_fused_step_has_a_plain_one() -> None:
    def elsewhere(groups: Any, fused: bool = False) -> SGD:
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")
        return SGD(groups, lr=0.1)

    optimizer = make_optimizer(elsewhere, nn.Linear(2, 2), fused=True)
    assert not optimizer.param_groups[0]["fused"]
