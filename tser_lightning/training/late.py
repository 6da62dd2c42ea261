"""Numbers of a GPU, read one step later: the host never waits for the work that it has just handed out."""

from typing import Generic, TypeVar

import torch
from torch import Tensor

What = TypeVar("What")


class Late(Generic[What]):
    """Gives every number back with what belongs to it: at once on a CPU, at the next call on a GPU."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, torch.cuda.Event | None, What]] = []

    def next(self, number: Tensor, what: What) -> list[tuple[float, What]]:
        """Hand in a number, 0-dim; get those that can be read without waiting for this one."""
        if not number.is_cuda:
            return [*self.rest(), (float(number), what)]
        ready = self.rest()
        host = torch.empty((), dtype=number.dtype, pin_memory=True)
        host.copy_(number, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._waiting = [(host, copied, what)]
        return ready

    def rest(self) -> list[tuple[float, What]]:
        """Get what is still waiting."""
        waiting, self._waiting = self._waiting, []
        for _, copied, _ in waiting:
            if copied is not None:
                copied.synchronize()
        return [(float(number), what) for number, _, what in waiting]
