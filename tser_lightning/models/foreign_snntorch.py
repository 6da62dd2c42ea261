"""Neurons of snnTorch (1.0) as ours."""

import inspect
import math
from typing import Any

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.neurons.neuron import LIF

# Function that makes the surrogate -> our name, and the variable that is our shape parameter.
_SURROGATES = {"atan": ("atan", "alpha"), "sigmoid": ("sigmoid", "slope"), "fast_sigmoid": ("fast_sigmoid", "slope")}


class LearntBeta(LIF):
    """A learnt leak with snnTorch's parameter: decay = beta, cut to [0, 1], so that its weights keep their meaning.

    Beyond 0 and 1 it has no gradient, there as here.

    Args:
        beta: Theirs, one number.
        settings: Those of `LIF`.
    """

    def __init__(self, beta: nn.Parameter, **settings: Any) -> None:
        super().__init__(decay=float(beta.detach().clamp(0, 1)), decay_input=False, **settings)
        self.beta = beta

    def leak(self) -> Tensor:
        """Beta, cut to [0, 1]."""
        return self.beta.clamp(0, 1).reshape(())


def neuron_of(neuron: Any) -> LIF:
    """Give the neuron of ours that computes what one of snnTorch's does.

    Theirs fires above the threshold, ours at it and above: a membrane that is the threshold to the last bit differs.

    Args:
        neuron: Leaky or Lapicque with init_hidden=True; of its numbers Leaky's beta may be learnt.

    Raises:
        UsageError: There is none.
    """
    kind = type(neuron).__name__
    if kind not in ("Leaky", "Lapicque") or not type(neuron).__module__.startswith("snntorch."):
        raise UsageError(
            what="it has no counterpart here, and nothing sets its state back",
            why="Leaky and Lapicque themselves are known; another class, also one that inherits them, has dynamics of "
            "its own",
            fix="Leaky, or class Wrapped(Neuron) around it, as README shows under Your own",
        )
    _check(neuron)
    reset, detach = _reset(neuron, kind)
    surrogate, scale = _surrogate(neuron)
    settings: dict[str, Any] = {
        "v_threshold": _number(neuron, "threshold"),
        "reset": reset,
        "detach_reset": detach,
        "surrogate": surrogate,
        "surrogate_scale": scale,
    }
    if kind == "Leaky" and isinstance(neuron.beta, nn.Parameter) and neuron.beta.numel() == 1:
        return LearntBeta(neuron.beta, **settings)
    decay, decay_input = _leak(neuron, kind)
    return LIF(decay=decay, decay_input=decay_input, **settings)


def _check(neuron: Any) -> None:
    if not neuron.init_hidden or neuron.output:
        raise UsageError(
            what=f"init_hidden={neuron.init_hidden}, output={neuron.output}: its membrane goes through forward",
            why="a neuron takes currents and gives spikes here; its state is kept by the student, which has the loop "
            "over time",
            fix="init_hidden=True, output=False, and a forward of one step without membranes",
        )
    for wrong in ("inhibition", "state_quant"):
        if getattr(neuron, wrong):
            raise UsageError(
                what=f"{wrong}={getattr(neuron, wrong)}",
                why="neurons of a layer do not see each other here, and membranes are not rounded",
                fix=f"{wrong}=False",
            )
    if _number(neuron, "graded_spikes_factor") != 1:
        raise UsageError(
            what="graded_spikes_factor is not 1",
            why="spikes are 0 or 1 here",
            fix="graded_spikes_factor=1.0, and the factor in the weights that follow",
        )


def _number(neuron: Any, name: str) -> float:
    """A number of a neuron, the same for all its channels and not learnt."""
    value = getattr(neuron, name)
    if isinstance(value, nn.Parameter) or value.numel() != 1:
        raise UsageError(
            what=f"{name} is learnt, or one for each neuron",
            why="here it is a number for the whole layer; what may be learnt is the beta of Leaky, one for a layer",
            fix=f"learn_{name}=False and a number",
        )
    return float(value)


def _reset(neuron: Any, kind: str) -> tuple[Any, bool]:
    """Our reset, and whether its gradient is left out."""
    mechanism, late = neuron.reset_mechanism, getattr(neuron, "reset_delay", True)
    if mechanism == "subtract" and late:
        return "soft_delayed", True
    if mechanism == "zero" and kind == "Leaky":
        return "hard", late  # at the next step or at once: the membrane is seen by nobody in between
    raise UsageError(
        what=f"reset_mechanism={mechanism!r}{'' if late else ', reset_delay=False'}",
        why="what is known here: 'subtract' with its delay, and Leaky's 'zero'; without the delay 'subtract' takes the "
        "threshold off twice where a membrane stays above it, Lapicque's 'zero' drops the next current too, and a "
        "neuron without a reset would fire for ever",
        fix="reset_mechanism='subtract' and reset_delay=True, or Leaky with reset_mechanism='zero'",
    )


def _leak(neuron: Any, kind: str) -> tuple[float, bool]:
    """The decay, and whether it weighs the current too."""
    beta = min(max(_number(neuron, "beta"), 0.0), 1.0)
    if kind == "Leaky":
        return beta, False
    capacity, step = _number(neuron, "C"), _number(neuron, "time_step")
    decay, weight = 1 - step / (_number(neuron, "R") * capacity), step / capacity
    for decay_input, own in ((False, 1.0), (True, 1 - decay)):
        if math.isclose(weight, own, rel_tol=1e-6):
            return decay, decay_input
    raise UsageError(
        what=f"its current is weighed by time_step / C = {weight:.4g}",
        why=f"here a current charges with 1 or with 1 - decay = {1 - decay:.4g}",
        fix="R=1, or C=time_step, and the factor in the weights before it",
    )


def _surrogate(neuron: Any) -> tuple[str, float]:
    """Give the name and the shape parameter that a surrogate of the other library has in this one."""
    function = neuron.spike_grad
    maker = getattr(function, "__qualname__", str(function)).partition(".")[0]
    if maker not in _SURROGATES or not getattr(function, "__module__", "").startswith("snntorch."):
        raise UsageError(
            what=f"its spike_grad={maker} has no counterpart here",
            why=f"gradients of {', '.join(_SURROGATES)} are known; another one would train otherwise without a word",
            fix="spike_grad=surrogate.atan(), which changes the gradient alone",
        )
    name, variable = _SURROGATES[maker]
    return name, float(inspect.getclosurevars(function).nonlocals[variable])
