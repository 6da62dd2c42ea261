"""GLIF: a neuron that learns, channel by channel, between two kinds of leak, of input and of reset."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.kernels.fire import fire
from tser_lightning.kernels.surrogate import surrogate_named
from tser_lightning.neurons.neuron import Neuron


class GLIFState(NamedTuple):
    """Membrane before its reset, and the spikes that will reset it; both [B, ...]."""

    v: Tensor
    spikes: Tensor


class GLIF(Neuron):
    """Gated LIF (Yao et al., NeurIPS 2022), with all parameters behind a sigmoid and one for each channel.

    U = (1 - a (1 - decay)) U' (1 - c S') - (1 - a) leak + (1 - b (1 - g_t)) X - (1 - c) v_reset S', S = 1[U >= v_th],
    where U' and S' are those of the step before. The gates are a = `alpha` (exponential against linear leak),
    b = `beta` (input weighted by step or not) and c = `gamma` (hard against soft reset); g_t = `conductance` has one
    value for each step. The gates train at a tenth of the learning rate on CIFAR (1 on ImageNet).

    Runs as plain operations: what it learns is by channel and by step, which the kernels behind `lif` do not know.

    Args:
        channels: C; None: one set of parameters for the layer.
        timesteps: T, for which there are conductances; a later step uses the last one's.
        decay: Where the exponential leak starts, in (0, 1).
        v_threshold: Where the threshold and the amount of the soft reset start, in (0, 1).
        leak: Where the linear leak starts, in (0, 1); None: v_threshold / (2 T).
        conductance: Where the weights of the input start, in (0, 1).
        surrogate: Name of the surrogate gradient, a key of `SURROGATES`.
        surrogate_scale: Shape parameter of the surrogate, > 0; None: its default.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> import torch
        >>> neuron = GLIF(16, timesteps=4)
        >>> neuron(torch.rand(4, 2, 16, 8, 8)).shape
        torch.Size([4, 2, 16, 8, 8])
        >>> sum(parameter.numel() for parameter in neuron.parameters())  # 3 gates, 4 constants, 4 conductances
        176
    """

    kaiming_start: ClassVar[bool] = True
    lr_scales: ClassVar[dict[str, float]] = {"alpha": 0.1, "beta": 0.1, "gamma": 0.1}
    alpha: nn.Parameter
    beta: nn.Parameter
    gamma: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        timesteps: int = 4,
        decay: float = 0.25,
        v_threshold: float = 0.5,
        leak: float | None = None,
        conductance: float = 0.5,
        surrogate: str = "rectangular",
        surrogate_scale: float | None = None,
    ) -> None:
        super().__init__()
        surrogate_named(surrogate)
        if surrogate_scale is not None and not surrogate_scale > 0:
            raise ValueError(f"surrogate_scale={surrogate_scale} is not above 0")
        self.surrogate, self.surrogate_scale = surrogate, surrogate_scale
        shape = () if channels is None else (channels,)
        leak = v_threshold / (2 * timesteps) if leak is None else leak
        for gate in self.lr_scales:  # all near 1 / 2, none the same
            self.register_parameter(gate, nn.Parameter(0.2 * (torch.rand(shape) - 0.5)))
        self.decay = _before_sigmoid("decay", decay, shape)
        self.v_threshold = _before_sigmoid("v_threshold", v_threshold, shape)
        self.v_reset = _before_sigmoid("v_threshold", v_threshold, shape)
        self.leak = _before_sigmoid("leak", leak, shape)
        self.conductance = _before_sigmoid("conductance", conductance, (timesteps, *shape))

    def run(self, currents_TB: Tensor, state: GLIFState | None) -> tuple[Tensor, GLIFState]:
        """See `Neuron.run`."""
        a, b, c, decay, threshold, v_reset, leak = (
            self.across(parameter.sigmoid(), currents_TB)
            for parameter in (
                self.alpha,
                self.beta,
                self.gamma,
                self.decay,
                self.v_threshold,
                self.v_reset,
                self.leak,
            )
        )
        v = at_rest(currents_TB, None)
        v, s = (v, v) if state is None else state
        spikes = []
        for t, x in enumerate(currents_TB.unbind(0), start=self.clock.first):
            g = self.across(self.conductance[min(t, len(self.conductance) - 1)].sigmoid(), currents_TB)
            v = (1 - a * (1 - decay)) * v * (1 - c * s) - (1 - a) * leak + (1 - b * (1 - g)) * x - (1 - c) * v_reset * s
            s = fire(v - threshold, self.surrogate, self.surrogate_scale)
            spikes.append(s.to(currents_TB.dtype))
        return torch.stack(spikes), GLIFState(v, s)


def _before_sigmoid(name: str, value: float, shape: tuple[int, ...]) -> nn.Parameter:
    if not 0 < value < 1:
        raise ValueError(f"{name}={value} is not between 0 and 1: it is learnt as a sigmoid")
    return nn.Parameter(torch.full(shape, math.log(value / (1 - value))))
