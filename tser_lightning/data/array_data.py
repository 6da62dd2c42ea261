"""Image sets that fit into memory as uint8."""

import hashlib
from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from tser_lightning.data.array_checks import Stored, check_arrays
from tser_lightning.data.checks import check_fit
from tser_lightning.data.image_data import ImageData, Part


class ArrayData(ImageData):
    """A set whose images lie in four tensors; a batch is one gather, without a loop over images.

    A new set of this kind gives `name` and `arrays`; its settings are those of `ImageData`.

    Examples:
        >>> import torch
        >>> class Grey(ArrayData):
        ...     name = "grey"
        ...
        ...     def arrays(self):
        ...         images, labels = torch.full((20, 8, 8, 1), 51, dtype=torch.uint8), torch.arange(20) % 2
        ...         parts = {"images": images, "labels": labels}
        ...         return {f"{part}_{name}": parts[name] for part in ("train", "test") for name in parts}
        >>> images = Grey(2, [1, 8, 8], mean=[0.0], std=[1.0])
        >>> round(next(iter(images.loader("test"))).images.mean().item(), 4)  # 51 / 255
        0.2
    """

    in_memory = True

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
        stored = {
            name: Stored(
                str(array.dtype).removeprefix("torch."), tuple(array.shape), array.numpy, f"arrays[{name!r}].numpy()"
            )
            for name, array in arrays.items()
        }
        classes, shape = check_arrays(stored, self.classes, self.stored_shape)
        check_fit(self.name, classes, shape, self.num_classes, self.stored_shape)
        return arrays

    def labels(self, part: Part) -> Tensor:
        """Give the classes of all images of a part, int64 [N]."""
        return self._arrays[f"{part}_labels"]

    def read(self, part: Part, indices_B: Tensor, keys_B: Tensor | None) -> Tensor:
        """Gather raw images, uint8 [B,C,H,W], on the device of the indices."""
        return self._images(part, indices_B.device).index_select(0, indices_B).permute(0, 3, 1, 2)

    def _images(self, part: Part, device: torch.device) -> Tensor:
        """All images of a part; they go to a device once and stay there."""
        images = self._arrays[f"{part}_images"]
        if device == images.device:
            return images
        if (part, device) not in self._copies:
            self._copies[part, device] = images.to(device)
        return self._copies[part, device]

    @cached_property
    def _copies(self) -> dict[tuple[Part, torch.device], Tensor]:
        return {}

    def fits(self, device: torch.device) -> bool:
        """Tell whether the images are on a GPU, or take no more than a quarter of the memory that is free there."""
        if device.type != "cuda":
            return False
        size = sum(self._arrays[f"{part}_images"].nbytes for part in ("train", "test"))
        return any(place == device for _, place in self._copies) or 4 * size <= torch.cuda.mem_get_info(device)[0]

    def fingerprint(self) -> str:
        """Hash the four tensors with SHA-256."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._hash("")

    def fingerprints(self) -> dict[Part, str]:
        """Hash the two tensors of each part with SHA-256."""
        return {"train": self._hash("train"), "test": self._hash("test")}

    def _hash(self, start: str) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self._arrays.items()):
            if name.startswith(start):
                digest.update(f"{name} {list(tensor.shape)} ".encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def prepare(self) -> str:
        """Say that there is nothing to prepare."""
        self.check()
        return f"{self.name} needs no preparation"
