"""Image sets that fit into memory as uint8."""

import hashlib
from abc import abstractmethod
from functools import cached_property

from torch import Tensor

from tser_lightning.data.checks import check_fit
from tser_lightning.data.image_data import ImageData, Part


class ArrayData(ImageData):
    """A set whose images lie in four tensors; a batch is one gather, without a loop over images.

    A new set of this kind gives `name` and `arrays`.
    """

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Give (C, H, W) of the tensors, which may hold more in an image than a network sees at one step."""
        return self.shape

    @abstractmethod
    def arrays(self) -> dict[str, Tensor]:
        """Give train_images, test_images uint8 [N,H,W,C] and train_labels, test_labels int64 [N]; called once."""

    @cached_property
    def _arrays(self) -> dict[str, Tensor]:
        arrays = self.arrays()
        height, width, channels = arrays["train_images"].shape[1:]
        classes = len(self.classes) if self.classes else int(arrays["train_labels"].max()) + 1
        check_fit(self.name, classes, (channels, height, width), self.num_classes, self.stored_shape)
        return arrays

    def labels(self, part: Part) -> Tensor:
        """Give the classes of all images of a part, int64 [N]."""
        return self._arrays[f"{part}_labels"]

    def read(self, part: Part, indices_B: Tensor, keys_B: Tensor | None) -> Tensor:
        """Gather raw images, uint8 [B,C,H,W]."""
        return self._arrays[f"{part}_images"].index_select(0, indices_B).permute(0, 3, 1, 2)

    def fingerprint(self) -> str:
        """Hash the four tensors with SHA-256."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self._arrays.items()):
            digest.update(f"{name} {list(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def prepare(self) -> str:
        """Say that there is nothing to prepare."""
        self.check()
        return f"{self.name} needs no preparation"
