"""Images and recordings as a student sees them: brought to size, scaled and normalised as in its evaluation."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.augment import normalise, to_unit
from tser_lightning.data.checks import resize_for
from tser_lightning.data.folder import as_seen
from tser_lightning.errors import UsageError

Card = Mapping[str, Any]


def image_files(path: str | Path) -> list[Path]:
    """List the image files that a path stands for: itself, or all in a folder and below it, sorted by name.

    Raises:
        UsageError: There is none.
    """
    path = Path(path)
    known = Image.registered_extensions()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in known)
    if not files:
        raise UsageError(
            what=f"input={path}: {'no file in it is an image' if path.is_dir() else 'there is no such file or folder'}",
            why="an image file, a folder of them, or an array of bytes in a .npy file is classified: images "
            "[N, H, W, C], or event counts [N, T, C, H, W]",
            fix="input=FOLDER or input=FILE",
        )
    return files


def batches(path: str | Path, card: Card, size: int = 100) -> Iterator[tuple[list[str], Tensor]]:
    """Read what is to be classified.

    Args:
        path: An image file, a folder, or a .npy file with images, uint8 [N, H, W, C], or with the frames of
            recordings, numbers of events uint8 [N, T, C, H, W].
        card: Of the student: `shape`, `frames`, `resize`, `mean`, `std`.
        size: Images of a batch.

    Yields:
        The names of some images, and they as the student sees them: [B, C, H, W], or frames [T, B, C, H, W].

    Raises:
        UsageError: An image that cannot be read, or image files for a student of event frames.
    """
    if str(path).endswith(".npy"):
        array = _array(Path(path), card)
        for first in range(0, len(array), size):
            part = torch.from_numpy(array[first : first + size].copy())
            yield [f"{path}[{first + index}]" for index in range(len(part))], _seen(part, card)
        return
    if card.get("frames"):
        raise UsageError(
            what=f"input={path}: this student sees recordings of {card['frames']} event frames",
            why="an image has no events; what an event camera wrote is cut into frames by other programs, e.g. tonic",
            fix=f"input=FILE.npy with {_form(card)}",
        )
    files = image_files(path)
    for first in range(0, len(files), size):
        some = files[first : first + size]
        yield [str(file) for file in some], _normalised(torch.stack([_pixels(file, card) for file in some]), card)


def image(path: str | Path, card: Card) -> Tensor:
    """Read one image file as the student sees it, [1, C, H, W]; see `batches`."""
    return _normalised(_pixels(Path(path), card)[None], card)


def _pixels(file: Path, card: Card) -> Tensor:
    channels, *size = card["shape"]
    try:
        with Image.open(file) as opened:
            picture = as_seen(opened).convert("L" if channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UsageError(
            f"{file} cannot be read: {' '.join(str(error).split())[:120]}", "it is damaged or no image", "a good copy"
        ) from error
    if list(picture.size) != size[::-1] or card.get("resize"):
        resize = card.get("resize") or resize_for(max(size))
        picture = v2.CenterCrop(size)(v2.Resize(resize)(picture))
    pixels: Tensor = v2.functional.pil_to_tensor(picture)
    return pixels


def _array(file: Path, card: Card) -> Any:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"input={file} cannot be read: {error}", "it is no array of numpy", "np.save(FILE, images)"
        ) from error
    if array.dtype != np.uint8 or array.ndim == 0 or array.shape[1:] != _shape(card):
        raise UsageError(
            what=f"input={file} holds {array.dtype} {list(array.shape)}",
            why=f"this student sees {_form(card)}",
            fix="an array of this form",
        )
    return array


def _shape(card: Card) -> tuple[int, ...]:
    """Of what is classified, as files have it: images with channels last, frames with channels first."""
    channels, height, width = card["shape"]
    return (card["frames"], channels, height, width) if card.get("frames") else (height, width, channels)


def _form(card: Card) -> str:
    kind = "recordings as numbers of events" if card.get("frames") else "images as bytes"
    return f"{kind}, uint8 [N, {', '.join(map(str, _shape(card)))}]"


def _seen(part: Tensor, card: Card) -> Tensor:
    """Bring what a file has into the order of a student's input, and normalise it."""
    if not card.get("frames"):
        return _normalised(part.permute(0, 3, 1, 2), card)
    frames_BTCHW: Tensor = _normalised(part.flatten(0, 1), card).unflatten(0, (-1, card["frames"]))
    return frames_BTCHW.transpose(0, 1).contiguous()


def _normalised(images_BCHW: Tensor, card: Card) -> Tensor:
    channels = card["shape"][0]
    if images_BCHW.shape[1] != channels:
        raise UsageError(
            what=f"this student sees {channels} channels, an image has {images_BCHW.shape[1]}",
            why="it was trained on images of another kind",
            fix="input=FILE.npy with uint8 [N, H, W, C] of its own kind",
        )
    mean, std = card.get("mean") or [0.0] * channels, card.get("std") or [1.0] * channels
    return normalise(to_unit(images_BCHW), mean, std)
