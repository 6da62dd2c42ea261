"""Small sets that torchvision can download."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tser_lightning.data.checks import check_prepared, prepared_path
from tser_lightning.data.prepared import Prepared, write_prepared
from tser_lightning.errors import UsageError

_CLASSES = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


class Downloaded(Prepared):
    """A set whose prepared file, root/name.safetensors, `prepare` builds from torchvision's download.

    Args:
        name: "fashion_mnist", "cifar10" or "cifar100".
        root: Folder of the prepared files and of torchvision's downloads.
        settings: Those of `ImageData`.

    Raises:
        ValueError: torchvision's download of this name is not known here.

    Examples:
        >>> images = Downloaded("cifar10", "data", num_classes=10, shape=[3, 32, 32], mean=[0.5] * 3, std=[0.25] * 3)
        >>> images.path.as_posix()  # `images.prepare()` downloads and writes it
        'data/cifar10.safetensors'
    """

    def __init__(self, name: str, root: str | Path, **settings: Any) -> None:
        if name not in _CLASSES:
            raise ValueError(f"name={name!r} is not one of {sorted(_CLASSES)}; `Prepared` reads any other set")
        super().__init__(prepared_path(root, name), **settings)

    def check(self) -> None:
        """Raise a `UsageError` if the prepared file is missing or damaged, or does not fit the settings."""
        check_prepared(self.path, self.num_classes, self.stored_shape, download=self.name)

    def prepare(self) -> str:
        """Download the set with a progress bar, unless its files are there, and write the prepared file.

        A good prepared file is left alone.

        Raises:
            UsageError: The download failed, or the result does not fit the settings.
        """
        try:
            self.check()
        except UsageError:
            arrays, classes = self._download()
            write_prepared(self.path, arrays, classes)
            self.check()
            return f"wrote {self.path}: {len(arrays['train_labels'])} + {len(arrays['test_labels'])} images"
        return f"{self.path} is ready"

    def _download(self) -> tuple[dict[str, Tensor], list[str]]:
        # Only this needs torchvision, which takes seconds to import.
        from torchvision import datasets

        torchvision_class = getattr(datasets, _CLASSES[self.name])
        try:
            return convert(torchvision_class, self.path.parent)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"{self.name} could not be downloaded into {self.path.parent}: {error}",
                "its server is out of reach, or the disk is full",
                f"the command again later, or put the files of torchvision's {torchvision_class.__name__} there",
            ) from error


def convert(torchvision_class: Any, root: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read one of torchvision's sets, downloading what is missing.

    Returns:
        The four tensors of the prepared form and the names of the classes.
    """
    arrays: dict[str, Tensor] = {}
    for part in ("train", "test"):
        found = torchvision_class(root, train=part == "train", download=True)
        images = torch.as_tensor(found.data)
        arrays[f"{part}_images"] = images if images.ndim == 4 else images.unsqueeze(-1)
        arrays[f"{part}_labels"] = torch.as_tensor(found.targets, dtype=torch.int64)
    return arrays, list(found.classes)
