"""IM-LIF, a reading: a synaptic current that remembers, as far as attention over time lets it."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.neurons.neuron import LIF


class IMLIFState(NamedTuple):
    """Membrane and synaptic current, both [B, ...]."""

    v: Tensor
    current: Tensor


class IMLIF(LIF):
    """A reading of IM-LIF (Lian et al., IEEE TETCI 2024), not a reproduction: its equations are not public.

    What is known: the equation of the synaptic current of a LIF neuron is changed, so that temporal-wise attention
    "selectively" connects the current with the historical response. What is read into it here:
        I_t = X_t + a_t I_{t-1},  a_t = sigmoid(w_x mean(X_t) + w_i mean(I_{t-1}) + b),
    with means over everything but the images, and three learnt numbers per layer; I_t then drives `LIF`.
    Uncertain: the form of the attention, whether it looks at more than one step, what counts as the response, and where
    it starts. The loss that belongs to the paper's results, a target distribution for each step's output, is not here.

    The current runs as plain operations, since its attention needs a mean over the whole layer at each step; what it
    drives is `lif` with all its backends, but never as one with the norm before it.

    Args:
        channels: Not used: the attention is shared by all channels.
        attention: Where a_t starts, in (0, 1).
        settings: Those of `LIF`, which the current drives.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> import torch
        >>> neuron = IMLIF(attention=0.5, decay=0.0, decay_input=False)  # spikes where the current reaches 1
        >>> neuron(torch.tensor([[[0.75]], [[0.75]], [[0.0]]])).flatten().tolist()  # 0.75, 0.75 + 0.375, 0.5625
        [0.0, 1.0, 0.0]
    """

    def __init__(self, channels: int | None = None, *, attention: float = 0.2, **settings: Any) -> None:
        super().__init__(channels, **settings)
        if not 0 < attention < 1:
            raise ValueError(f"attention={attention} is not between 0 and 1: it is learnt as a sigmoid")
        self.weight = nn.Parameter(torch.zeros(2))
        self.bias = nn.Parameter(torch.tensor(math.log(attention / (1 - attention))))

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, IMLIFState]:
        """See `Neuron.run`."""
        v, current = (None, at_rest(currents_TB[0], None).expand_as(currents_TB[0])) if state is None else state
        mixed = []
        for x in currents_TB.unbind(0):
            x = x.to(current.dtype)
            score = self.weight[0] * _mean(x) + self.weight[1] * _mean(current) + self.bias
            current = x + score.sigmoid() * current
            mixed.append(current)
        spikes_TB, v = super().run(torch.stack(mixed), v)
        return spikes_TB.to(currents_TB.dtype), IMLIFState(v, current)


def _mean(response: Tensor) -> Tensor:
    """Mean of [B, ...] image by image, in a shape that meets it."""
    return response.mean(dim=tuple(range(1, response.ndim)), keepdim=True)
