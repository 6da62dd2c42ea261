"""LIF as plain operations, left to autograd."""

import torch
from torch import Tensor

from tser_lightning.kernels.dynamics import Decay, Dynamics, at_rest
from tser_lightning.kernels.surrogate import Scale, differentiable_step


def lif_reference(
    currents_TB: Tensor, v_init: Tensor | None, decay: Decay, scale: Scale, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """The same neuron as plain operations, left to autograd.

    The oracle of the other backends, what torch.compile and exporters trace, and the way to second derivatives.
    """
    v = at_rest(currents_TB, v_init)
    spikes = []
    for x in currents_TB.unbind(0):
        h = dynamics.charge(v, x.to(v.dtype), decay)
        s = differentiable_step(h - dynamics.v_threshold, scale, dynamics.gradient)
        spikes.append(s.to(currents_TB.dtype))
        s = s.detach() if dynamics.detach_reset else s
        v = h * (1 - s) if dynamics.reset == "hard" else h - dynamics.v_threshold * s
    return torch.stack(spikes), v
