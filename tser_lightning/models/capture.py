"""Steps of a stream, captured once and replayed without the modules around them.

A module costs a processor as much as a small operator does: where maps are small, half of a stream is spent between the
operators. So a student that streams without gradients records the first step of a kind, while its modules run it, as a
list of the functions of torch that they call. A later step of that kind calls these functions on the same parameters:
the same operators in the same order, and so the same bits.

The kind of a step is what its tensors look like: sizes, strides, dtypes. What is captured is a network of torch's and
this package's own modules with LIF, IF, PLIF or LSG neurons, on a processor, to which nobody listens with a hook; a
module, parameter or setting that was exchanged is seen before the next step. All else runs as modules: neurons and
norms that count the steps, modules of others (what they do besides calling torch is not seen), and a step that reads
numbers off a tensor, by which it may decide what comes next.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import is_, itemgetter
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tser_lightning.models.fusing import GLOBAL_HOOKS
from tser_lightning.models.memory_format import contiguous_input
from tser_lightning.models.static_stem import Made, StaticStem
from tser_lightning.neurons.clock import OverTime
from tser_lightning.neurons.neuron import LIF

MOST_CALLS = 1 << 16
"""Calls that are kept, of all kinds of steps: a batch that images leave meets as many kinds as sizes."""

_QUERIES = {  # what they tell is the same for all steps of a kind
    Tensor.__len__,
    Tensor.dim,
    Tensor.is_contiguous,
    Tensor.is_floating_point,
    Tensor.is_inference,
    Tensor.numel,
    Tensor.size,
    Tensor.stride,
    torch.promote_types,
}
_CONVERSIONS = {Tensor.to, Tensor.contiguous}  # give the tensor itself where it is as it is wanted
_FIXED = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)


class TorchCall(NamedTuple):
    """One function of a step. What it takes and gives has a place among the values of the step.

    Attributes:
        function: With the settings that are the same at every step.
        args: Reads the arguments off the values.
        settings: The other settings, each with its place: `out`.
        result: Place of what it gives.
        last: Places of what no later call takes.
    """

    function: Callable[..., Any]
    args: Callable[[list[Any]], Sequence[Any]]
    settings: tuple[tuple[str, int], ...]
    result: int
    last: tuple[int, ...]


class Program(NamedTuple):
    """A captured step, from (image, states of the neurons, what the stem remembers) to (logits, the same).

    Attributes:
        calls: In their order.
        constants: What calls take besides inputs and results, and None for each result: the places behind the inputs.
        logits: Their place.
        states: The neurons, each with the place of its state.
        stem: What is remembered: a layer, the places of its input and its output.
    """

    calls: list[TorchCall]
    constants: list[Any]
    logits: int
    states: list[tuple[OverTime, int]]
    stem: list[tuple[nn.Module, int, int]]

    def step(self, inputs: list[Tensor], carry: dict[OverTime, Any], stem: StaticStem | None) -> Tensor:
        """Do the step; see `Capture.step`."""
        values = [*inputs, *self.constants]
        inputs.clear()
        carry.clear()  # nothing is held longer than modules hold it
        for function, args, settings, result, last in self.calls:
            if settings:
                values[result] = function(*args(values), **{name: values[at] for name, at in settings})
            else:
                values[result] = function(*args(values))
            for at in last:
                values[at] = None
        carry.update((neuron, values[at]) for neuron, at in self.states)
        if stem is not None:
            stem.made = {layer: (values[x], values[y]) for layer, x, y in self.stem}
        logits: Tensor = values[self.logits]
        return logits


class Recorder(TorchFunctionMode):
    """Records what runs inside as the calls of a program.

    Args:
        inputs: Its inputs.
        parameters: The tensors besides them that calls may take.
    """

    def __init__(self, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self._parameters = {id(parameter) for parameter in parameters}
        self._places = {id(x): (ref(x), at) for at, x in enumerate(inputs)}  # nothing is kept that the modules let go
        self._inputs, self._constants = len(inputs), list[Any]()
        self._calls: list[tuple[Callable[..., Any], list[int], dict[str, int], int]] = []
        self._complete = True

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call it, and note it."""
        result = function(*args, **(kwargs or {}))
        if not isinstance(result, Tensor):
            self._complete &= function in _QUERIES or getattr(function, "__name__", "") == "__get__"  # an attribute
        elif not (function in _CONVERSIONS and result is args[0]):
            tensors = {name: x for name, x in (kwargs or {}).items() if self._varies(x)}
            fixed = {name: x for name, x in (kwargs or {}).items() if name not in tensors}
            taken, named = [self._taken(x) for x in args], {name: self._place(x) for name, x in tensors.items()}
            self._calls.append((partial(function, **fixed) if fixed else function, taken, named, self._given(result)))
        return result

    def _varies(self, value: Any) -> bool:
        """Whether an argument is a tensor of this step; else it is the same at every step, or cannot be told."""
        if isinstance(value, Tensor):
            return id(value) not in self._parameters
        self._complete &= _is_fixed(value)
        return False

    def _taken(self, value: Any) -> int:
        """Place of an argument."""
        return self._place(value) if self._varies(value) else self._new(value)

    def _place(self, value: Tensor) -> int:
        """Place of an input or a result."""
        reference, at = self._places.get(id(value), (None, 0))
        self._complete &= reference is not None and reference() is value
        return at

    def _given(self, result: Tensor) -> int:
        """Place of what a call gives: the one that it has, where the call wrote to what was there."""
        reference, at = self._places.get(id(result), (None, 0))
        if reference is None or reference() is not result:
            at = self._new(None)
            self._places[id(result)] = ref(result), at
        return at

    def _new(self, value: Any) -> int:
        self._constants.append(value)
        return self._inputs + len(self._constants) - 1

    def program(self, logits: Tensor, carry: dict[OverTime, Any], made: Made) -> Program | None:
        """Give the program that ends with these; None where something ran that it would not do again."""
        at, states = self._place(logits), [(neuron, self._place(state)) for neuron, state in carry.items()]
        stem = [(layer, self._place(x), self._place(y)) for layer, (x, y) in made.items()]
        if not self._complete:
            return None
        needed = {at, *(place for _, place in states), *chain.from_iterable((x, y) for _, x, y in stem)}
        varying, calls = {*range(self._inputs), *(result for *_, result in self._calls)}, list[TorchCall]()
        for function, args, settings, result in reversed(self._calls):
            last = ({*args, *settings.values(), result} & varying) - needed
            needed |= last
            calls.append(TorchCall(function, _getter(args), tuple(settings.items()), result, tuple(last)))
        return Program(calls[::-1], self._constants, at, states, stem)


