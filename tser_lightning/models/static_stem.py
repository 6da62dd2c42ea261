"""What the layers before the first neuron make of a static image, computed once while a student streams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tser_lightning.neurons.clock import OverTime

Made = dict[nn.Module, tuple[Tensor, Tensor]]
"""Layers, each with its input and what it made of it."""


class StaticStem:
    """Caches from step to step the outputs of layers that see a static image.

    A layer without state in eval mode gives the same for the same tensor. So what it made of the images, or of what
    another such layer made of them, holds for all steps; a full call computes it once too. Nothing is remembered that
    somebody changed in place, nor under `torch.inference_mode`, where torch does not tell.

    Args:
        net: The network of a student, in eval mode and without gradients.
        images_B: What is shown at every step.
    """

    def __init__(self, net: nn.Module, images_B: Tensor) -> None:
        self.images_B = images_B
        self._layers = list(_layers(net))
        self._made: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}  # input, output, version of the output

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Let layers return their cached output where their input is the same tensor as before."""
        for layer in self._layers:
            vars(layer)["forward"] = self._forward(layer)
        try:
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)
        self._layers = list(self._made)

    @property
    def made(self) -> Made:
        """What is remembered; set by who computes a step without the layers."""
        return {layer: (x, y) for layer, (x, y, version) in self._made.items() if y._version == version}

    @made.setter
    def made(self, made: Made) -> None:
        self._made = {layer: (x, y, y._version) for layer, (x, y) in made.items()}
        self._layers = list(made)

    def _forward(self, layer: nn.Module) -> Callable[..., Any]:
        def forward(*args: Any, **settings: Any) -> Any:
            static = len(args) == 1 and not settings and self._is_static(args[0])
            if static and layer in self._made:
                x, y, version = self._made[layer]
                if x is args[0] and y._version == version:
                    return y
            y = type(layer).forward(layer, *args, **settings)
            if static and isinstance(y, Tensor) and not y.is_inference():
                self._made[layer] = args[0], y, y._version
            return y

        return forward

    def _is_static(self, x: Any) -> bool:
        return x is self.images_B or any(x is y for _, y, _ in self._made.values())

    def keep(self, keep_B: Tensor) -> None:
        """Keep some of the images, in the cached outputs too."""
        rows, kept = len(self.images_B), {id(self.images_B): self.images_B[keep_B]}
        made = self._made
        self.images_B, self._made = kept[id(self.images_B)], {}
        for layer, (x, y, version) in made.items():
            if id(x) in kept and len(y) == rows and y._version == version:
                still = kept.setdefault(id(y), y[keep_B])
                if not still.is_inference():
                    self._made[layer] = kept[id(x)], still, still._version


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a network that hold no other and do not see time."""
    if isinstance(module, OverTime):
        return
    children = list(module.children())
    if not children and "forward" not in vars(module):  # one that somebody else has put in its place stays
        yield module
    for child in children:
        yield from _layers(child)
