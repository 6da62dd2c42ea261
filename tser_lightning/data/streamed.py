"""Images in litdata's chunks, local or streamed from a store (extra `litdata`)."""

import contextlib
import hashlib
import io
import json
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import torch
from rich.progress import track
from torch import Tensor

from tser_lightning.atomic_io import write_text
from tser_lightning.data.checks import check_chunks
from tser_lightning.data.folder import FOLDERS, ImageFolder
from tser_lightning.data.image_data import Part
from tser_lightning.errors import RunError, UsageError


class Streamed(ImageFolder):
    """Chunks of litdata in path/train and path/val, with samples {"image": bytes, "label": int}.

    An image is the bytes of an image file. Chunks that lie elsewhere (s3://...) are fetched when one of their images is
    first needed and stay in litdata's cache. The order of the images is the one of every set here, so that in an epoch
    all chunks are in use: the cache should have room for them all. The labels are read once, which reads all samples,
    and kept beside the chunks or in the cache. Only bytes and whole numbers are read: litdata's other forms of samples
    may run code.

    Args:
        path: A folder, or an address that litdata knows.
        name: What results call the set.
        settings: Those of `ImageFolder`.

    Examples:
        >>> images = Streamed("s3://mine/cats", num_classes=2, shape=[3, 64, 64], mean=[0.5] * 3, std=[0.5] * 3)
        >>> images.address, images.resize  # nothing is fetched before the first image is needed
        ('s3://mine/cats', 73)
    """

    def __init__(self, path: str, *, name: str = "litdata", **settings: Any) -> None:
        super().__init__(path, name=name, **settings)
        self.address = str(path).rstrip("/")

    def check(self) -> None:
        """Raise a `UsageError` if litdata is not installed, or chunks are missing or of another form."""
        if "://" not in self.address:
            check_chunks(Path(self.address))
        for part in FOLDERS:
            check_chunks(self._home(part).parent, [self._home(part).name])

    @cached_property
    def _chunks(self) -> dict[Part, Any]:
        try:
            streaming = import_module("litdata").StreamingDataset
        except ImportError as error:
            raise UsageError(
                "this set needs litdata, which is not installed",
                "it is an extra of its own",
                "pip install 'tser-lightning[litdata]'",
            ) from error
        try:
            return {part: streaming(f"{self.address}/{folder}") for part, folder in FOLDERS.items()}
        except Exception as error:  # whatever a store can say
            raise UsageError(
                f"{self.address} cannot be read: {next(iter(str(error).splitlines()), type(error).__name__)[:160]}",
                "litdata finds no index of chunks there, or has no access",
                "path=FOLDER, which holds train/ and val/ as litdata.optimize writes them",
            ) from error

    def _home(self, part: Part) -> Path:
        """The folder of a part's chunks, or of their copies."""
        return Path(self._chunks[part].input_dir.path)

    def _index(self, part: Part) -> bytes:
        return (self._home(part) / "index.json").read_bytes()

    @cached_property
    def _labels(self) -> dict[Part, Tensor]:
        self.check()
        return {part: self._read_labels(part) for part in FOLDERS}

    def _read_labels(self, part: Part) -> Tensor:
        kept = self._home(part) / f"labels-{hashlib.sha256(self._index(part)).hexdigest()[:16]}.json"
        samples = self._chunks[part]
        if kept.exists():
            found = json.loads(kept.read_text())
        else:
            found = [int(samples[index]["label"]) for index in track(range(len(samples)), f"{part} labels")]
            with contextlib.suppress(RunError):  # not our folder: they are read again next time
                write_text(kept, json.dumps(found))
        if not 0 <= min(found) <= max(found) < self.num_classes:
            raise UsageError(
                f"num_classes={self.num_classes}, but the labels of {self.address} go from {min(found)} to "
                f"{max(found)}",
                "teacher and student get as many outputs as `num_classes` says",
                f"num_classes={max(found) + 1}",
            )
        return torch.tensor(found)

    def verify(self) -> None:
        """Leave the images to be read when they are needed: to look at all would fetch all chunks."""

    def labels(self, part: Part) -> Tensor:
        """Give the classes of all images of a part, int64 [N]."""
        return self._labels[part]

    def source(self, part: Part, index: int) -> BinaryIO:
        """Give the bytes of an image file."""
        return io.BytesIO(self._chunks[part][index]["image"])

    def fingerprint(self) -> str:
        """Hash the lists of chunks and the labels with SHA-256."""
        return hashlib.sha256(b"".join(self._content(part) for part in FOLDERS)).hexdigest()

    def fingerprints(self) -> dict[Part, str]:
        """Hash the list of chunks and the labels of each part with SHA-256."""
        return {part: hashlib.sha256(self._content(part)).hexdigest() for part in FOLDERS}

    def _content(self, part: Part) -> bytes:
        return self._index(part) + json.dumps(self.labels(part).tolist()).encode()
