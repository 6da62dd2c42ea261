"""SIGTERM as an honest end: what is at work finishes its step and saves, then the process exits with 143."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol


class Terminated(SystemExit):
    """The process was told to stop by SIGTERM; exit code 143."""

    def __init__(self) -> None:
        super().__init__(143)


class Worker(Protocol):
    """What listens to SIGTERM itself, as Lightning's trainer does."""

    @property
    def received_sigterm(self) -> bool:
        """Whether it has heard it."""


_at_work: list[Worker] = []


@contextlib.contextmanager
def listening(worker: Worker) -> Iterator[None]:
    """Let something that has heard SIGTERM itself end in its own time."""
    _at_work.append(worker)
    try:
        yield
    finally:
        _at_work.remove(worker)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM, unless something at work has heard it itself; at a second SIGTERM in any case."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1 or not any(worker.received_sigterm for worker in _at_work):
            raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
