"""How a training or evaluation ends: SIGTERM, Ctrl-C and errors of torch as exits and messages of ours."""

import contextlib
import errno
import os
import re
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tser_lightning.atomic_io import refused
from tser_lightning.errors import RunError, UsageError
from tser_lightning.termination import Terminated, listening
from tser_lightning.training.watchdog import leave, lost, start_watchdog


class StopsAtSigterm(Callback):
    """Ends a training or evaluation at the next batch once SIGTERM has come.

    A single process ends a training step by Lightning itself. Several ask each other before every step, and make it
    their last together, so that they save the same: Lightning's own way sends a message from within the handler of the
    signal, between two that the training sends, and each would take the other's for its own.
    """

    def __init__(self) -> None:
        self.received_sigterm = False
        self._last = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the watchdog that ends processes that train together with each other."""
        if trainer.world_size > 1:
            start_watchdog(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle SIGTERM here, where several processes train together."""
        self._listen(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle SIGTERM here, where several processes train together."""
        self._listen(trainer)

    def _listen(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)  # Lightning puts back what was there

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received_sigterm:
            raise Terminated
        self.received_sigterm = True

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Agree with the other processes whether this step is the last; they wait for each other here anyway."""
        if trainer.world_size > 1:
            self._last = trainer.strategy.reduce_boolean_decision(self.received_sigterm, all=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let Lightning stop after the last step, once callbacks have saved; not within accumulated batches."""
        if self._last and ((batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch):
            trainer._signal_connector.received_sigterm = True

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop if SIGTERM has come; the batches since the last checkpoint are done again later."""
        self._stop(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop if SIGTERM has come."""
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if _told_to_stop(trainer):
            raise SIGTERMException


def _told_to_stop(trainer: pl.Trainer) -> bool:
    own = (callback.received_sigterm for callback in trainer.callbacks if isinstance(callback, StopsAtSigterm))  # type: ignore[attr-defined]
    return trainer.received_sigterm or any(own)


@contextlib.contextmanager
def translated_exits(trainer: pl.Trainer) -> Iterator[None]:
    """Turn the ways in which a Trainer's work ends into our exceptions, with what, why and what to type.

    Raises:
        Terminated: SIGTERM.
        KeyboardInterrupt: Ctrl-C.
        UsageError: What a process that loads data found wrong.
        RunError: Out of memory; a process that loads data, or one that trains along, died.
    """
    try:
        with listening(trainer):
            yield
    except BaseException as error:
        leave()
        ending = _ending(trainer, error)
        if ending is error:
            raise
        raise ending from error


def _ending(trainer: pl.Trainer, error: BaseException) -> BaseException:
    if isinstance(error, UsageError | RunError):
        return error
    if isinstance(error, SystemExit | Exception) and _told_to_stop(trainer):
        return Terminated()  # what ends processes that train together has no common base
    if isinstance(error, SystemExit) and trainer.interrupted:
        return KeyboardInterrupt()  # Lightning leaves SIGTERM and Ctrl-C both as a plain exit
    return sentence(error) or error


_OURS = re.compile(r"tser_lightning\.errors\.(UsageError|RunError): (.*)\n  why: (.*)\n  try: (.*)")


def sentence(error: BaseException) -> UsageError | RunError | None:
    """Turn an error of torch into a message for the user; None if it is a crash like any other."""
    text = str(error)
    if ours := _OURS.search(text):  # raised in a process that loads data, which sends text alone
        kind = UsageError if ours[1] == "UsageError" else RunError
        return kind(what=ours[2], why=ours[3], fix=ours[4])
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return RunError(
            what=f"out of memory: {text.partition('. ')[0][:200]}",
            why="activations of all time steps are kept for the backward pass, so memory grows with "
            "`timesteps` times `batch_size`",
            fix="half of `batch_size` with accumulate=2, precision=bf16-mixed, or no other "
            "program on this device; then the same command",
        )
    if re.search(r"DataLoader worker .*(killed|exited|Bus error)", text):
        return RunError(
            what="a process that loads data has died: " + text.partition("\n")[0][:200],
            why="the system killed it, for want of memory or of room in /dev/shm",
            fix="the same command goes on from the last checkpoint; if it happens again, with fewer `workers`",
        )
    chain = [each for each in (error, error.__cause__, error.__context__) if isinstance(each, OSError)]
    said = next((found for each in chain if (found := refused(each)) is not None), None)
    if said is None and "Too many open files" in text:
        said = refused(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    if said is not None:
        return said
    if re.search(r"process \d+ terminated|Connection (closed|reset) by peer|ProcessGroup|NCCL", text):
        return lost(text.strip().partition("\n")[0][:200])
    return None
