"""The list of a folder's images, kept so that a million of them need not be looked up at every start."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from torchvision import datasets

from tser_lightning.durable import write_json
from tser_lightning.mistake import Failure

NAME = ".tser_index.json"


def index_of(root: Path, parts: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """List the images of root/PART/CLASS/*, from a file in `root` where nothing changed since it was written.

    A file that comes, goes or is replaced changes the time of its class's folder, which is what is compared; folders
    inside those of the classes are looked up anew every time. Where `root` cannot be written to, so is everything.

    Args:
        root: The folder of the set.
        parts: Folder of each part by its name.

    Returns:
        {part: {class: [paths below root]}}, sorted.

    Raises:
        FileNotFoundError: A class without images.
    """
    signature = _signature(root, parts)
    file = root / NAME
    try:
        kept = json.loads(file.read_text())
        if signature is not None and kept["signature"] == signature:
            found: dict[str, dict[str, list[str]]] = kept["images"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or one that was damaged: it is written again
    images = {part: _listed(root, root / folder) for part, folder in parts.items()}
    if signature is not None and os.access(root, os.W_OK):
        try:
            write_json(file, {"signature": signature, "images": images})
        except Failure:
            file.unlink(missing_ok=True)  # a list that cannot be kept is looked up again
    return images


def _listed(root: Path, folder: Path) -> dict[str, list[str]]:
    found = datasets.ImageFolder(folder)
    listed: dict[str, list[str]] = {name: [] for name in found.classes}
    for file, label in found.samples:
        listed[found.classes[label]].append(os.path.relpath(file, root))
    return listed


def _signature(root: Path, parts: Mapping[str, str]) -> str | None:
    """Hash the names and times of the classes' folders; None if one of them holds another."""
    digest = hashlib.sha256()
    for part, folder in sorted(parts.items()):
        for place in sorted(path for path in (root / folder).iterdir() if path.is_dir()):
            status = place.stat()
            if status.st_nlink > 2:  # each folder inside adds a link on most file systems
                return None
            digest.update(f"{part} {place.name} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
