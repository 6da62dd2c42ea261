"""The teacher's logits, cached on disk between epochs and runs.

In a sweep every run of a seed shows the teacher the same images: order and augmentation are functions of (seed, epoch,
image). So the logits of the first K epochs can be kept, and those of all epochs where nothing is augmented. That logits
belong to their image is not assumed but checked: each row carries a checksum of the image and of the logits, so that a
row that is stale, damaged, half written or of other images is not used, and the first logits that a run reads are
computed too and compared.

Logits are kept exactly: in the 16 bits that a teacher computes in under mixed precision, else in float32. To round
them to 16 bits would be no rounding for a student: spikes flip, and its loss was 5e-3 away after five epochs.

Legend: K epochs kept, N images of the training set, B image of a batch, C class.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch

log = logging.getLogger("tser_lightning")

Ask = Callable[[Tensor], Tensor]  # images to logits_BC
_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes -> whole number


class LogitCache:
    """Rows of logits [K, N, C] in a memory-mapped file, with a checksum [K, N] for each.

    Args:
        folder: Folder of the file; made if need be.
        key: What the file name is made from: the teacher, the data and how they are shown; see `key_of`.
        epochs: K, epochs that are kept.
        images: N, images of the training set.
        classes: C of the logits.
        dtype: What logits are kept in; those that it does not hold exactly are not kept.

    Attributes:
        hits: Images whose logits were read from the file.
        misses: Images whose logits the teacher computed.
        refused: Of the misses, images whose row in the file did not fit them.
    """

    def __init__(
        self, folder: Path, key: str, epochs: int, images: int, classes: int, dtype: torch.dtype = torch.float32
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{key[:16]}-{epochs}x{images}x{classes}"
        self._dtype, size = dtype, dtype.itemsize
        # As whole numbers of that size: NumPy has no bfloat16.
        self._logits = _mapped(self.path.with_suffix(".logits"), np.dtype(f"i{size}"), (epochs, images, classes))
        self._sums = _mapped(self.path.with_suffix(".sums"), np.int64, (epochs, images))
        self.epochs, self.hits, self.misses, self.refused = epochs, 0, 0, 0
        self._times: dict[str, list[float]] = {"read": [], "computed": []}
        self._trusted = False

    def __call__(self, batch: Batch, epoch: int, teacher: Ask) -> Tensor:
        """Give the teacher's logits [B, C] for a batch of an epoch, from the file if all its images are there."""
        begin = time.perf_counter()
        questions_B = checksums(batch.images)
        rows = batch.indices.cpu().numpy()
        found_BC = self._find(questions_B, rows, epoch)
        if found_BC is not None:
            found_BC = found_BC.to(batch.images.device, non_blocking=True)
            self._times["read"].append((time.perf_counter() - begin) / len(rows))
            if self._trusted or self._as_now(found_BC, batch, teacher):
                self.hits += len(rows)
                return found_BC
        self.misses += len(rows)
        begin = time.perf_counter()
        live_BC = teacher(batch.images)
        kept_BC = live_BC.detach().to(self._dtype).cpu()
        self._times["computed"].append((time.perf_counter() - begin) / len(rows))
        if epoch < self.epochs and torch.equal(kept_BC.to(live_BC.dtype), live_BC.cpu()):
            self._logits[epoch, rows] = kept_BC.view(_WHOLE[self._dtype.itemsize]).numpy()
            self._sums[epoch, rows] = (questions_B ^ checksums(kept_BC)).numpy()
        return live_BC

    def _find(self, questions_B: Tensor, rows: Any, epoch: int) -> Tensor | None:
        for slot in {min(epoch, self.epochs - 1), 0}:  # in slot 0 are the answers for images that never change
            kept_BC = torch.from_numpy(self._logits[slot, rows]).view(self._dtype)
            sums_B = self._sums[slot, rows]
            right_B = sums_B == (questions_B ^ checksums(kept_BC)).numpy()
            if right_B.all():
                return kept_BC
            if slot == epoch:
                self._refuse(int(((sums_B != 0) & ~right_B).sum()), "does not have its checksum")
        return None

    def _as_now(self, found_BC: Tensor, batch: Batch, teacher: Ask) -> bool:
        """Tell whether the teacher still gives the logits in the file, by one comparison."""
        begin = time.perf_counter()
        live_BC, found_BC = teacher(batch.images).double(), found_BC.double()
        # Not to the last bit: another device or batch size adds in another order.
        self._trusted = bool((live_BC - found_BC).abs().max() <= 0.02 * live_BC.abs().max())
        self._times["computed"].append((time.perf_counter() - begin) / len(batch.indices))
        if not self._trusted:
            self._refuse(len(batch.indices), "is not what the teacher says today")
        return self._trusted

    def _refuse(self, images: int, reason: str) -> None:
        if images and not self.refused:
            log.warning("%s.logits: what it holds for an image %s; the teacher is asked again", self.path, reason)
        self.refused += images

    @property
    def seconds(self) -> dict[str, float]:
        """Give the median seconds for an image, "read" and "computed", of those that happened."""
        return {name: float(np.median(times)) for name, times in self._times.items() if times}

    def report(self) -> None:
        """Say how many logits were read in place of computed, and what time that saved."""
        times = self.seconds
        each = "".join(f", {1e3 * seconds:.3f} ms an image {name}" for name, seconds in times.items())
        saved = self.hits * (times.get("computed", 0.0) - times.get("read", 0.0)) if self.hits else 0.0
        refused = f" ({self.refused} refused)" if self.refused else ""
        log.info(
            "teacher's logits: %d of %d read, the others computed%s%s: %.1f s saved",
            self.hits,
            self.hits + self.misses,
            refused,
            each,
            saved,
        )


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
    """Compute a checksum of every row's bits, int64 [B], never 0: a sum weighted by position, so that order counts."""
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
