"""What is kept of a training: checkpoints to resume from, and the student alone."""

import hashlib
import io
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tser_lightning.atomic_io import write_bytes, write_json
from tser_lightning.errors import RunError
from tser_lightning.training.ema import EMA

log = logging.getLogger("tser_lightning")

LAST, PREVIOUS, BEST = "last.ckpt", "last.previous.ckpt", "best.ckpt"
_DIGITS = 64  # of a SHA-256 in hexadecimal


def sealed(content: Any) -> bytes:
    """Give the bytes of a torch file with its SHA-256 as the comment of the zip archive that it is.

    `torch.load` reads it like any other.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()[:-2]  # an archive without a comment ends with its length: two zero bytes
    return body + _DIGITS.to_bytes(2, "little") + hashlib.sha256(body).hexdigest().encode()


def read_sealed(path: Path) -> Any:
    """Read a file that `sealed` made, without running any code in it.

    Raises:
        RunError: A file that is missing, cut off, changed, or holds more than tensors and plain containers.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    end = len(data) - _DIGITS
    body = data[: max(0, end - 2)]
    if data[end - 2 :] != _DIGITS.to_bytes(2, "little") + hashlib.sha256(body).hexdigest().encode():
        raise _damaged(path, f"its {len(data)} bytes do not have the checksum that they were written with")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's own errors have no common base
        raise _damaged(path, str(error).partition("\n")[0][:160]) from error


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        what=f"the checkpoint {path} is damaged: {reason}",
        why="it was cut off or changed after it had been written, or another program wrote it",
        fix="a copy of it, or force=true to begin again",
    )


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files: each whole or not there, with a checksum, and read without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint durably: beside the target, flushed, read back, renamed; keep the old one."""
        path = Path(path)
        write_bytes(path, sealed(checkpoint), keep=path.with_name(PREVIOUS) if path.name == LAST else None)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint after a check of its checksum, without running any code in it (`weights_only`)."""
        checkpoint: dict[str, Any] = read_sealed(Path(path))
        return checkpoint


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Find the checkpoint to resume from: the last one, or the one before where that is missing or damaged.

    Returns:
        `last.ckpt`; None if there is no good checkpoint, so that the training begins at its beginning.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    for path in (last, previous):
        if not path.exists():
            continue
        try:
            read_sealed(path)
        except RunError as damage:
            log.warning("%s: it is not used", damage.what)
            continue
        if path == previous:
            log.warning("resuming from the checkpoint before it, %s", previous)
            os.replace(previous, last)  # or the damaged one would become the previous one at the next save
        return last
    if last.exists() or previous.exists():
        log.warning("no good checkpoint is left in %s: the training begins again", folder)
    return None


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` to resume from, the one before, and the best student.

    The best student is part of `last.ckpt` too: what a run has chosen so far and where it stands are one file, which
    no kill can tear apart. `best.ckpt` is there for other programs.

    Args:
        folder: Folder of the checkpoints.
        followed: Name of the measure whose largest value is best, e.g. "val/acc"; None to take the last epoch.
        every: Optimiser steps between two checkpoints within an epoch; None for one after each epoch alone.
    """

    def __init__(self, folder: Path, followed: str | None, every: int | None = None) -> None:
        self.folder, self.followed, self.every = folder, followed, every
        self.score: float | None = None
        self.best: dict[str, Tensor] | None = None
        self.seconds = 0.0
        self._since = time.monotonic()
        self._saved = -1

    @property
    def state_key(self) -> str:
        """Give the key of this callback's state in a checkpoint."""
        return "checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """Give the best student so far and the seconds that the training took."""
        seconds = self.seconds + time.monotonic() - self._since
        return {"score": self.score, "best": self.best, "seconds": seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best student so far and the seconds."""
        self.score, self.best, self.seconds = state_dict["score"], state_dict["best"], state_dict["seconds"]

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Let the last epoch be validated, whether or not `validate_every` divides it."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Save every so many steps, and when the process is told to end."""
        if trainer.is_last_batch:
            return  # the epoch's own checkpoint is next, after its validation
        step = trainer.global_step
        due = self.every is not None and step % self.every == 0 and step != self._saved
        if due or trainer.received_sigterm:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the student if none before was better; of equals the last, whose learning rate was lower."""
        assert self.followed is not None  # nothing is validated otherwise
        score = float(trainer.callback_metrics[self.followed])
        if self.score is not None and score < self.score:
            return
        self.score, self.best = score, _measured(trainer, pl_module)
        if trainer.is_global_zero:
            state = {f"student.{name}": value for name, value in self.best.items()}
            content = {"state_dict": state, "epoch": trainer.current_epoch, self.followed: score}
            write_bytes(self.folder / BEST, sealed(content))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after every epoch."""
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(self.folder / LAST)


def _measured(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Copy the student that was validated: the average, where there is one."""
    averages = [callback.network for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    state = averages[0] if averages else _student_part(pl_module.state_dict())
    return {name: _whole(value.detach()).cpu().clone() for name, value in state.items()}


def _student_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("student."): value for name, value in state.items() if name.startswith("student.")}


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def load_chosen(student: nn.Module, folder: Path) -> float:
    """Put the chosen student of a finished training into a student.

    Returns:
        The seconds that the training took, all its processes one after the other together.

    Raises:
        RunError: The checkpoint is damaged.
    """
    checkpoint = read_sealed(folder / LAST)
    state = checkpoint["callbacks"]["checkpoints"]
    last = checkpoint["average"]["network"] if "average" in checkpoint else _student_part(checkpoint["state_dict"])
    student.load_state_dict(state["best"] or last)
    return float(state["seconds"])


def save_network(network: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Write weights as safetensors and what they belong to as JSON beside.

    Args:
        network: Student or teacher; loss parameters are none of its own.
        path: `NAME.safetensors`; the card becomes `NAME.json`.
        card: Architecture, classes, input, normalisation: what is needed to build the network again. The SHA-256 of
            the weights is added.

    Raises:
        RunError: The disk is full, failing or not ours.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from torch import nn
        >>> from tser_lightning.training import load_weights
        >>> with TemporaryDirectory() as folder:
        ...     save_network(nn.Linear(4, 2), Path(folder, "net.safetensors"), {"classes": ["cat", "dog"]})
        ...     written = sorted(file.name for file in Path(folder).iterdir())
        ...     load_weights(nn.Linear(4, 2), Path(folder, "net.safetensors"))
        >>> written
        ['net.json', 'net.safetensors']
    """
    weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    write_json(path.with_suffix(".json"), {**card, "sha256": hashlib.sha256(weights).hexdigest()})
    write_bytes(path, weights)
