"""Sets in one prepared .safetensors file."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from tser_lightning.atomic_io import write_bytes
from tser_lightning.data.array_checks import NAMES, PARTS, Stored, check_arrays
from tser_lightning.data.array_data import ArrayData
from tser_lightning.data.checks import FACTS, check_prepared, prepared_facts

log = logging.getLogger("tser_lightning")


class Prepared(ArrayData):
    """Any set in the prepared form, by path; it is read memory-mapped.

    The file holds train_images, test_images [N,H,W,C] uint8 and train_labels, test_labels [N] int64 with labels from 0;
    `write_prepared` writes it. It is found by its path, so results name it after the file.

    Args:
        path: The .safetensors file.
        settings: Those of `ImageData`. `num_classes`, `shape`, `mean` and `std` are those of the file where they are
            not given; the first two have to agree with it.

    Raises:
        UsageError: Something is not given, and the file that would say it cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from tser_lightning.data import write_prepared
        >>> images, labels = torch.randint(256, (20, 8, 8, 1), dtype=torch.uint8), torch.arange(20) % 2
        >>> arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
        >>> with TemporaryDirectory() as folder:
        ...     write_prepared(Path(folder, "mine.safetensors"), arrays, classes=["cat", "dog"])
        ...     mine = Prepared(Path(folder, "mine.safetensors"), mean=[0.5], std=[0.5])
        ...     names, shape = mine.labels("test").unique().tolist(), mine.shape
        >>> mine.name, shape, names
        ('mine', (1, 8, 8), [0, 1])
    """

    def __init__(self, path: str | Path, **settings: Any) -> None:
        super().__init__(**settings if settings.keys() >= set(FACTS) else prepared_facts(Path(path)) | settings)
        self.path = Path(path)
        self.name = self.path.stem

    def check(self) -> None:
        """Raise a `UsageError` if the file is missing or damaged, or does not fit the settings."""
        check_prepared(self.path, self.num_classes, self.stored_shape)

    def arrays(self) -> dict[str, Tensor]:
        """Map the file into memory."""
        self.check()
        with safe_open(self.path, framework="pt") as file:
            names = (file.metadata() or {}).get("classes")
            self.classes = tuple(json.loads(names)) if names else None
            return {name: file.get_tensor(name) for name in NAMES}

    def prepare(self) -> str:
        """Check the file, which is the user's own."""
        self.check()
        return f"{self.path} is in the prepared form"


def write_prepared(path: str | Path, arrays: Mapping[str, Any], classes: Sequence[str] | None = None) -> None:
    """Write a prepared file so that it is there either whole or not at all.

    What a training would refuse is refused. Labels of other kinds of whole numbers are written as int64, which is said.

    Args:
        path: The file; its folder is made.
        arrays: train_images, test_images uint8 [N,H,W,C], train_labels, test_labels whole numbers [N] from 0; of torch
            or NumPy, on any device, in any order in memory.
        classes: Names of the classes; they make room for classes that have no images.

    Raises:
        UsageError: The arrays are not so; its last line is Python that makes them so, where anything does.
        RunError: The disk is full, failing or not ours.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from tser_lightning.data import Prepared
        >>> images, labels = torch.randint(256, (20, 8, 8, 1), dtype=torch.uint8), torch.arange(20) % 2
        >>> arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
        >>> with TemporaryDirectory() as folder:
        ...     write_prepared(Path(folder, "mine.safetensors"), arrays, classes=["cat", "dog"])
        ...     mine = Prepared(Path(folder, "mine.safetensors"), mean=[0.5], std=[0.5])
        ...     names, shape = mine.labels("test").unique().tolist(), mine.shape
        >>> mine.name, shape, names
        ('mine', (1, 8, 8), [0, 1])
    """
    names = None if classes is None else [str(name) for name in classes]
    found = {str(name): _as_numpy(array) for name, array in arrays.items()}
    for name in found.keys() & {f"{part}_labels" for part in PARTS}:
        if found[name].dtype.kind in "iub" and found[name].dtype != np.int64:
            log.warning("%s are %s: written as int64", name, found[name].dtype)
            found[name] = found[name].astype(np.int64)
    check_arrays({name: _stored(name, arrays[name], array) for name, array in found.items()}, names)
    for part in PARTS:
        if found[f"{part}_images"].max() <= 1:
            log.warning("%s_images go from 0 to 1 of 255: all but black, unless they are counts", part)
    if others := sorted(found.keys() - set(NAMES)):
        log.warning("not written: %s; a set is %s", ", ".join(others), ", ".join(NAMES))
    metadata = {"classes": json.dumps(names)} if names else None
    write_bytes(path, save({name: np.ascontiguousarray(found[name]) for name in NAMES}, metadata))


def _as_numpy(array: Any) -> NDArray[Any]:
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        return np.asarray(array.float() if array.dtype == torch.bfloat16 else array)
    found = np.asarray(array)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _stored(name: str, given: Any, array: NDArray[Any]) -> Stored:
    source = f"arrays[{name!r}]"
    if isinstance(given, Tensor):
        plain = given.device.type == "cpu" and not given.requires_grad and given.dtype != torch.bfloat16
        source += ".numpy()" if plain else ".detach().cpu().float().numpy()"
    elif not isinstance(given, np.ndarray):
        source = f"np.asarray({source})"
    return Stored(array.dtype.name, array.shape, lambda: array, source)
