"""LIF as plain operations, left to autograd."""

import torch
from torch import Tensor

from tser_lightning.kernels.dynamics import at_rest, integrate
from tser_lightning.kernels.fire import differentiable_step
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale


def lif_reference(
    currents_TB: Tensor, v_init: Tensor | None, decay: Decay, scale: Scale, spec: NeuronSpec
) -> tuple[Tensor, Tensor]:
    """Run LIF neurons over time as plain operations, with gradients by autograd; the reference for all backends.

    The oracle of the other backends, what torch.compile and exporters trace, and the way to second derivatives.
    """
    v = at_rest(currents_TB, v_init, spec.v_init)
    spikes = []
    for x in currents_TB.unbind(0):
        h = integrate(spec, v, x.to(v.dtype), decay)
        if spec.reset == "soft_delayed":
            h = h - spec.v_threshold * _reset(differentiable_step(v - spec.v_threshold, scale, spec.gradient), spec)
        s = differentiable_step(h - spec.v_threshold, scale, spec.gradient)
        spikes.append(s.to(currents_TB.dtype))
        if spec.reset == "hard":
            v = h * (1 - _reset(s, spec))
        elif spec.reset == "soft":
            v = h - spec.v_threshold * _reset(s, spec)
        else:
            v = h
    return torch.stack(spikes), v


def _reset(spikes: Tensor, spec: NeuronSpec) -> Tensor:
    return spikes.detach() if spec.detach_reset else spikes
