"""What a training shows while it runs."""

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

log = logging.getLogger("tser_lightning")


class LiveBar(RichProgressBar):
    """Rich's progress bar with the loss, its parts and the accuracy."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Show the loss parts that were read last: nothing waits for a GPU."""
        shown: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        shown.pop("v_num", None)
        shown |= {name: f"{value:.3f}" for name, value in getattr(pl_module, "latest", {}).items()}
        return shown | {name: f"{accuracy:.1f}" for name, accuracy in followed(trainer).items()}


def followed(trainer: pl.Trainer) -> dict[str, float]:
    """The accuracy that the selection goes by, under its name, once there is one."""
    found = {name: trainer.callback_metrics.get(name) for name in ("val/acc", "test/acc")}
    return {name: float(accuracy) for name, accuracy in found.items() if accuracy is not None}


class EpochLines(Callback):
    """A line of the log per epoch, at most one every few seconds, for output that is no terminal."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where the training is."""
        now, final = time.monotonic(), trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.is_global_zero or (now - self._last < self._seconds and not final):
            return
        self._last = now
        latest: dict[str, float] = getattr(pl_module, "latest", {})
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in latest.items())
        tail = "".join(f"  {name} {accuracy:.1f}" for name, accuracy in followed(trainer).items())
        log.info("epoch %d of %s  %s%s", trainer.current_epoch + 1, trainer.max_epochs, numbers, tail)


def progress_callbacks() -> list[Callback]:
    """A live bar on a terminal, lines in a file."""
    return [LiveBar(leave=False)] if sys.stdout.isatty() else [EpochLines()]
