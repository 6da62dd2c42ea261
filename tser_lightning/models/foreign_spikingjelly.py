"""Neurons of SpikingJelly (0.0.0.0.14 to 2.0) as ours."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.neurons.neuron import IF, LIF

# Class of the surrogate -> our name, and our shape parameter from its `alpha`.
_SURROGATES: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "Sigmoid": ("sigmoid", lambda alpha: alpha),
    "ATan": ("atan", lambda alpha: alpha),
    "PiecewiseQuadratic": ("piecewise_quadratic", lambda alpha: alpha),
    "Rect": ("rectangular", lambda alpha: 1 / alpha),
}
_KNOWN = ("IFNode", "LIFNode", "ParametricLIFNode")


class ParametricLIF(LIF):
    """A learnt leak with SpikingJelly's parameter: decay = 1 - sigmoid(w), so that its weights keep their meaning.

    Args:
        w: SpikingJelly's parameter, which is taken over.
        settings: Those of `LIF`.
    """

    def __init__(self, w: nn.Parameter, **settings: Any) -> None:
        super().__init__(decay=float(1 - torch.sigmoid(w.detach())), **settings)
        self.w = w

    def leak(self) -> Tensor:
        """1 - sigmoid(w)."""
        return torch.sigmoid(-self.w)


def neuron_of(node: Any) -> LIF:
    """Give the neuron of ours that computes what one of SpikingJelly's does.

    Args:
        node: IFNode, LIFNode or ParametricLIFNode, whose v_reset is 0 or None.

    Raises:
        UsageError: There is none.
    """
    kind = type(node).__name__
    if kind not in _KNOWN or not type(node).__module__.startswith("spikingjelly."):
        raise UsageError(
            what="it has no counterpart here, and nothing sets its state back",
            why=f"{', '.join(_KNOWN)} themselves are known; another class, also one that inherits them, has dynamics "
            "of its own",
            fix="one of these, nn.Dropout for layer.Dropout, or class Wrapped(Neuron) around it, as README shows under "
            "Your own",
        )
    settings = _settings(node)
    if kind == "IFNode":
        neuron: LIF = IF(**settings)
    elif kind == "LIFNode":
        neuron = LIF(decay=1 - 1 / node.tau, decay_input=node.decay_input, **settings)
    else:
        neuron = ParametricLIF(node.w, decay_input=node.decay_input, **settings)
    neuron.time_first = node.step_mode == "m"
    return neuron


def _settings(node: Any) -> dict[str, Any]:
    """Threshold, start, reset and surrogate."""
    if node.v_reset not in (None, 0):
        raise UsageError(
            what=f"v_reset={node.v_reset}",
            why="a membrane is set back to 0 here, or the threshold is taken off",
            fix="v_reset=0.0 with v_threshold and inputs less by it, or v_reset=None",
        )
    if getattr(node, "store_v_seq", False):
        raise UsageError(
            what="store_v_seq=True asks for its membranes",
            why="a neuron gives spikes alone here",
            fix="store_v_seq=False, and logits that come from spikes",
        )
    surrogate, scale = _surrogate(node.surrogate_function)
    start = node.get_reset_value("v") if hasattr(node, "get_reset_value") else 0.0
    return {
        "v_threshold": float(node.v_threshold),
        "v_init": float(start),
        "reset": "soft" if node.v_reset is None else "hard",
        "detach_reset": bool(node.detach_reset),
        "surrogate": surrogate,
        "surrogate_scale": scale,
    }


def _surrogate(function: Any) -> tuple[str, float]:
    """Give the name and the shape parameter that a surrogate of the other library has in this one."""
    kind = type(function).__name__
    if kind not in _SURROGATES or not getattr(function, "spiking", True):
        raise UsageError(
            what=f"its surrogate_function={function} has no counterpart here",
            why=f"spikes with the gradient of {', '.join(_SURROGATES)} are known; another one would train otherwise "
            "without a word",
            fix="surrogate_function=surrogate.ATan(), which changes the gradient alone",
        )
    name, scale = _SURROGATES[kind]
    return name, scale(float(function.alpha))
