import torch
from torch import Tensor, nn
from torch.nn import Parameter

from tser_lightning.neurons import LIF, PLIF
from tser_lightning.neurons.clock import OverTime
from tser_lightning.training.optimizer import parameter_groups


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
