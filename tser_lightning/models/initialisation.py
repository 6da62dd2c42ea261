"""How the weights of a network start, where its published code does not take torch's default."""

from typing import TypeVar

from torch import nn

from tser_lightning.models.activation import relu
from tser_lightning.models.network import Factory

Net = TypeVar("Net", bound=nn.Module)


def kaiming(net: Net) -> Net:
    """Draw the kernels of all convolutions anew: Kaiming normal, fan out, for ReLU (He et al., ICCV 2015).

    So do SEW-ResNet (sew_resnet.py), the ANN ResNets of the TSER paper's group, TDD's pre-activation ResNet-34, and the
    networks of MPBN and GLIF. That group's spiking students on CIFAR start as torch does.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def published_start(net: Net, activation: Factory, ann: bool = True) -> Net:
    """Start a network as its published code does, by what it is made with.

    Args:
        net: A network with torch's own initialisation.
        activation: Its activation: a neuron's class may say `kaiming_start = True`.
        ann: Whether the ANN of this architecture starts as Kaiming.
    """
    made = getattr(activation, "func", activation)  # a partial of a neuron's class
    return kaiming(net) if (ann and made is relu) or getattr(made, "kaiming_start", False) else net
