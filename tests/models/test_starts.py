"""Names and shapes of an architecture's tensors and the draws that start them stay: old weights load, runs repeat.

On a meta device no number is drawn: what is asked of the generator, in which order, is the same on every machine.
"""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tser_lightning import models
from tser_lightning.models import relu
from tser_lightning.neurons import LIF, MPBN

KEPT: dict[str, str] = json.loads(Path(__file__).with_name("starts.json").read_text(encoding="utf-8"))
ARCHITECTURES = [
    name
    for name, made in vars(models).items()
    if inspect.isfunction(made) and "activation" in inspect.signature(made).parameters and name != "vit"
]
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "resnet18": [{"variant": "glif"}, {"stem": "imagenet"}],
    "resnet19": [{"variant": "tet"}, {"variant": "mpbn"}, {"variant": "glif"}],
    "sew_resnet18": [{"stem": "cifar"}],
    "ms_resnet18": [{"stem": "cifar"}],
    "ms_resnet104": [{"stem": "cifar"}],
    "spikformer": [{"patch_size": 16}],
    "sdt": [{"patch_size": 16}],
    "spikingformer": [{"cml": True}],
    "qkformer": [{"patch_size": 16}],
    "cnn_small": [{"attention": "pfa_input"}],
    "vgg_small": [{"attention": "pfa"}],
}
CASES = [(name, settings) for name in ARCHITECTURES for settings in ({}, *VARIANTS.get(name, []))]


class Draws(TorchDispatchMode):
    """Writes down what is asked of the random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            values = [tuple(each.shape) if isinstance(each, torch.Tensor) else each for each in args]
            self.asked.append(f"{func} {values}")
        return func(*args, **(kwargs or {}))


def start_of(name: str, settings: dict[str, Any], activation: Any) -> str:
    with torch.device("meta"), Draws() as draws:
        net = getattr(models, name)(10, activation=activation, **settings)
    tensors = [f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()]
    return hashlib.sha256("\n".join([*tensors, *draws.asked]).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=[f"{name} {settings or ''}".strip() for name, settings in CASES]
)
def test_tensors_and_draws_of_every_architecture_are_as_they_were(name: str, settings: dict[str, Any]) -> None:
    neurons = {"relu": relu, "lif": LIF, "mpbn": MPBN}
    starts = {f"{name} {settings} {kind}": start_of(name, settings, made) for kind, made in neurons.items()}
    assert starts == {case: KEPT.get(case) for case in starts}  # of a new architecture: put it into starts.json


def test_another_order_of_the_draws_is_another_start() -> None:
    with torch.device("meta"), Draws() as one:
        torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    with torch.device("meta"), Draws() as other:
        torch.nn.Linear(3, 2), torch.nn.Linear(2, 3)
    assert len(one.asked) == 4
    assert one.asked != other.asked
