"""The membranes that a neuron compared with its threshold.

Legend: T time step, B image.
"""

import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.kernels.dynamics import at_rest, integrate
from tser_lightning.neurons.neuron import LIF, Neuron


def membranes(neuron: Neuron, currents_TB: Tensor, spikes_TB: Tensor) -> Tensor:
    """Compute H, the membrane after the charge and before the reset, from what went in and what came out (Eq. 1-3).

    No kernel hands it out; this goes through the steps again as plain operations. Gradients flow through the currents
    and, as in the neuron itself, through the spikes that reset the membrane (not with `detach_reset`).

    Args:
        neuron: A LIF, IF, PLIF or LSG neuron.
        currents_TB: What went into it, [T, B, ...].
        spikes_TB: What the neuron made of them.

    Returns:
        [T, B, ...], float32 or wider.

    Raises:
        UsageError: A neuron with other dynamics.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF
        >>> neuron, currents_T = LIF(decay=0.5, decay_input=False), torch.tensor([0.5, 1.0, 0.5])
        >>> spikes_T = neuron(currents_T)
        >>> spikes_T.tolist(), membranes(neuron, currents_T, spikes_T).tolist()  # 0.25 + 1 fires
        ([0.0, 1.0, 0.0], [0.5, 1.25, 0.5])
    """
    if not isinstance(neuron, LIF) or type(neuron).run is not LIF.run:
        raise UsageError(
            what=f"the membranes of {type(neuron).__name__} are not known, and the loss asks for them",
            why="they are computed for LIF, IF, PLIF and LSG",
            fix="`LIF`, or a loss that asks for currents or spikes",
        )
    spec, learnt = neuron.spec, neuron.leak()
    decay = spec.decay if learnt is None else learnt
    v = at_rest(currents_TB, None, spec.v_init)
    late = (v >= spec.v_threshold).to(v.dtype)
    charged = []
    for x, s in zip(currents_TB.unbind(0), spikes_TB.unbind(0), strict=True):
        x, s = x.to(v.dtype), s.to(v.dtype)
        h = integrate(spec, v, x, decay)
        h = h - spec.v_threshold * late if spec.reset == "soft_delayed" else h
        s = s.detach() if spec.detach_reset else s
        if spec.reset == "hard":
            v = h * (1 - s)
        elif spec.reset == "soft":
            v = h - spec.v_threshold * s
        else:
            v = h
        late = s
        charged.append(h)
    return torch.stack(charged)
