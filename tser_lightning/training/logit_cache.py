"""The teacher's answers, kept on disk between epochs and runs.

A sweep asks the same teacher the same questions in every run: order and augmentation are functions of (seed, epoch,
image). So the logits of the first K epochs can be kept, and those of all epochs where nothing is augmented. That an
answer belongs to its question is not assumed but checked: each row carries a checksum of the very image that was asked
and of the logits that came out, so that a row that is stale, damaged, half written or of other images is not used.

Legend: K epochs kept, N images of the training set, B image of a batch, C class.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch

log = logging.getLogger("tser_lightning")


class LogitCache:
    """Rows of float32 logits [K, N, C] in a memory-mapped file, with a checksum [K, N] for each.

    Args:
        folder: Where it lies; made if need be.
        key: What the file name is made from: the teacher, the data and how they are shown; see `key_of`.
        epochs: K.
        images: N.
        classes: C.

    Attributes:
        hits: Images that were answered from the file.
        misses: Images that the teacher was asked about.
    """

    def __init__(self, folder: Path, key: str, epochs: int, images: int, classes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{key[:16]}-{epochs}x{images}x{classes}"
        self._logits = _mapped(path.with_suffix(".logits"), np.float32, (epochs, images, classes))
        self._sums = _mapped(path.with_suffix(".sums"), np.int64, (epochs, images))
        self.epochs, self.hits, self.misses = epochs, 0, 0

    def __call__(self, batch: Batch, epoch: int, teacher: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [B, C] of the teacher for a batch of an epoch, from the file if all its images are there."""
        questions_B = checksums(batch.images)
        rows = batch.indices.cpu().numpy()
        for slot in {min(epoch, self.epochs - 1), 0}:  # in slot 0 are the answers for images that never change
            logits_BC = torch.from_numpy(self._logits[slot, rows])
            if np.array_equal(self._sums[slot, rows], (questions_B ^ checksums(logits_BC)).numpy()):
                self.hits += len(rows)
                return logits_BC.to(batch.images.device, non_blocking=True)
        self.misses += len(rows)
        live_BC: Tensor = teacher(batch.images)
        if epoch < self.epochs:
            kept_BC = live_BC.detach().float().cpu()
            self._logits[epoch, rows] = kept_BC.numpy()
            self._sums[epoch, rows] = (questions_B ^ checksums(kept_BC)).numpy()
        return live_BC


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Open a file of that very size, or make one of zeros, whose pages take no room on the disk until written."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.exists() and path.stat().st_size != size:
        log.warning("%s has %d bytes in place of %d: it is made anew", path, path.stat().st_size, size)
        path.unlink()
    if not path.exists():
        with path.open("ab") as file:
            file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def checksums(rows_BD: Tensor) -> Tensor:
    """A checksum of every row's bits, int64 [B], never 0: a sum weighted by position, so that order counts."""
    bits_BD = rows_BD.detach().float().flatten(1).contiguous().view(torch.int32).long()
    places_D = torch.arange(bits_BD.shape[1], device=bits_BD.device) * 2654435761 + 97
    sums_B = (bits_BD * places_D).sum(1) * 6364136223846793005 + 1442695040888963407
    return torch.where(sums_B == 0, 1, sums_B).cpu()


def key_of(teacher: nn.Module, **settings: Any) -> str:
    """Hash a teacher's weights and what else decides about its answers, as hex."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(teacher.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
