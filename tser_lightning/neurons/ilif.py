"""I-LIF: a neuron that puts out a whole number of spikes at a step, run as so many binary steps."""

from typing import Any

import torch
from torch import Tensor

from tser_lightning.kernels.dynamics import at_rest, integrate
from tser_lightning.kernels.packing import is_spikes
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.neurons.neuron import Neuron


class _Count(torch.autograd.Function):
    """round(clip(u, 0, D)), whose derivative is 1 where 0 <= u <= D and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, most: int) -> Tensor:
        ctx.save_for_backward((u >= 0) & (u <= most))
        return u.clamp(0, most).round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grad * inside, None


class ILIF(Neuron):
    """Integer leaky integrate-and-fire (Luo et al., "Integer-valued training", ECCV 2024).

    One step: H = decay V + I, C = round(clip(H / v_threshold, 0, D)), V = H - C v_threshold. The gradient goes straight
    through the rounding where 0 <= H / v_threshold <= D, and through the reset only if asked.

    D = `max_spikes` is the number of binary steps that a step of the training is run as. With a soft reset, in steps
    without input and without a leak, a neuron that fires at v_threshold / 2 puts out the same C spikes one by one, and
    what is linear behind it adds up to the same: W C = W S_1 + ... + W S_D. So a training with T steps is a network of
    T D binary steps; `in_binary_steps` writes its spikes down. Measures count accordingly: a value of k is k spikes, k
    accumulations, and the firing rate is that of the binary steps.

    Runs as plain operations.

    Args:
        channels: Not used: all channels are alike.
        max_spikes: D, the most spikes at one step; 1 or more.
        decay: What is left of the membrane after one step, in [0, 1].
        v_threshold: What one spike takes from the membrane; > 0.
        v_init: The membrane before the first step.
        detach_reset: Whether the gradient ignores that spikes take from the membrane, as in the public code.

    Raises:
        ValueError: A setting out of its range.

    Examples:
        >>> import torch
        >>> neuron = ILIF(max_spikes=2, decay=0.5)
        >>> counts_T = neuron(torch.tensor([1.2, 0.2, 9.0]))  # H = 1.2, 0.1 + 0.2, 0.15 + 9
        >>> counts_T.tolist()
        [1.0, 0.0, 2.0]
        >>> neuron.in_binary_steps(counts_T).tolist()
        [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        max_spikes: int = 4,
        decay: float = 0.25,
        v_threshold: float = 1.0,
        v_init: float = 0.0,
        detach_reset: bool = True,
    ) -> None:
        super().__init__()
        if max_spikes < 1:
            raise ValueError(f"max_spikes={max_spikes} is below 1: no neuron could ever fire")
        self.max_spikes = max_spikes
        self.spec = NeuronSpec(
            decay=decay,
            decay_input=False,
            v_threshold=v_threshold,
            v_init=v_init,
            reset="soft",
            detach_reset=detach_reset,
            backend="reference",
        )

    def run(self, currents_TB: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Neuron.run`; the state is the membrane [B, ...]."""
        v = at_rest(currents_TB, state, self.spec.v_init)
        spikes = []
        for x in currents_TB.unbind(0):
            h = integrate(self.spec, v, x, self.spec.decay)
            count: Tensor = _Count.apply(h / self.spec.v_threshold, self.max_spikes)
            spikes.append(count.to(currents_TB.dtype))
            v = h - self.spec.v_threshold * (count.detach() if self.spec.detach_reset else count)
        return is_spikes(torch.stack(spikes), self.max_spikes), v

    def in_binary_steps(self, counts_TB: Tensor) -> Tensor:
        """Write what it put out, [T, B, ...], as 0 and 1 at D times as many steps, [T*D, B, ...]: the spikes first."""
        step = torch.arange(self.max_spikes, device=counts_TB.device).view(-1, *(1,) * (counts_TB.ndim - 1))
        return (counts_TB.unsqueeze(1) > step).to(counts_TB.dtype).flatten(0, 1)

    def extra_repr(self) -> str:
        """Give the most spikes of a step, the leak and the threshold, for `print`."""
        return f"max_spikes={self.max_spikes}, decay={self.spec.decay}, v_threshold={self.spec.v_threshold}"
