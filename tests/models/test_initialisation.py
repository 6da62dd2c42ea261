from functools import partial
from typing import Any

import pytest
import torch

from tser_lightning.models import preact_resnet34, relu, resnet18, resnet19, resnet34, resnet_small, sew_resnet18, vgg11
from tser_lightning.neurons import GLIF, IF, LIF, MPBN

KAIMING, DEFAULT = 2.0, 1 / 3  # the variance of a kernel times the numbers that one output (one input) channel has


@pytest.mark.parametrize(
    ("make", "activation", "kaiming"),
    [
        (sew_resnet18, IF, True),  # SEW-ResNet's own code
        (sew_resnet18, relu, True),
        (resnet18, relu, True),  # the ANN teachers of the TSER paper's group
        (resnet34, relu, True),
        (resnet19, relu, True),
        (resnet18, LIF, False),  # their spiking students
        (resnet19, partial(LIF, decay_input=False), False),
        (resnet19, partial(MPBN, decay=0.25), True),
        (vgg11, MPBN, True),
        (vgg11, relu, False),
        (resnet18, partial(GLIF, timesteps=2), True),
        (preact_resnet34, LIF, True),
        (resnet_small, relu, False),  # ours
        (resnet_small, MPBN, False),
    ],
)
def test_kernels_start_as_in_the_published_code(make: Any, activation: Any, kaiming: bool) -> None:
    torch.manual_seed(0)
    kernels = [kernel for kernel in make(10, 3, activation).parameters() if kernel.ndim == 4 and kernel.shape[2] == 3]
    kernel = max(kernels, key=torch.Tensor.numel)
    fan_out, fan_in = (kernel.shape[axis] * 9 for axis in (0, 1))
    expected = KAIMING / fan_out if kaiming else DEFAULT / fan_in
    assert kernel.var().item() == pytest.approx(expected, rel=0.05)
