"""Neurons of other libraries, which keep their state by themselves."""

from collections.abc import Iterator

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.neurons.clock import OverTime

LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs", "braincog", "bindsnet", "lava")
_NEURONS = ("neuron", "_neurons", "module", "layers", "nodes", "node", "activation", "rnn")


def refuse_foreign_neurons(net: nn.Module) -> None:
    """Refuse a network with neurons of another library that no neuron of this one holds.

    Raises:
        UsageError: Names the first of them, and how to wrap it.
    """
    for path, module in _outside(net, ""):
        if _is_neuron(module):
            library = type(module).__module__.partition(".")[0]
            raise UsageError(
                f"{path or 'the network'} is a neuron of {library} ({type(module).__name__}), which is not seen here: "
                "nothing sets its state back, and its spikes are not counted",
                "time, state, firing rates and energy are those of tser_lightning.neurons.Neuron modules",
                "activation(channels) in its place, or class Wrapped(Neuron) around it, as README shows under Your own",
            )


def _outside(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """All modules that are not inside a module of ours that sees time."""
    if isinstance(module, OverTime):
        return
    yield path, module
    for name, child in module.named_children():
        yield from _outside(child, f"{path}.{name}" if path else name)


def _is_neuron(module: nn.Module) -> bool:
    """Whether one of its classes, or of those it inherits, lies where these libraries have their neurons."""
    parts = [kind.__module__.split(".") for kind in type(module).__mro__]
    return any(names[0] in LIBRARIES and any(name in _NEURONS for name in names[1:]) for names in parts)
