"""Networks with QCFS neurons that cannot be converted: their ANN has more than linear layers between them."""

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models.qkformer import TokenAttention
from tser_lightning.models.sew import CONNECTIONS
from tser_lightning.models.transformer import SelfAttention
from tser_lightning.neurons.pfa import PFA
from tser_lightning.neurons.qcfs import QCFS

POOLS = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)


def refuse_unconvertible(net: nn.Module) -> None:
    """Refuse a network with `QCFS` neurons that has more than what is linear between them.

    Raises:
        UsageError: It has a max-pooling, an attention, or SEW connections other than ADD; names the first.
    """
    modules = dict(net.named_modules())
    if not any(isinstance(module, QCFS) for module in modules.values()):
        return
    for path, module in modules.items():
        if reason := _reason(module):
            raise UsageError(
                what=f"`QCFS` cannot be converted in this network: {path} ({type(module).__name__}) {reason}",
                why="a conversion keeps the weights, so between two activations everything has to be linear",
                fix="resnet_small, vgg_small, or resnet18 with stem=cifar, which have averages alone",
            )


def _reason(module: nn.Module) -> str:
    if isinstance(module, POOLS):
        return "takes the maximum, and maxima of spikes do not average to the maximum of the ANN's activations"
    if isinstance(module, SelfAttention | TokenAttention | PFA):
        return "multiplies activations, and products of spikes do not average to the product of the ANN's"
    if getattr(module, "connect", None) in (CONNECTIONS["and"], CONNECTIONS["iand"]):
        return "multiplies spikes where it connects its branches; connect=add adds them"
    return ""
