"""How often the neurons of a student fire, and which never do or always do.

Legend: T time step, B image, M neurons of one layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tser_lightning.models.network import network_of
from tser_lightning.neurons.clock import OverTime
from tser_lightning.neurons.neuron import Neuron

SATURATED = 95.0
"""A layer is saturated from this mean firing rate on, in percent."""


@dataclass(frozen=True)
class LayerFiring:
    """How often one layer of neurons fires.

    Attributes:
        rate: Mean of S over neurons, steps and images, in percent.
        rate_by_step: The same at each step.
        neurons: Number of neurons of the layer.
        dead_neurons: Share of neurons that never fired, in percent.
        saturated_neurons: Share of neurons that fired at every step for every image, in percent.

    Examples:
        >>> layer = LayerFiring(97.0, (96.0, 98.0), neurons=64, dead_neurons=0.0, saturated_neurons=90.0)
        >>> layer.is_dead, layer.is_saturated
        (False, True)
    """

    rate: float
    rate_by_step: tuple[float, ...]
    neurons: int
    dead_neurons: float
    saturated_neurons: float

    @property
    def is_dead(self) -> bool:
        """Whether no neuron ever fired: nothing passes through this layer."""
        return self.dead_neurons == 100

    @property
    def is_saturated(self) -> bool:
        """Whether the layer fires nearly always (`SATURATED`): it hardly tells images apart."""
        return self.rate >= SATURATED


@dataclass(frozen=True)
class Firing:
    """Firing rates of all layers by module path, in the order of the network.

    Args:
        layers: How often each layer fires.

    Examples:
        >>> from tser_lightning.measure import LayerFiring
        >>> few, many = LayerFiring(10.0, (10.0,), 100, 0.0, 0.0), LayerFiring(30.0, (30.0,), 300, 0.0, 0.0)
        >>> measures = Firing({"act1": few, "act2": many}).measures()
        >>> measures["firing_rate"], measures["firing_rate_layers"]  # (100 10 + 300 30) / 400, (10 + 30) / 2
        (25.0, 20.0)
    """

    layers: dict[str, LayerFiring]

    def measures(self) -> dict[str, float]:
        """The whole student in numbers.

        Returns:
            `firing_rate` (mean over all neurons, in percent), `firing_rate_layers` (mean of the layers' means, in
            percent), `dead_neurons` (percent), `dead_layers` and `saturated_layers` (how many).
        """
        layers = list(self.layers.values())
        neurons = sum(layer.neurons for layer in layers)
        return {
            "firing_rate": sum(layer.rate * layer.neurons for layer in layers) / neurons,
            "firing_rate_layers": sum(layer.rate for layer in layers) / len(layers),
            "dead_neurons": sum(layer.dead_neurons * layer.neurons for layer in layers) / neurons,
            "dead_layers": float(sum(layer.is_dead for layer in layers)),
            "saturated_layers": float(sum(layer.is_saturated for layer in layers)),
        }


class FiringRates:
    """Counts the spikes of every neuron of a student while it classifies.

    Counts stay on the device. The mean of S over all neuron outputs, steps and images; logits are no spikes. A neuron
    that puts out numbers of spikes up to D (`max_spikes`) is measured as it is run, in D binary steps for each.

    Args:
        student: A student, or any module with neurons in it. Paths are those inside `student.net`, if there is one.

    Raises:
        ValueError: There is no neuron in it.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> neuron = LIF(decay=0.0, decay_input=False)  # fires where the current is 1 or more
        >>> with FiringRates(neuron) as rates:
        ...     _ = neuron(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))  # [T, B, M]
        >>> layer = rates.compute().layers[""]
        >>> layer.rate, layer.rate_by_step, layer.dead_neurons
        (75.0, (50.0, 100.0), 0.0)
    """

    def __init__(self, student: nn.Module) -> None:
        self._neurons = {p: m for p, m in named_modules(student).items() if isinstance(m, Neuron)}
        if not self._neurons:
            raise ValueError("this network has no neuron whose firing could be measured: give the student, not an ANN")
        self._by_neuron: dict[str, Tensor] = {}
        self._by_step: dict[str, Tensor] = {}
        self._images: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path, neuron in self._neurons.items():
            self._handles.append(neuron.register_forward_hook(self._hook(path)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, path: str) -> Callable[[OverTime, tuple[Tensor, ...], Tensor], None]:
        def count(neuron: OverTime, _: tuple[Tensor, ...], spikes: Tensor) -> None:
            if neuron.clock.carry is not None:
                raise ValueError("firing rates are measured on whole calls, not while a student streams")
            spikes_TB = neuron.unfold(spikes)
            counts_TB = spikes_TB != 0 if self._neurons[path].max_spikes == 1 else spikes_TB.long()
            fired_TM = counts_TB.sum(1).flatten(1)
            images = torch.full((), spikes_TB.shape[1], device=spikes.device)
            for sums, value in (
                (self._by_neuron, fired_TM.sum(0)),
                (self._by_step, fired_TM.sum(1)),
                (self._images, images),
            ):
                sums[path] = sums[path] + value if path in sums else value

        return count

    def reduce(self) -> None:
        """Add up over all processes of a distributed run; every process must call this, once, before `compute`."""
        for sums in (self._by_neuron, self._by_step, self._images):
            for path in self._neurons:
                sums[path] = sums[path].clone()  # counted in inference mode, it could not be changed in place
                torch.distributed.all_reduce(sums[path])

    def compute(self) -> Firing:
        """Compute the firing rates so far.

        Raises:
            ValueError: Nothing was classified.
        """
        if not self._images:
            raise ValueError("nothing was classified while firing rates were measured")
        return Firing({path: self._layer(path) for path in self._neurons if path in self._images})

    def _layer(self, path: str) -> LayerFiring:
        by_neuron_M, by_step_T, images = self._by_neuron[path], self._by_step[path], int(self._images[path])
        neurons, steps, most = by_neuron_M.numel(), by_step_T.numel(), self._neurons[path].max_spikes
        images *= most  # a step of counts up to D is D steps
        at_step = tuple(100 * fired / (images * neurons) for fired in by_step_T.tolist())
        return LayerFiring(
            rate=100 * int(by_step_T.sum()) / (images * neurons * steps),
            rate_by_step=at_step,
            neurons=neurons,
            dead_neurons=100 * int((by_neuron_M == 0).sum()) / neurons,
            saturated_neurons=100 * int((by_neuron_M == images * steps).sum()) / neurons,
        )


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their path inside the network: that of a student is its `net`."""
    return dict(network_of(model).named_modules())
