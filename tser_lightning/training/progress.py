"""What a training shows while it runs."""

import datetime
import logging
import math
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar, TQDMProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task
from rich.text import Text

from tser_lightning.training.speed import described

log = logging.getLogger("tser_lightning")


class TimeLeft:
    """Seconds until a training ends, by the steps that it has done since it began or went on."""

    def __init__(self) -> None:
        self._began, self._first = time.monotonic(), 0

    def begin(self, trainer: pl.Trainer) -> None:
        """Start measuring from this step."""
        self._began, self._first = time.monotonic(), trainer.global_step

    def of(self, trainer: pl.Trainer) -> str:
        """Give the time left as "0:02:05"; empty before the first step, or if no number of steps ends it."""
        done, total = trainer.global_step - self._first, float(trainer.estimated_stepping_batches)
        if done <= 0 or not math.isfinite(total) or total < 0:
            return ""
        left = (time.monotonic() - self._began) / done * max(0.0, total - trainer.global_step)
        return str(datetime.timedelta(seconds=round(left)))


class MachineLine(Callback):
    """A line of the log about what a training uses of its machine."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the line once student and data are in place."""
        if trainer.is_global_zero:
            student, images, machine = pl_module.student, pl_module.images, pl_module.machine
            line = described(student, images, machine, pl_module.device, trainer.optimizers[0])
            log.info("machine: %s", line)


class _Telling(ProgressBar):
    """Tells beside the bar of an epoch the loss, its parts, the accuracy and the time left of the whole training."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._time = TimeLeft()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start measuring the time."""
        super().on_train_start(trainer, pl_module)
        self._time.begin(trainer)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Show the loss parts that were read last: nothing waits for a GPU."""
        shown: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        shown.pop("v_num", None)
        shown |= {name: f"{value:.3f}" for name, value in getattr(pl_module, "latest", {}).items()}
        shown |= {name: f"{accuracy:.1f}" for name, accuracy in followed(trainer).items()}
        left = self._time.of(trainer)
        return shown | ({"left": left} if left else {})


def followed(trainer: pl.Trainer) -> dict[str, float]:
    """Give the accuracy that the selection follows, under its name, once there is one."""
    found = {name: trainer.callback_metrics.get(name) for name in ("val/acc", "test/acc")}
    return {name: float(accuracy) for name, accuracy in found.items() if accuracy is not None}


def _epoch(trainer: pl.Trainer) -> str:
    """Count epochs as the log and the tables do: "epoch 1 of 40"."""
    limit = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f" of {limit}" if limit is not None and limit > 0 else "")


class _Name(ProgressColumn):
    """Calls the bar of an epoch by its number from 1, where Lightning counts from 0."""

    def __init__(self, trainer: pl.Trainer) -> None:
        super().__init__()
        self._trainer = trainer

    def render(self, task: Task) -> Text:
        """Leave the names of other bars, such as that of the validation."""
        return Text(_epoch(self._trainer) if task.description.startswith("Epoch ") else task.description)


class LiveBar(_Telling, RichProgressBar):
    """Rich's progress bar, on a terminal; narrow, so that 80 columns have room for the losses."""

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Show epoch, bar and batches; the time left is that of the whole training, beside the losses."""
        return [_Name(trainer), BarColumn(bar_width=10), MofNCompleteColumn()]


class NotebookBar(_Telling, TQDMProgressBar):
    """The bar of tqdm, which a notebook shows with and without its widgets; rich's needs them."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Call the epoch by its number from 1; Lightning counts from 0."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(_epoch(trainer))


class EpochLines(Callback):
    """A line of the log per epoch, at most one every few seconds, with the time left.

    Args:
        seconds: The least time between two lines.
        aloud: Whether a terminal shows it too, where a bar says the same.
    """

    def __init__(self, seconds: float = 10.0, aloud: bool = True) -> None:
        self._seconds, self._last, self._aloud = seconds, time.monotonic(), aloud
        self._time = TimeLeft()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start measuring the time."""
        self._time.begin(trainer)
        if not self._aloud:
            for handler in logging.getLogger().handlers:
                handler.addFilter(_is_aloud)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log epoch, losses, accuracy and time left."""
        now, final = time.monotonic(), trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.is_global_zero or (now - self._last < self._seconds and not final):
            return
        self._last = now
        latest: dict[str, float] = getattr(pl_module, "latest", {})
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in latest.items())
        tail = "".join(f"  {name} {accuracy:.1f}" for name, accuracy in followed(trainer).items())
        left = "" if final else self._time.of(trainer)
        log.info(
            "epoch %d of %s  %s%s%s",
            *(trainer.current_epoch + 1, trainer.max_epochs, numbers, tail, f"  {left} left" if left else ""),
            extra={"aloud": self._aloud},
        )


def _is_aloud(record: logging.LogRecord) -> bool:
    return bool(getattr(record, "aloud", True))


def progress_callbacks() -> list[Callback]:
    """Make the callbacks that show progress: the line about the machine, and a bar on a terminal or in a notebook.

    Elsewhere there are lines alone.
    """
    if sys.stdout.isatty():
        return [MachineLine(), LiveBar(leave=False), EpochLines(aloud=False)]
    if Console().is_jupyter:
        return [MachineLine(), NotebookBar(), EpochLines(aloud=False)]
    return [MachineLine(), EpochLines()]
