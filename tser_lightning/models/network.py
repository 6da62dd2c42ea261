"""What every architecture is: stages that can be tapped, and the parts that make it an ANN or a spiking network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from tser_lightning.models.activation import relu

Factory = Callable[..., nn.Module]  # channels -> module


@dataclass(frozen=True)
class Parts:
    """The exchangeable modules of an architecture, each a factory that is given its channels.

    Attributes:
        activation: ReLU for an ANN, a neuron for a spiking network. Also takes `v_threshold=`, for the few places
            where an architecture fixes it.
        norm: Follows a convolution.
        attention: At the end of every stage of a convolutional network.
        input_attention: On what goes into a convolutional network.
    """

    activation: Factory = relu
    norm: Factory = nn.BatchNorm2d
    attention: Factory = nn.Identity
    input_attention: Factory = nn.Identity


class Network(nn.Module):
    """A classifier, [N, C, H, W] -> [N, classes]. ANN and spiking network differ in their activation alone.

    Attributes:
        stages: "stage1" ... "stage4" -> path of the module whose output is that stage's feature. "stage4" is always the
            last one, so that any two networks have their last features under the same name.
        penultimate: Path of the classifier; its input is the penultimate feature.
    """

    stages: dict[str, str]
    penultimate: str = "fc"


def four_stages(stem: str, ends: Sequence[str]) -> dict[str, str]:
    """Name the last four stages of a network; where it has fewer, the stem comes before them."""
    return {f"stage{number}": path for number, path in enumerate([*[stem] * 4, *ends][-4:], start=1)}
