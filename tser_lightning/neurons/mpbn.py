"""MPBN: BatchNorm on the membrane, which at inference is a threshold for each channel."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tser_lightning.kernels.dynamics import at_rest
from tser_lightning.kernels.fire import fire
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.neurons.neuron import Neuron


class _MembraneNorm(nn.BatchNorm2d):
    """BatchNorm over all axes but the channels', whatever their number."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class Thresholds(NamedTuple):
    """What a norm and a threshold come to, channel by channel: fires where slope (V - at) >= 0."""

    at: Tensor
    slope: Tensor


class MPBN(Neuron):
    """LIF with BatchNorm on the membrane (Guo et al., ICCV 2023).

    V = decay H + I, S = 1[BN(V) >= v_threshold], H = V (1 - S): the norm decides on spikes, what is carried is not
    normalised. The norm is shared by the steps and applied, and its running statistics updated, at each one. In eval
    mode it is folded into one threshold for each channel; `fold_norm` makes that permanent. The spikes are equal.

    Runs as plain operations: the norm of a step needs that step's membranes of the whole batch, so that no kernel can
    take a neuron through all steps.

    Args:
        channels: C; there is a norm for each channel, so it has to be given.
        decay: What is left of the membrane after one step, in [0, 1].
        v_threshold: The normalised membrane at which, and above which, it fires; > 0.
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
        surrogate: A name in `SURROGATES`; of the distance of the normalised membrane from the threshold.
        surrogate_scale: Its shape parameter; None: its default.

    Raises:
        ValueError: A setting out of its range, an unknown name, or no number of channels.

    Examples:
        >>> import torch
        >>> neuron = MPBN(1, decay=0.0, v_threshold=0.5)
        >>> with torch.no_grad():
        ...     _ = neuron.norm.running_mean.fill_(2.0)
        >>> spikes = neuron.eval()(torch.tensor([[[2.4]], [[2.6]]]))  # fires from 2.5 on
        >>> spikes.flatten().tolist(), round(float(neuron.thresholds().at.detach()), 2)
        ([0.0, 1.0], 2.5)
    """

    kaiming_start: ClassVar[bool] = True
    threshold: Tensor
    slope: Tensor

    def __init__(
        self,
        channels: int | None = None,
        *,
        decay: float = 0.25,
        v_threshold: float = 0.5,
        detach_reset: bool = False,
        surrogate: str = "tanh",
        surrogate_scale: float | None = None,
    ) -> None:
        super().__init__()
        if channels is None:
            raise ValueError("MPBN normalises by channel: give it their number, MPBN(channels)")
        self.spec = NeuronSpec(
            decay=decay,
            decay_input=False,
            v_threshold=v_threshold,
            detach_reset=detach_reset,
            surrogate=surrogate,
            surrogate_scale=surrogate_scale,
            backend="reference",
        )
        self.norm: nn.BatchNorm2d | None = _MembraneNorm(channels)

    def run(self, currents_TB: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Neuron.run`; the state is the membrane [B, ...]."""
        folded = None
        if self.norm is None or not self.training:
            folded = Thresholds(*(self.across(values, currents_TB) for values in self.thresholds()))
        v = at_rest(currents_TB, state)
        spikes = []
        for x in currents_TB.unbind(0):
            h = self.spec.decay * v + x
            s = fire(self._excess(h, folded), self.spec.surrogate, self.spec.scale)
            spikes.append(s.to(currents_TB.dtype))
            v = h * (1 - (s.detach() if self.spec.detach_reset else s))
        return torch.stack(spikes), v

    def thresholds(self) -> Thresholds:
        """The thresholds [C] on the membrane that the norm of inference comes to."""
        norm = self.norm
        if norm is None:
            return Thresholds(self.threshold, self.slope)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        slope = norm.weight / (norm.running_var + norm.eps).sqrt()
        flat = slope == 0  # fires always or never, whatever the membrane
        slope = torch.where(flat, 1.0, slope)
        at = norm.running_mean + (self.spec.v_threshold - norm.bias) / slope
        constant = torch.where(norm.bias >= self.spec.v_threshold, -torch.inf, torch.inf)
        return Thresholds(torch.where(flat, constant, at), slope)

    def fold_norm(self) -> None:
        """Put the thresholds of inference in the place of the norm, for good: it cannot be trained any further."""
        at, slope = self.thresholds()
        self.norm = None
        self.register_buffer("threshold", at.detach())
        self.register_buffer("slope", slope.detach())

    def _excess(self, h: Tensor, folded: Thresholds | None) -> Tensor:
        """How far the normalised membrane [B, C, ...] is above the threshold."""
        if folded is not None:
            return folded.slope * (h - folded.at)
        assert self.norm is not None
        normalised: Tensor = self.norm(h)
        return normalised - self.spec.v_threshold
