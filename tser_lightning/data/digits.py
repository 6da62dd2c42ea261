"""Handwritten digits that come with scikit-learn: real, small, no download."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from tser_lightning.data.array_data import ArrayData
from tser_lightning.data.split import stratified

_TEST_IMAGES = 360


class Digits(ArrayData):
    """1797 images of 8x8 grey pixels, the test part of the UCI set "Optical recognition of handwritten digits".

    The set has no split of its own: 360 images, a fifth of each class, are the test part by the fixed rule of
    `split.stratified`, the other 1437 the training part. Pixels are counts of 0 to 16 and are scaled to 0 to 255.

    Examples:
        >>> images = Digits(10, [1, 8, 8], mean=[0.3], std=[0.4])
        >>> len(images.indices("train")), len(images.indices("val")), len(images.indices("test"))
        (1293, 144, 360)
    """

    name = "digits"
    classes = tuple("0123456789")

    def arrays(self) -> dict[str, Tensor]:
        """Read scikit-learn's arrays and cut off the test part."""
        found = load_digits()
        images = torch.from_numpy(found.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(-1)
        labels = torch.from_numpy(found.target).long()
        test = stratified(labels, _TEST_IMAGES)
        parts = {"train": ~test, "test": test}
        return {f"{part}_images": images[mask] for part, mask in parts.items()} | {
            f"{part}_labels": labels[mask] for part, mask in parts.items()
        }
