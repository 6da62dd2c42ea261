"""Random images, for tests and benchmarks alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tser_lightning.data.array_data import ArrayData


class Synthetic(ArrayData):
    """Uniform noise of the settings' shape with labels that mean nothing: nothing can be learnt from it.

    Args:
        num_classes: Number of classes; labels go round them.
        shape: (C, H, W) of an image.
        train_images: Number of training images.
        test_images: Number of test images.
        settings: Those of `ImageData` but for `mean` and `std`.

    Examples:
        >>> images = Synthetic(10, [3, 32, 32], train_images=40, test_images=20)
        >>> images.labels("test").tolist()[:3], len(images.indices("val"))
        ([0, 1, 2], 4)
    """

    name = "synthetic"

    def __init__(
        self, num_classes: int, shape: Sequence[int], *, train_images: int, test_images: int, **settings: Any
    ) -> None:
        channels = shape[0]
        super().__init__(num_classes, shape, mean=[0.5] * channels, std=[0.2887] * channels, **settings)
        self.classes = tuple(str(label) for label in range(num_classes))
        self._sizes = {"train": train_images, "test": test_images}

    def arrays(self) -> dict[str, Tensor]:
        """Draw the images from a generator with a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        C, H, W = self.shape
        arrays = {}
        for part, size in self._sizes.items():
            arrays[f"{part}_images"] = torch.randint(256, (size, H, W, C), dtype=torch.uint8, generator=generator)
            arrays[f"{part}_labels"] = torch.arange(size) % self.num_classes
        return arrays
