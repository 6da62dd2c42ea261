"""How the work of a trainer can end, each way told as it is."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tser_lightning.mistake import Failure, Mistake
from tser_lightning.termination import Terminated, listening


class StopsAtSigterm(Callback):
    """Ends a validation or a test at the next batch; a training step ends by Lightning itself."""

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop if told so; the epoch's batches up to the last checkpoint are done again."""
        self._stop(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop if told so."""
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if trainer.received_sigterm:
            raise SIGTERMException


@contextlib.contextmanager
def told(trainer: pl.Trainer) -> Iterator[None]:
    """Turn the ways in which a trainer ends into exits and sentences.

    Raises:
        Terminated: SIGTERM.
        KeyboardInterrupt: Ctrl-C.
        Mistake: What a process that loads data found wrong.
        Failure: Out of memory; a process that loads data, or one that trains along, died.
    """
    try:
        with listening(trainer):
            yield
    except SystemExit as stop:  # Lightning leaves SIGTERM and Ctrl-C both as a plain exit
        if trainer.received_sigterm:
            raise Terminated from stop
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    except (Mistake, Failure):
        raise
    except Exception as error:  # what ends processes that train together has no common base
        if trainer.received_sigterm:
            raise Terminated from error
        known = sentence(error)
        if known is None:
            raise
        raise known from error


_OURS = re.compile(r"tser_lightning\.mistake\.(Mistake|Failure): (.*)\n  why: (.*)\n  try: (.*)")


def sentence(error: BaseException) -> Mistake | Failure | None:
    """Say what an error of torch means for the user; None if it is a crash like any other."""
    text = str(error)
    if ours := _OURS.search(text):  # raised in a process that loads data, which sends text alone
        kind = Mistake if ours[1] == "Mistake" else Failure
        return kind(what=ours[2], why=ours[3], fix=ours[4])
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return Failure(
            what=f"out of memory: {text.partition('. ')[0][:200]}",
            why="activations of all time steps are kept for the backward pass, so memory grows with "
            "student.timesteps times data.batch_size",
            fix="half of data.batch_size with trainer.accumulate=2, trainer.precision=bf16-mixed, or no other "
            "program on this device; then the same command",
        )
    if re.search(r"DataLoader worker .*(killed|exited|Bus error)", text):
        return Failure(
            what="a process that loads data has died: " + text.partition("\n")[0][:200],
            why="the system killed it, for want of memory or of room in /dev/shm",
            fix="the same command goes on from the last checkpoint; if it happens again, with fewer machine.workers",
        )
    if re.search(r"process \d+ terminated|Connection (closed|reset) by peer|ProcessGroup|NCCL", text):
        return Failure(
            what="one of the processes that train together has died: " + text.strip().partition("\n")[0][:200],
            why="the system killed it, or it failed by itself: its own words are above",
            fix="the same command goes on from the last checkpoint",
        )
    return None
