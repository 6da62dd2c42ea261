"""The time axis that all modules of one student share.

Legend: T time step, B image. Stateless layers see the folded batch [T*B, ...]; only an `OverTime` module unfolds it.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class Clock:
    """What a module needs to know about time during one call.

    A student hands the same clock to all its modules and sets it at the start of a call.

    Attributes:
        steps: T. None, the state of a module outside a student, means that the leading axis of its input is time.
        images: B while the input is one image for all steps, else None. What comes before the first `OverTime` module
            then has [B, ...] and is computed once, not T times.
        first: Index of the first of these steps; above 0 only while streaming.
        carry: What each module keeps from one streamed step to the next, by module; None outside streaming.

    Examples:
        >>> import torch
        >>> clock = Clock(steps=4)
        >>> clock.unfold(torch.zeros(8, 16)).shape  # [T*B, C] -> [T, B, C]
        torch.Size([4, 2, 16])
        >>> Clock(steps=4, images=2).unfold(torch.zeros(2, 16)).shape  # one image for all steps
        torch.Size([4, 2, 16])
    """

    steps: int | None = None
    images: int | None = None
    first: int = 0
    carry: dict["OverTime", Any] | None = field(default=None, repr=False)

    def unfold(self, folded: Tensor) -> Tensor:
        """Turn [T*B, ...] into [T, B, ...]; one image for all steps, [B, ...], is expanded without a copy."""
        if self.steps is None:
            return folded
        if self.steps == 1:
            return folded.unsqueeze(0)
        if folded.shape[0] == self.images:
            return folded.unsqueeze(0).expand(self.steps, *folded.shape)
        unfolded: Tensor = folded.unflatten(0, (self.steps, -1))
        return unfolded


class OverTime(nn.Module):
    """A module that sees the time axis: a neuron, a norm with weights per step, an attention over time.

    Attributes:
        clock: Set by the student that the module belongs to.
        causal: Whether step t needs no later step. Students with a module that does cannot compute while they stream.
        time_first: Whether it is called with [T, B, ...] inside a student too, as in the networks of others that keep
            time apart (`Student.time_first`).

    Examples:
        >>> import torch
        >>> class Shift(OverTime):
        ...     def forward(self, folded):
        ...         return self.fold(self.unfold(folded).roll(1, 0))
        >>> Shift()(torch.tensor([[0.0], [1.0], [2.0]])).tolist()  # outside a student the leading axis is time
        [[2.0], [0.0], [1.0]]
    """

    causal = True
    time_first = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()

    @property
    def tells_steps_apart(self) -> bool:
        """Whether steps with the same input may have different outputs."""
        return True

    def unfold(self, folded: Tensor) -> Tensor:
        """Turn [T*B, ...] into [T, B, ...]; see `Clock.unfold`."""
        return folded if self.time_first else self.clock.unfold(folded)

    def fold(self, unfolded: Tensor) -> Tensor:
        """Turn [T, B, ...] back into [T*B, ...]."""
        return unfolded if self.clock.steps is None or self.time_first else unfolded.flatten(0, 1)
