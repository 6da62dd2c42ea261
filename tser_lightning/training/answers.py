"""What a teacher says of the images of a training, as fast as the machine allows."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tser_lightning.data.batch import Batch
from tser_lightning.training.inference import for_inference
from tser_lightning.training.logit_cache import LogitCache, checksums, key_of
from tser_lightning.training.speed import compiled
from tser_lightning.training.teacher import Teacher

log = logging.getLogger("tser_lightning")


class Answers:
    """Asks a teacher, or a file where the same question was answered before.

    Args:
        teacher: Frozen; it is left as it is.
        shape: [C, H, W] of an image.
        cache: Where answers are kept; None to ask every time.
        compile: How the teacher is compiled; see `compiled`.
    """

    def __init__(
        self,
        teacher: Teacher,
        shape: tuple[int, int, int],
        cache: LogitCache | None = None,
        compile: bool | str = False,
    ) -> None:
        device = next(teacher.parameters(), torch.empty(0)).device
        images_BCHW = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        self._fast = Teacher(for_inference(teacher.net, images_BCHW))
        self._ask = compiled(self._fast, compile)
        self.cache = cache

    def to(self, device: torch.device) -> None:
        """Go to a device."""
        self._fast.to(device)

    def __call__(self, batch: Batch, epoch: int) -> Tensor:
        """Logits [B, C] for a batch of an epoch."""
        if self.cache is not None:
            return self.cache(batch, epoch, self._ask)
        logits_BC: Tensor = self._ask(batch.images)
        return logits_BC

    def report(self) -> None:
        """Say how often the teacher did not have to be asked."""
        if self.cache is not None:
            asked = self.cache.hits + self.cache.misses
            log.info("teacher's logits: %d of %d read, the others computed", self.cache.hits, asked)


def cache_for(teacher: Teacher, data: Any, seed: int, epochs: int, folder: Path) -> LogitCache | None:
    """Make the cache of a training.

    The name of its file holds the teacher's weights, the data, the seed and the look of the first augmented images.

    Args:
        teacher: Who answers.
        data: A set with `fingerprint()` and `indices("train")`.
        seed: Of order and augmentation.
        epochs: Epochs whose answers are kept; 0 for none.
        folder: Where the file lies.
    """
    if not epochs:
        return None
    first: Batch = next(iter(data.loader("train", seed=seed)))
    views = [first.indices.tolist(), checksums(first.images).tolist()]
    key = key_of(teacher.net, data=data.fingerprint(), seed=seed, views=views)
    return LogitCache(folder, key, epochs, int(data.indices("train").max()) + 1, data.num_classes)
