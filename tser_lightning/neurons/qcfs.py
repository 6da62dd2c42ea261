"""QCFS: an ANN that is trained to be converted, and the spiking network that it becomes, as one neuron."""

from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.kernels.lif import run_lif
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.neurons.neuron import Neuron

SMALLEST = 1e-3
"""A threshold that training brings below this counts as this: at 0 nothing could be told from anything."""


class QCFS(Neuron):
    """Quantisation clip-floor-shift (Bu et al., "Optimal ANN-SNN conversion", ICLR 2022).

    In training mode it is the activation of an ANN with a learnt threshold lambda and L levels, with the shift 1/2:
    a(z) = lambda clip(floor(z L / lambda + 1/2) / L, 0, 1). As in the public code the clip comes first, which gives the
    same values, and the gradient goes straight through the floor: 1 where 0 <= z <= lambda. All time steps are then
    alike, so that they are computed once. In eval mode it is what the ANN is converted to: an IF neuron with threshold
    lambda, soft reset and lambda/2 as its first membrane, whose spikes weigh lambda. So a student with this neuron
    trains as an ANN and is validated, tested, saved and used as a spiking network.

    Of a constant current z the spikes of T steps average to a(z) with L = T: one layer is converted without an error.
    Behind it currents are not constant, which leaves an error that falls with T.

    Only what is linear between activations can be converted: averages and sums, not a maximum of spikes and not a
    product of them (attention); and images that are the same at every step. A student refuses the others.

    Attributes:
        weighted: Its spikes weigh lambda, a number of the whole layer that the weights behind it can take in.

    Args:
        channels: Not used: the threshold is shared by all channels.
        v_threshold: Where lambda starts; > 0.
        levels: L, the levels of the activation above 0; 1 or more.

    Raises:
        ValueError: A setting out of its range.

    Examples:
        >>> import torch
        >>> neuron = QCFS(v_threshold=2.0, levels=4)
        >>> neuron.train()(torch.tensor([[-1.0, 0.3, 1.3, 9.0]])).tolist()  # the ANN
        [[0.0, 0.5, 1.5, 2.0]]
        >>> currents_TB = torch.tensor([[-1.0, 0.3, 1.3, 9.0]]).expand(4, -1)
        >>> neuron.eval()(currents_TB).mean(0).tolist()  # the spiking network, T = L
        [0.0, 0.5, 1.5, 2.0]
    """

    weighted = True

    def __init__(self, channels: int | None = None, *, v_threshold: float = 8.0, levels: int = 4) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels={levels} is below 1: the activation would be 0 everywhere")
        self.spec = NeuronSpec(decay=1.0, decay_input=False, v_init=0.5, reset="soft")  # in units of lambda
        if not v_threshold > 0:
            raise ValueError(f"v_threshold={v_threshold} is not above 0: a neuron at rest would fire for ever")
        self.levels = levels
        self.threshold = nn.Parameter(torch.tensor(float(v_threshold)))

    @property
    def tells_steps_apart(self) -> bool:
        """Tell whether steps differ: in evaluation, as IF neurons; in training one activation stands for all."""
        return not self.training

    def forward(self, currents: Tensor) -> Tensor:
        """Map currents to activations of the same shape in training mode, else to spikes that weigh lambda."""
        if not self.training:
            return super().forward(currents)
        steps = self.clock.steps
        if steps is not None and steps > 1 and len(currents) != self.clock.images:
            raise UsageError(
                what="`QCFS` is trained as an ANN, and here time steps differ",
                why="event frames and norms with weights for each step give every step another input, which no ANN has",
                fix="static images and a norm without weights for each step, or a neuron that spikes in training: `IF`",
            )
        return self.activation(currents)

    def activation(self, z: Tensor) -> Tensor:
        """The ANN's a(z)."""
        levels = self.levels * (z / self.lam()).clamp(0, 1) + 0.5
        floored = levels + (levels.floor() - levels).detach()
        return self.lam() * (floored / self.levels)

    def lam(self) -> Tensor:
        """The threshold."""
        return self.threshold.clamp(min=SMALLEST)

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See `Neuron.run`; the state is the membrane [B, ...] in units of the threshold."""
        spikes_TB, membrane = run_lif(currents_TB / self.lam(), self.spec, state)
        return spikes_TB * self.lam(), membrane

    def extra_repr(self) -> str:
        """Give the learnt threshold and the number of levels, for `print`."""
        return f"v_threshold={float(self.threshold):.3g}, levels={self.levels}"