def _is_fixed(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_fixed, value))
    if isinstance(value, slice):
        return all(map(_is_fixed, (value.start, value.stop, value.step)))
    return value is None or value is ... or isinstance(value, _FIXED)


def _getter(places: Sequence[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """Read some places off a list; a slice where it is one place, that it be a sequence too."""
    return itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))


class Capture:
    """The captured steps of a network, as long as it stays as it is.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student, cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student, images_BCHW = Student(cnn_small(10, 1, LIF), 4).eval(), torch.rand(2, 1, 8, 8)
        >>> with torch.no_grad():
        ...     modules_ran, replayed = (list(student.stream(images_BCHW)) for _ in range(2))
        >>> all(map(torch.equal, modules_ran, replayed))
        True
    """

    def __init__(self) -> None:
        self._programs: dict[Any, Program | None] = {}
        self._dicts: list[dict[Any, Any]] = []  # where the modules hold what they are made of
        self._held: list[Any] = []  # what they held
        self._tensors: list[Tensor] = []  # among it
        self._looks: list[Any] = []
        self._capturable = False

    def __reduce__(self) -> Any:
        return Capture, ()  # a copy of a network has parameters of its own

    def watch(self, net: nn.Module) -> None:
        """Begin anew if this is not the network that was captured, or its tensors look different now."""
        same = bool(self._dicts) and self._dicts[0] is vars(net) and self._unchanged()
        if same and self._looks == [*map(_look, self._tensors)]:
            return
        modules = list(net.modules())
        self._capturable = all(map(_is_capturable, modules))
        self._dicts = [each for module in modules for each in _dicts(module)]
        self._held = list(chain.from_iterable(map(dict.values, self._dicts)))
        self._tensors = [each for each in self._held if isinstance(each, Tensor)]
        self._looks = [*map(_look, self._tensors)]
        self._programs = {}

    def _unchanged(self) -> bool:
        held = list(chain.from_iterable(map(dict.values, self._dicts)))
        return len(held) == len(self._held) and all(map(is_, held, self._held))

    def step(
        self, run: Callable[[], Tensor], image: Tensor, carry: dict[OverTime, Any], stem: StaticStem | None
    ) -> Tensor:
        """Give the logits of a step of the network that is watched; brings the states and the stem up to date.

        Args:
            run: Lets the modules run it.
            image: What they see.
            carry: The states of the neurons.
            stem: What is remembered of a static image.
        """
        possible = self._capturable and image.device.type == "cpu" and not torch.is_grad_enabled()
        if not possible or any(GLOBAL_HOOKS) or not self._unchanged():
            return run()
        made = {} if stem is None else stem.made
        inputs = [image, *carry.values(), *(y for _, y in made.values())]
        kind = (*map(_look, inputs), *carry, stem is None, *made, *_modes())
        if kind in self._programs:
            program = self._programs[kind]
            return run() if program is None else program.step(inputs, carry, stem)
        with Recorder(inputs, self._tensors) as recorder:
            logits = run()
        program = recorder.program(logits, carry, {} if stem is None else stem.made)
        if sum(len(each.calls) for each in (program, *self._programs.values()) if each is not None) > MOST_CALLS:
            self._programs = {}
        self._programs[kind] = program
        return logits


def _look(x: Tensor) -> Any:
    return x.shape, x.stride(), x.dtype, x.device, x.is_inference()


def _modes() -> Any:
    """What changes the course of a step besides its tensors."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    return torch.is_inference_mode_enabled(), autocast, torch.get_num_threads()


def _dicts(module: nn.Module) -> list[dict[Any, Any]]:
    return [vars(module), module._parameters, module._buffers, module._modules, *_hooks(module)]


def _hooks(module: nn.Module) -> list[dict[Any, Any]]:
    return [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]


def _is_capturable(module: nn.Module) -> bool:
    return (
        type(module).__module__.partition(".")[0] in ("torch", "tser_lightning")
        and (not isinstance(module, OverTime) or (isinstance(module, LIF) and type(module).run is LIF.run))
        and all(hook is contiguous_input for hooks in _hooks(module) for hook in hooks.values())
        and "forward" not in vars(module)
    )
