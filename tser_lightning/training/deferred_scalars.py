"""Numbers of a GPU, read one step later: the host never waits for the work that it has just handed out."""

from typing import Generic, TypeVar

import torch
from torch import Tensor

What = TypeVar("What")


class DeferredScalars(Generic[What]):
    """Reads small tensors, each with what belongs to it: at once on a CPU, at the next call on a GPU."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, torch.cuda.Event | None, What]] = []

    def next(self, numbers: Tensor, what: What) -> list[tuple[list[float], What]]:
        """Queue a 1-dim tensor; return the numbers of earlier ones, on a CPU its own too, without waiting."""
        ready = self.rest()
        if not numbers.is_cuda:
            return [*ready, (numbers.tolist(), what)]
        host = torch.empty_like(numbers, device="cpu", pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._waiting = [(host, copied, what)]
        return ready

    def rest(self) -> list[tuple[list[float], What]]:
        """Return the numbers that are still queued."""
        waiting, self._waiting = self._waiting, []
        for _, copied, _ in waiting:
            if copied is not None:
                copied.synchronize()
        return [(numbers.tolist(), what) for numbers, _, what in waiting]
