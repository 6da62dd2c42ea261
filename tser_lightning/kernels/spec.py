"""The settings of a LIF neuron as one value, made with the neuron and handed to operators and backends."""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Literal, Union, get_args

from tser_lightning.kernels.backends import check_backend
from tser_lightning.kernels.surrogate import Scale, surrogate_named

if TYPE_CHECKING:
    from torch import Tensor

Reset = Literal["hard", "soft", "soft_delayed"]
Decay = Union[float, "Tensor"]


@dataclass(frozen=True)
class NeuronSpec:
    """The facts of a leaky integrate-and-fire neuron (Eq. 1-3 of the paper are the defaults).

    One step, with the membrane V left by the step before and the current I:
        charge  H = decay V + (1 - decay) I    (without `decay_input`: H = decay V + I)
        fire    S = 1 where H >= v_threshold, else 0
        reset   V = 0 where it fired, else H   (soft: H - v_threshold S)
    "soft_delayed" takes the threshold off one step later, after the decay, which is snnTorch's "subtract": V = H, and a
    neuron with V >= v_threshold is charged to v_threshold less. So a spike costs the whole threshold whatever the
    decay, where "soft" lets a part of it leak away with the rest.

    Attributes:
        decay: What is left of the membrane after one step, in [0, 1]. Where it is learnt, a tensor goes beside this and
            this is where it starts.
        decay_input: Charge to decay V + (1 - decay) I, else to decay V + I.
        v_threshold: Fires at this membrane and above; > 0.
        v_init: The membrane before the first step.
        reset: To 0 ("hard"), by the threshold ("soft"), or by the threshold at the next step ("soft_delayed").
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
        surrogate: A name in `surrogate.SURROGATES`.
        surrogate_scale: Its shape parameter, > 0; None: its default. A learnt one goes beside this, as with `decay`.
        backend: One of `backends.backend_names()`.

    Raises:
        ValueError: A value out of its range, or an unknown name; says which there are.

    Examples:
        >>> NeuronSpec(decay=0.25, reset="soft").scale  # of the default surrogate, sigmoid
        4.0
        >>> NeuronSpec(decay=2.0)
        Traceback (most recent call last):
        ValueError: decay=2.0 is not in [0, 1]: it is what is left of the membrane after one step
    """

    decay: float = 0.5
    decay_input: bool = True
    v_threshold: float = 1.0
    v_init: float = 0.0
    reset: Reset = "hard"
    detach_reset: bool = False
    surrogate: str = "sigmoid"
    surrogate_scale: float | None = None
    backend: str = "auto"
    text: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay} is not in [0, 1]: it is what is left of the membrane after one step")
        if not 0 < self.v_threshold < math.inf:
            raise ValueError(f"v_threshold={self.v_threshold} is not above 0: a neuron at rest would fire for ever")
        if not math.isfinite(self.v_init):
            raise ValueError(f"v_init={self.v_init} is not finite: it is the membrane before the first step")
        if self.reset not in get_args(Reset):
            raise ValueError(f"reset={self.reset!r} is not one of {', '.join(get_args(Reset))}")
        surrogate_named(self.surrogate)
        if self.surrogate_scale is not None and not self.surrogate_scale > 0:
            raise ValueError(f"surrogate_scale={self.surrogate_scale} is not above 0")
        check_backend(self.backend)
        if self.backend == "triton" and surrogate_named(self.surrogate).triton is None:
            raise ValueError(
                f"the surrogate {self.surrogate} has no form for Triton (`Surrogate.triton` names none), and another "
                "one's gradient would be silently wrong: take backend='eager'"
            )
        # The operators of torch take it as this text: the dispatcher needs some 3 us for every argument.
        object.__setattr__(self, "text", repr(astuple(self)[:-1]))

    @property
    def scale(self) -> float:
        """Shape parameter of the surrogate where it is not learnt."""
        return surrogate_named(self.surrogate).scale if self.surrogate_scale is None else self.surrogate_scale

    @property
    def gradient(self) -> Callable[["Tensor", Scale], "Tensor"]:
        """The surrogate's g(u, scale)."""
        return surrogate_named(self.surrogate).gradient
