"""Neurons as modules: leaky (LIF), perfect (IF) and with a learnt leak (PLIF) integrate-and-fire."""

import math
from abc import abstractmethod
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tser_lightning.kernels.lif import run_lif
from tser_lightning.kernels.norm_lif import norm_lif, norm_lif_step
from tser_lightning.kernels.spec import NeuronSpec, Reset
from tser_lightning.neurons.batch_norm import batch_norm
from tser_lightning.neurons.clock import OverTime


class Neuron(OverTime):
    """Turns currents into spikes; keeps its state within one call, or in the clock's carry while streaming.

    Outside a student the leading axis of its input is time. Channels, where a neuron has parameters for each, are the
    axis after the batch: [T*B, C, ...], outside a student [T, B, C, ...].

    Attributes:
        lr_scales: Factor on the learning rate of a parameter of its own, by name; 1 for those that are not in it.
        max_spikes: The most spikes that it puts out at one step; above 1 what it puts out are their numbers.
        weighted: Whether its spikes weigh something else than 1, the same for the whole layer.
        kaiming_start: Whether the networks that were published with it start as `models.initialisation.kaiming`.

    Examples:
        >>> import torch
        >>> class Step(Neuron):
        ...     def run(self, currents_TB, state):
        ...         return (currents_TB >= 1.0).to(currents_TB.dtype), None
        >>> Step()(torch.tensor([0.5, 1.5])).tolist()
        [0.0, 1.0]
    """

    lr_scales: ClassVar[dict[str, float]] = {}
    kaiming_start: ClassVar[bool] = False
    max_spikes: int = 1
    weighted: bool = False

    def forward(self, currents: Tensor) -> Tensor:
        """Map currents [T*B, ...] to spikes of the same shape, layout and dtype."""
        carry = self.clock.carry
        spikes_TB, state = self.run(self.unfold(currents), None if carry is None else carry.get(self))
        if carry is not None:
            carry[self] = state
        return self.fold(spikes_TB)

    def across(self, parameter: Tensor, currents_TB: Tensor) -> Tensor:
        """Shape a parameter, one number or one for each channel, so that it meets the channels of [B, C, ...]."""
        return parameter if parameter.ndim == 0 else parameter.view(-1, *(1,) * (currents_TB.ndim - 3))

    @abstractmethod
    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Go through the steps of [T, B, ...] from a state (None: at rest); returns spikes and the state after them."""


class LIF(Neuron):
    """Leaky integrate-and-fire, Eq. 1-3 of the paper; the settings are those of `NeuronSpec`.

    Attributes:
        spec: Its settings as one value, as the operators take them.
        fused: Whether it may compute as one with the norm before it (`after_norm`).

    Args:
        channels: Not used: all channels are alike.
        decay: What is left of the membrane after one step, in [0, 1].
        decay_input: Charge to decay v + (1 - decay) x (Eq. 2), else to decay v + x.
        v_threshold: Fires at this membrane and above; > 0.
        v_init: The membrane before the first step.
        reset: To 0 ("hard"), by the threshold ("soft"), or by the threshold at the next step ("soft_delayed").
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
        surrogate: Name of the surrogate gradient, a key of `SURROGATES`.
        surrogate_scale: Shape parameter of the surrogate, > 0; None: its default.
        backend: auto, eager, compiled, triton or reference; see `kernels.backends`.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> import torch
        >>> neuron = LIF(decay=0.5)  # V = 0.5 V + 0.5 I, fires at 1, then is 0
        >>> neuron(torch.tensor([1.0, 1.5, 1.0, 3.0])).tolist()  # H = 0.5, 0.25 + 0.75 (fires), 0.5, 1.75 (fires)
        [0.0, 1.0, 0.0, 1.0]
        >>> LIF(decay=0.5, reset="soft")(torch.tensor([3.0, 1.5])).tolist()  # H = 1.5, what is left 0.5; 0.25 + 0.75
        [1.0, 1.0]
    """

    fused = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        decay: float = 0.5,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_init: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = False,
        surrogate: str = "sigmoid",
        surrogate_scale: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.spec = NeuronSpec(
            decay, decay_input, v_threshold, v_init, reset, detach_reset, surrogate, surrogate_scale, backend
        )

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See `Neuron.run`; the state is the membrane [B, ...]."""
        return run_lif(currents_TB, self.spec, state, self.leak(), self.width())

    def after_norm(self, norm: nn.BatchNorm2d, y: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map y [T*B, C, H, W] to the spikes of norm(y) + residual, both as one operation; see `norm_lif`.

        Only inside a student; while it streams, without gradients.
        """
        steps, carry, numbers = self.clock.steps, self.clock.carry, batch_norm(norm, y)
        assert steps is not None
        if carry is None:
            static = steps > 1 and len(y) == self.clock.images
            return norm_lif(y, residual, numbers, steps, static, self.spec, self.leak(), self.width())
        spikes, carry[self] = norm_lif_step(y, residual, numbers, carry.get(self), self.spec, self.leak())
        return spikes

    def leak(self) -> Tensor | None:
        """The decay, where it is learnt; None: that of `spec`."""
        return None

    def width(self) -> Tensor | None:
        """Shape parameter of the surrogate, where it is learnt; None: that of `spec`."""
        return None

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        default = NeuronSpec()
        facts = ((fact.name, getattr(self.spec, fact.name)) for fact in fields(NeuronSpec) if fact.compare)
        return ", ".join(f"{name}={value!r}" for name, value in facts if value != getattr(default, name))


class IF(LIF):
    """Integrate-and-fire: LIF with a membrane that loses nothing and takes the whole current, V = H + I.

    Args:
        channels: Not used: all channels are alike.
        settings: Those of `LIF` but for `decay` and `decay_input`.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> import torch
        >>> IF()(torch.tensor([0.5, 0.5, 0.5, 0.5])).tolist()  # H = 0.5, 1.0 (fires), 0.5, 1.0 (fires)
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, channels: int | None = None, **settings: Any) -> None:
        super().__init__(channels, decay=1.0, decay_input=False, **settings)


class PLIF(LIF):
    """Parametric LIF (Fang et al., ICCV 2021): one learnt leak per layer, decay = sigmoid(w).

    The paper's 1 / tau is 1 - decay. The leak is a tensor to the same operators, with all backends, that compute `LIF`.

    Args:
        channels: Not used: the leak is shared by all channels.
        decay: Where the leak starts, in (0, 1).
        settings: Those of `LIF` but for `decay`.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> neuron = PLIF(decay=0.25)
        >>> round(float(neuron.leak().detach()), 4), [name for name, _ in neuron.named_parameters()]
        (0.25, ['w'])
    """

    def __init__(self, channels: int | None = None, *, decay: float = 0.5, **settings: Any) -> None:
        super().__init__(channels, decay=decay, **settings)
        if not 0 < decay < 1:
            raise ValueError(f"decay={decay} is not between 0 and 1, where a learnt leak starts")
        self.w = nn.Parameter(torch.tensor(math.log(decay / (1 - decay))))

    def leak(self) -> Tensor:
        """Sigmoid(w)."""
        return torch.sigmoid(self.w)
