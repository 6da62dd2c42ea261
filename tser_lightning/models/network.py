"""What every architecture is: stages that can be tapped, and the parts that make it an ANN or a spiking network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Protocol

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.activation import relu

Factory = Callable[..., nn.Module]  # channels -> module


@dataclass(frozen=True)
class Parts:
    """The exchangeable modules of an architecture, each a factory that is given its channels.

    Attributes:
        activation: ReLU for an ANN, a neuron for a spiking network. Also takes `v_threshold=`, for the few places
            where an architecture fixes it.
        norm: Makes the norm behind a convolution.
        attention: At the end of every stage of a convolutional network.
        input_attention: On what goes into a convolutional network.

    Examples:
        >>> from torch import nn
        >>> from tser_lightning.neurons import LIF
        >>> Parts(LIF).activation(64), Parts().norm(64).num_features
        (LIF(), 64)
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

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> class OneLayer(Network):
        ...     stages = {"stage4": "act"}
        ...
        ...     def __init__(self, classes):
        ...         super().__init__()
        ...         self.act, self.fc = nn.ReLU(), nn.Linear(3, classes)
        ...
        ...     def forward(self, x):
        ...         return self.fc(self.act(x.mean((2, 3))))
        >>> net = OneLayer(10)
        >>> net(torch.rand(2, 3, 8, 8)).shape, net.penultimate
        (torch.Size([2, 10]), 'fc')
    """

    stages: dict[str, str]
    penultimate: str = "fc"


def four_stages(stem: str, ends: Sequence[str]) -> dict[str, str]:
    """Map "stage1" ... "stage4" to the last four stages of a network; where it has fewer, the stem stands in front."""
    return {f"stage{number}": path for number, path in enumerate([*[stem] * 4, *ends][-4:], start=1)}


class Architecture(Protocol):
    """Makes a network; what else it takes, each by its name, its docstring and `inspect.signature` say.

    Examples:
        >>> from inspect import signature
        >>> from tser_lightning.models import resnet18
        >>> make: Architecture = resnet18
        >>> list(signature(make).parameters)[:6]
        ['num_classes', 'in_channels', 'activation', 'norm', 'stem', 'variant']
    """

    def __call__(
        self,
        num_classes: int,
        in_channels: int = 3,
        activation: Factory = relu,
        norm: Factory = nn.BatchNorm2d,
        **settings: Any,
    ) -> Network:
        """Make a network.

        Args:
            num_classes: Outputs of the classifier, C.
            in_channels: Channels of the images.
            activation: Makes an activation from its channels: ReLU for an ANN, a neuron for a spiking network.
            norm: Makes the norm behind a convolution from its channels.
            settings: Of the architecture and of its parts.
        """


def architecture(parts: Callable[..., Parts]) -> Callable[[Callable[..., Network]], Architecture]:
    """Make an `Architecture` of a function (num_classes, in_channels, parts, *, settings of its own).

    Args:
        parts: Makes them from activation, norm and what it takes by name: `Parts`, or `parts_with` (attention).

    Returns:
        The decorator.

    Examples:
        >>> from inspect import signature
        >>> from tser_lightning.models import Network, Parts
        >>> from tser_lightning.models.attention import parts_with
        >>> @architecture(parts_with)
        ... def my_net(num_classes: int, in_channels: int, parts: Parts, *, width: int = 16) -> Network:
        ...     raise NotImplementedError
        >>> list(signature(my_net).parameters)[:5]
        ['num_classes', 'in_channels', 'activation', 'norm', 'width']
    """
    of_parts = [each for each in signature(parts).parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
    given = signature(Architecture.__call__).parameters
    common = [given[name] for name in ("num_classes", "in_channels", "activation", "norm")]

    def decorate(make: Callable[..., Network]) -> Architecture:
        @wraps(make)
        def made(
            num_classes: int,
            in_channels: int = 3,
            activation: Factory = relu,
            norm: Factory = nn.BatchNorm2d,
            **settings: Any,
        ) -> Network:
            attention = {each.name: settings.pop(each.name) for each in of_parts if each.name in settings}
            return make(num_classes, in_channels, parts(activation, norm, **attention), **settings)

        own = [each for each in signature(make).parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
        made.__signature__ = signature(make).replace(parameters=[*common, *own, *of_parts])  # type: ignore[attr-defined]
        return made

    return decorate


def network_of(model: nn.Module) -> nn.Module:
    """Give the network inside a student or a teacher, their `net`, by whose paths layers are named; else the model."""
    network: nn.Module = getattr(model, "net", model)
    return network


def refuse_small(images: Tensor, smallest: int, who: str, why: str, fix: str) -> None:
    """Raise a UsageError when images [N, C, H, W] have a side below `smallest` pixels."""
    if min(images.shape[-2:]) < smallest:
        raise UsageError(
            f"images of {images.shape[-2]}x{images.shape[-1]} pixels are too small for {who}",
            f"{why}: it needs at least {smallest}x{smallest}",
            fix,
        )
