"""Networks with neurons of SpikingJelly or snnTorch, made into ones with neurons of ours that compute the same.

Nothing of these libraries is imported: their classes are known by their names.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models import foreign_snntorch, foreign_spikingjelly
from tser_lightning.neurons.clock import OverTime
from tser_lightning.neurons.neuron import LIF, Neuron

log = logging.getLogger("tser_lightning")

LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs", "braincog", "bindsnet", "lava")
_NEURONS = ("neuron", "_neurons", "module", "layers", "nodes", "node", "activation", "rnn")
_READ: dict[str, Callable[[Any], LIF]] = {
    "spikingjelly": foreign_spikingjelly.neuron_of,
    "snntorch": foreign_snntorch.neuron_of,
}


def adopt_neurons(net: nn.Module) -> list[Neuron]:
    """Replace the neurons of SpikingJelly and snnTorch in a network by ours, which give the same spikes.

    The new ones give the same spikes, keep no state between calls, and are at the same paths. The networks of
    SpikingJelly whose neurons are in step mode "m" go on taking [T, B, ...] (`OverTime.time_first`); all others are
    called once with [T*B, ...] where they were called T times with [B, ...].

    Args:
        net: The network; it is changed in place.

    Returns:
        The new neurons; empty for a network that has none of another library's.

    Raises:
        UsageError: Names what cannot be computed here as it is there, and why.

    Examples:
        >>> from torch import nn
        >>> adopt_neurons(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))  # nothing of another library in it
        []
    """
    found = [(path, module) for path, module in _outside(net, "") if _is_neuron(module) or _keeps_state(module)]
    adopted: dict[nn.Module, LIF] = {}
    for path, module in found:
        adopted.setdefault(module, _ours(path, module))
        owner, _, name = path.rpartition(".")
        setattr(net.get_submodule(owner), name, adopted[module].train(module.training))
    if len({neuron.time_first for neuron in adopted.values()}) > 1:
        raise UsageError(
            what="some neurons of this network are in step mode 's', others in 'm'",
            why="a network takes one time step at a call or all of them",
            fix="spikingjelly.activation_based.functional.set_step_mode(net, 'm') before it is returned",
        )
    if adopted:
        names = Counter(f"{type(module).__name__} of {_library(module)}" for module in adopted)
        log.info("the student's neurons are computed here: %s", ", ".join(f"{n} {name}" for name, n in names.items()))
    return list(adopted.values())


def _ours(path: str, module: nn.Module) -> LIF:
    library = _library(module)
    if not path or library not in _READ:
        raise UsageError(
            f"{path or 'the network'} is a neuron of {library} ({type(module).__name__}), which is not seen here: "
            "nothing sets its state back, and its spikes are not counted",
            "time, state, firing rates and energy are those of tser_lightning.neurons.Neuron modules",
            "activation(channels) in its place, or class Wrapped(Neuron) around it, as docs/guides/own_parts.md shows",
        )
    try:
        return _READ[library](module)
    except UsageError as error:
        raise UsageError(
            f"{path} ({type(module).__name__} of {library}): {error.what}", error.why, error.fix
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path} ({type(module).__name__} of {library}) has a value that no neuron takes here",
            str(error),
            "another",
        ) from error


def _outside(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """All modules that are not inside a module of ours that sees time, at all their places."""
    if isinstance(module, OverTime):
        return
    yield path, module
    for name, child in module._modules.items():
        if child is not None and not _is_neuron(module):
            yield from _outside(child, f"{path}.{name}" if path else name)


def _is_neuron(module: nn.Module) -> bool:
    """Whether one of its classes, or of those it inherits, lies where these libraries have their neurons."""
    parts = [kind.__module__.split(".") for kind in type(module).__mro__]
    return any(names[0] in LIBRARIES and any(name in _NEURONS for name in names[1:]) for names in parts)


def _keeps_state(module: nn.Module) -> bool:
    """Whether it is one of SpikingJelly's modules with a memory, such as a dropout with one mask for all steps."""
    return any(kind.__module__ == "spikingjelly.activation_based.base" for kind in type(module).__mro__) and bool(
        getattr(module, "_memories", None)
    )


def _library(module: nn.Module) -> str:
    """The library that a neuron is from, perhaps by what it inherits."""
    tops = [kind.__module__.partition(".")[0] for kind in type(module).__mro__]
    return next(top for top in tops if top in LIBRARIES)


@contextmanager
def called_once(neurons: Sequence[Neuron]) -> Iterator[None]:
    """Refuse a network that calls a neuron twice: what it kept from call to call there, it does not keep here.

    Args:
        neurons: Those of the network that were adopted.
    """
    calls: Counter[nn.Module] = Counter()
    handles = [neuron.register_forward_pre_hook(lambda module, _: calls.update([module])) for neuron in neurons]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if most := max(calls.values(), default=0) - 1:
            raise UsageError(
                what=f"a neuron of the student is called {most + 1} times in one call of the network",
                why="here a call is all time steps and each of its neurons sees them once, starting at rest; the loop "
                "over time is the student's",
                fix="a forward without a loop over time, and a neuron of its own for every place",
            )
