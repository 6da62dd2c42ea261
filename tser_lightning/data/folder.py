"""Images in one folder per class, read from disk when they are needed."""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.augment import per_image
from tser_lightning.data.checks import check_folder, resize_for
from tser_lightning.data.folder_index import images_of
from tser_lightning.data.image_data import ImageData, Part
from tser_lightning.data.random_numbers import Stream
from tser_lightning.data.verification import VerifiedFile, contents
from tser_lightning.errors import UsageError

log = logging.getLogger("tser_lightning")

FOLDERS: dict[Part, str] = {"train": "train", "test": "val"}


class ImageFolder(ImageData):
    """Images in folders path/train/CLASS/* and path/val/CLASS/*, the layout of ImageNet.

    By ImageNet's convention val/ is the test split, because the labels of its test images are not public; the
    validation split is cut from train/.

    Args:
        path: The folder that holds train/ and val/.
        name: What results call the set.
        scale: Training images are a random rectangle of this share of the image, of a ratio from 3/4 to 4/3, resized
            to `shape` (Szegedy et al., "Going deeper with convolutions", 2015).
        resize: Evaluation images are resized to this length of the shorter side, then the centre is cut out. None:
            the larger side of `shape` by 0.875, which is 256 for 224.
        settings: Those of `ImageData`.

    Raises:
        ValueError: `resize` is below the size that is cut out.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for file in ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png"):
        ...         Path(folder, file).parent.mkdir(parents=True)
        ...         Image.new("RGB", (40, 30)).save(Path(folder, file))
        ...     images = ImageFolder(folder, num_classes=2, shape=[3, 16, 16], mean=[0.5] * 3, std=[0.5] * 3)
        ...     batch = next(iter(images.loader("test")))
        >>> batch.images.shape, images.classes
        (torch.Size([2, 3, 16, 16]), ('cat', 'dog'))
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str = "image_folder",
        scale: Sequence[float] = (0.08, 1.0),
        resize: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        size = self.shape[1:]
        resize = resize_for(max(size)) if resize is None else resize
        if resize > 2 * resize_for(max(size)):
            log.warning(
                "resize=%d is far above images of %s: evaluation sees their centre alone; resize=%d would "
                "keep most of it",
                resize,
                list(size),
                resize_for(max(size)),
            )
        if resize < max(size):
            raise ValueError(f"resize={resize} is below the size {list(size)} that is cut out of the resized image")
        self.path, self.name = Path(path), name
        self.scale, self.resize = list(scale), resize
        self._train_crop = v2.RandomResizedCrop(size, scale=tuple(scale))
        self._eval_crop = v2.Compose([v2.Resize(resize), v2.CenterCrop(size)])

    def transform(self) -> dict[str, Any]:
        """Give the settings that decide what a network sees of an image, but for the seed."""
        return super().transform() | {"scale": self.scale, "resize": self.resize}

    def check(self) -> None:
        """Raise a `UsageError` if a folder is missing or the classes do not fit."""
        check_folder(self.path, self.num_classes)

    @cached_property
    def _parts(self) -> dict[Part, tuple[list[str], Tensor]]:
        self.check()
        found = images_of(self.path, {str(part): folder for part, folder in FOLDERS.items()})
        self.classes = tuple(found["train"])
        return {
            part: (
                [f"{self.path}/{file}" for files in found[part].values() for file in files],
                torch.tensor([label for label, files in enumerate(found[part].values()) for _ in files]),
            )
            for part in FOLDERS
        }

    def labels(self, part: Part) -> Tensor:
        """Give the classes of all images of a part, int64 [N]; a class is its place among the sorted folder names."""
        return self._parts[part][1]

    def read(self, part: Part, indices_B: Tensor, keys_B: Tensor | None) -> Tensor:
        """Decode images and bring them to size, at random if there are keys; uint8 [B,C,H,W]."""
        indices = indices_B.tolist()
        if keys_B is None:
            return torch.stack([self._brought(self._eval_crop, part, index) for index in indices])
        return per_image(
            indices, keys_B, Stream.RESIZED_CROP, lambda index: self._brought(self._train_crop, part, index)
        )

    def _brought(self, to_size: Callable[[Image.Image], Image.Image], part: Part, index: int) -> Tensor:
        pixels: Tensor = v2.functional.pil_to_tensor(to_size(self._open(self.source(part, index))))
        return pixels

    def source(self, part: Part, index: int) -> str | BinaryIO:
        """Give an image's file."""
        return self._parts[part][0][index]

    def _open(self, file: str | BinaryIO) -> Image.Image:
        try:
            with Image.open(file) as image:
                return as_seen(image).convert("L" if self.shape[0] == 1 else "RGB")
        except Exception as error:  # whatever a decoder can say of a damaged file
            raise self._unreadable(file, error) from error

    def _unreadable(self, file: str | BinaryIO, error: Exception) -> UsageError:
        named = file if isinstance(file, str) else f"an image of {self.path}"
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, UnidentifiedImageError):
            reason = "its bytes are none of the formats that are read"
        if isinstance(error, Image.DecompressionBombError):
            return UsageError(f"{named} cannot be read: {reason}", "Pillow refuses such sizes", "a smaller copy of it")
        if isinstance(error, FileNotFoundError) and isinstance(file, str) and os.path.islink(file):
            return UsageError(
                f"{named} cannot be read: {reason}", "it is a link that leads nowhere", "the link removed"
            )
        if isinstance(error, PermissionError):
            return UsageError(
                f"{named} cannot be read: {reason}", "its file is not for this user", f"chmod u+r '{file}'"
            )
        if isinstance(error, UnknownRange):
            return UsageError(
                f"{named} cannot be read: {reason}",
                "nothing says which of them is white",
                "a copy of it in 8 or 16 bits",
            )
        return UsageError(
            f"{named} cannot be read: {reason}", "it is damaged or no image", "a good copy of it, or none"
        )

    def verify(self) -> None:
        """Decode every image once, so that damage shows before a training; unchanged ones are not decoded again.

        Raises:
            UsageError: One cannot be read; how many cannot is said.
        """
        _ = self._contents
        log.info(
            "%s: %d images of train/, %d of them held out for validation; val/ is the test split (%d images)",
            self.path,
            len(self.labels("train")),
            self._held_out.sum(),
            len(self.labels("test")),
        )

    @cached_property
    def _contents(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for part in FOLDERS:
            files, labels = self._parts[part]
            for file, label in zip(self._below(files), labels.tolist(), strict=True):
                found.setdefault(f"{part}/{(self.classes or ())[label]}", []).append(file)
        try:
            return contents(self.path, found, self._looked_at)
        except OSError as error:
            raise self._unreadable(str(error.filename), error) from error

    def _below(self, files: Iterable[str]) -> list[str]:
        start = len(str(self.path)) + 1  # text: a million paths are slow
        return [file[start:] for file in files]

    def _looked_at(self, file: str) -> VerifiedFile | UsageError:
        """Decode an image; give the reason if it cannot be decoded."""
        try:
            content = (self.path / file).read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                several = image.format in ("PNG", "TIFF", "WEBP") and bool(getattr(image, "is_animated", False))
                if image.format == "JPEG":
                    image.draft(None, (1, 1))  # reads all of the file and computes little
                as_seen(image).convert("L" if self.shape[0] == 1 else "RGB")
            return VerifiedFile(hashlib.sha256(content).hexdigest(), several)
        except Exception as error:  # whatever a decoder can say of a damaged file
            return self._unreadable(f"{self.path}/{file}", error)

    def fingerprint(self) -> str:
        """Hash the sorted names and sizes of all files with SHA-256: what names of trainings hold."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        files = sorted(file for part in FOLDERS for file in self._parts[part][0])
        try:
            lines = [f"{name} {os.stat(file).st_size}\n" for name, file in zip(self._below(files), files, strict=True)]
        except OSError as error:
            raise self._unreadable(str(error.filename), error) from error
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fingerprints(self) -> dict[Part, str]:
        """Hash the names and the bytes of the files of each part with SHA-256."""
        return {part: self._hash_of(part) for part in FOLDERS}

    def _hash_of(self, part: Part) -> str:
        found = sorted((key, digest) for key, digest in self._contents.items() if key.startswith(f"{part}/"))
        return hashlib.sha256("".join(f"{key} {digest}\n" for key, digest in found).encode()).hexdigest()

    def prepare(self) -> str:
        """Check the layout; there is nothing to build."""
        return f"{self.path} is ready: {len(self.labels('train'))} + {len(self.labels('test'))} images"


class UnknownRange(ValueError):
    """Pixels whose range, what is black and what is white, is not known."""


def as_seen(image: Image.Image) -> Image.Image:
    """Bring a picture to 8 bits as a viewer shows it: turned upright, transparency over white, 16 bits scaled.

    Raises:
        UnknownRange: Numbers of 32 bits, or floats.
    """
    of_16_bits = image.format in (None, "PNG", "PPM")  # what is named I may have 32 bits in any other
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        numbers = np.asarray(image)
        if (
            image.mode == "F"
            or (image.mode == "I" and not of_16_bits)
            or not 0 <= numbers.min() <= numbers.max() < 2**16
        ):
            raise UnknownRange(f"its pixels are numbers of mode {image.mode}")
        return Image.fromarray(np.round(numbers / 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image
