"""What is kept of a training: checkpoints to go on from, and the student alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from safetensors.torch import save_file
from torch import nn

from tser_lightning.durable import replacing, write_json


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, each whole or not there, and read without running any code in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the target, flush to the disk, rename."""
        with replacing(path) as beside:
            torch.save(checkpoint, beside)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read under `weights_only`."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return checkpoint


def checkpoint_callbacks(folder: Path, followed: str | None) -> list[ModelCheckpoint]:
    """Keep `last.ckpt` after every epoch and, where a measure is followed, `best.ckpt`.

    Args:
        folder: Where they lie.
        followed: Name of the measure whose largest value is best, e.g. "val/acc".
    """
    last = ModelCheckpoint(
        folder, filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    if followed is None:
        return [last]
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor=followed,
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return [best, last]


def load_student_state(student: nn.Module, checkpoint: Path) -> None:
    """Put the student's part of a checkpoint into a student."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix("student."): value for name, value in state.items() if name.startswith("student.")}
    student.load_state_dict(own)


def save_network(network: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Write weights as safetensors and what they belong to as JSON beside.

    Args:
        network: Student or teacher; loss parameters are none of its own.
        path: `NAME.safetensors`; the card becomes `NAME.json`.
        card: Architecture, classes, input, normalisation: what is needed to build the network again.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as beside:
        save_file(state, beside)
    write_json(path.with_suffix(".json"), card)
