"""LIF as plain operations, left to autograd."""

import torch
from torch import Tensor

from tser_lightning.kernels.dynamics import at_rest, charge
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale, differentiable_step


def lif_reference(
    currents_TB: Tensor, v_init: Tensor | None, decay: Decay, scale: Scale, spec: NeuronSpec
) -> tuple[Tensor, Tensor]:
    """The same neuron as plain operations, left to autograd.

    The oracle of the other backends, what torch.compile and exporters trace, and the way to second derivatives.
    """
    v = at_rest(currents_TB, v_init)
    spikes = []
    for x in currents_TB.unbind(0):
        h = charge(spec, v, x.to(v.dtype), decay)
        s = differentiable_step(h - spec.v_threshold, scale, spec.gradient)
        spikes.append(s.to(currents_TB.dtype))
        s = s.detach() if spec.detach_reset else s
        v = h * (1 - s) if spec.reset == "hard" else h - spec.v_threshold * s
    return torch.stack(spikes), v
