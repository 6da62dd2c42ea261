"""Sets in one prepared .safetensors file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tser_lightning.data.array_data import ArrayData
from tser_lightning.data.checks import check_prepared
from tser_lightning.durable import write_bytes


class Prepared(ArrayData):
    """Any set in the prepared form, by path; it is read memory-mapped.

    The file holds train_images, test_images [N,H,W,C] uint8 and train_labels, test_labels [N] int64 with labels from 0;
    `write_prepared` writes it. It is found by its path, so results name it after the file.

    Args:
        path: The file.
        settings: Those of `ImageData`.
    """

    def __init__(self, path: str | Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.path = Path(path)
        self.name = self.path.stem

    def check(self) -> None:
        """Raise a `Mistake` if the file is missing or damaged, or does not fit the settings."""
        check_prepared(self.path, self.num_classes, self.stored_shape)

    def arrays(self) -> dict[str, Tensor]:
        """Map the file into memory."""
        self.check()
        with safe_open(self.path, framework="pt") as file:
            names = (file.metadata() or {}).get("classes")
            self.classes = tuple(json.loads(names)) if names else None
            return {f"{part}_{kind}": file.get_tensor(f"{part}_{kind}") for part in _PARTS for kind in _KINDS}

    def prepare(self) -> str:
        """Check the file, which is the user's own."""
        self.check()
        return f"{self.path} is in the prepared form"


_PARTS, _KINDS = ("train", "test"), ("images", "labels")


def write_prepared(
    path: str | Path, arrays: Mapping[str, Tensor | np.ndarray[Any, Any]], classes: Sequence[str] | None = None
) -> None:
    """Write a prepared file so that it is there either whole or not at all.

    Args:
        path: The file; its folder is made.
        arrays: train_images, test_images uint8 [N,H,W,C], train_labels, test_labels int64 [N]; of torch or NumPy.
        classes: Names of the classes.

    Raises:
        Failure: The disk is full, failing or not ours.
    """
    metadata = {"classes": json.dumps(list(classes))} if classes else None
    write_bytes(path, save({name: torch.as_tensor(array).contiguous() for name, array in arrays.items()}, metadata))
