"""What a teacher says of the images of a training, as fast as the machine allows."""

from pathlib import Path

import torch
from torch import Tensor

from tser_lightning.data.batch import Batch
from tser_lightning.data.image_data import ImageData
from tser_lightning.models.memory_format import lay_out
from tser_lightning.training.inference import for_inference
from tser_lightning.training.logit_cache import LogitCache, checksums, key_of
from tser_lightning.training.speed import compiled
from tser_lightning.training.teacher import Teacher


class Answers:
    """Asks a teacher, or a file where the same question was answered before.

    Args:
        teacher: Frozen; it is left as it is.
        shape: [C, H, W] of an image.
        cache: Where answers are kept; None to ask every time.
        compile: How the teacher is compiled; see `compiled`.
        channels_last: How its maps lie in memory; see `lay_out`.
    """

    def __init__(
        self,
        teacher: Teacher,
        shape: tuple[int, int, int],
        cache: LogitCache | None = None,
        compile: bool | str = False,
        channels_last: bool = True,
    ) -> None:
        device = next(teacher.parameters(), torch.empty(0)).device
        self._images_BCHW = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        self._fast = Teacher(for_inference(teacher.net, self._images_BCHW, channels_last))
        self._ask = compiled(self._fast, compile)
        self.cache, self._channels_last = cache, channels_last

    def to(self, device: torch.device) -> None:
        """Go to a device."""
        self._fast.to(device)
        lay_out(self._fast, self._images_BCHW.to(device), device, self._channels_last)

    def __call__(self, batch: Batch, epoch: int) -> Tensor:
        """Logits [B, C] for a batch of an epoch."""
        if self.cache is not None:
            return self.cache(batch, epoch, self._ask)
        logits_BC: Tensor = self._ask(batch.images)
        return logits_BC

    def report(self) -> None:
        """Say what the cache was worth, if there is one."""
        if self.cache is not None:
            self.cache.report()


_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}


def cache_for(
    teacher: Teacher, data: ImageData, seed: int, epochs: int, folder: Path, precision: str = "32-true"
) -> LogitCache | None:
    """Make the cache of a training.

    The name of its file holds the teacher (its weights, the modules that compute with them, their precision), the data,
    what is done to an image (the settings, and how the first ones look after it), and the seed.

    Args:
        teacher: Who answers.
        data: What is asked about.
        seed: Of order and augmentation.
        epochs: Epochs whose answers are kept; 0 for none.
        folder: Where the file lies.
        precision: In which the teacher will be asked; Lightning's name.
    """
    if not epochs:
        return None
    first: Batch = next(iter(data.loader("train", seed=seed)))
    views = [first.indices.tolist(), checksums(first.images).tolist()]
    settings = {"data": data.fingerprint(), "seed": seed, "transform": data.transform(), "views": views}
    key = key_of(teacher.net, net=repr(teacher.net), precision=precision, **settings)
    dtype = _DTYPES.get(precision.partition("-")[0], torch.float32)
    return LogitCache(folder, key, epochs, int(data.indices("train").max()) + 1, data.num_classes, dtype)
