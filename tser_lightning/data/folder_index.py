"""List the images of a folder, and keep a record of those that were decoded before. Imports no torch."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tser_lightning.atomic_io import write_json
from tser_lightning.errors import RunError, UsageError

log = logging.getLogger("tser_lightning")

NAME = ".tser_index.json"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_NOT_OURS = ("__MACOSX", "Thumbs.db", "desktop.ini")


def class_folders(folder: Path) -> list[str]:
    """Name the folders of the classes, sorted; hidden ones and those that systems leave behind are none.

    Raises:
        UsageError: A link that leads nowhere, a name that is no text, a folder that cannot be read.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if not _hidden(entry.name)]
    except OSError as error:
        raise _unreadable(str(folder), error) from error
    for entry in entries:
        _check_name(f"{folder}/", entry.name)
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise UsageError(f"{entry.path} is a link that leads nowhere", "what it named is gone", "the link removed")
    return sorted(entry.name for entry in entries if entry.is_dir())


def images_of(root: Path, parts: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """List the images of root/PART/CLASS/**, in the order of torchvision's ImageFolder; hidden ones are left out.

    Files of other formats are counted in the log.

    Args:
        root: The folder of the set.
        parts: Folder of each part by its name.

    Returns:
        {part: {class: [paths below root]}}, sorted.

    Raises:
        UsageError: A class without images, or what `class_folders` refuses.
    """
    others: Counter[str] = Counter()
    found = {
        part: {name: _images(root, f"{folder}/{name}", others) for name in class_folders(root / folder)}
        for part, folder in parts.items()
    }
    for part, folder in parts.items():
        for name, files in found[part].items():
            if not files:
                raise empty_class(root, folder, name, len(found[part]))
    if others:
        counts = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in others.most_common(5))
        log.warning("%s: files that are not read: %s; read are %s", root, counts, " ".join(EXTENSIONS))
    return found


def empty_class(root: Path, folder: str, name: str, classes: int) -> UsageError:
    """Make the `UsageError` for a class without images."""
    return UsageError(
        f"{root / folder / name} holds no images",
        f"every class needs images in train/ and in val/; read are {' '.join(EXTENSIONS)}",
        f"images there; or {name} removed from both train/ and val/, with num_classes={classes - 1}",
    )


def holds_images(folder: Path) -> bool:
    """Tell whether there is an image in a folder or below it."""
    return any(
        name.lower().endswith(EXTENSIONS) and not _hidden(name)
        for _, _, names in os.walk(folder, followlinks=False)
        for name in names
    ) or any(entry.is_dir() and entry.is_symlink() for entry in os.scandir(folder))


def _images(root: Path, below: str, others: Counter[str]) -> list[str]:
    def refuse(error: OSError) -> None:
        raise _unreadable(str(error.filename), error) from error

    places = []
    for place, folders, names in os.walk(root / below, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in folders:
            inner = os.path.join(place, name)
            if os.path.islink(inner) and f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(inner)}/"):
                raise UsageError(f"{inner} is a link to a folder that holds it", "it has no end", "the link removed")
        names = [name for name in names if not _hidden(name)]
        for name in (*folders, *names):
            _check_name(f"{place}/", name)
        places.append((place, sorted(name for name in names if name.lower().endswith(EXTENSIONS))))
        others.update(os.path.splitext(n)[1].lower() for n in names if not n.lower().endswith(EXTENSIONS))
    start = len(str(root)) + 1
    return [f"{place[start:]}/{name}" for place, names in sorted(places) for name in names]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_OURS


def _check_name(folder: str, name: str) -> None:
    if not name.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in name):
        raise UsageError(
            f"{os.fsencode(folder + name)!r} is a name that is not UTF-8",
            "names go into results and records, which are UTF-8",
            "another name for it, with mv",
        )


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be read: {error.strerror or error}", "its images are needed", f"chmod u+rX '{path}'"
    )


def stamps(root: Path, files: list[str]) -> str:
    """Hash the names, sizes and times of files below `root`."""
    lines = []
    for file in files:
        status = os.stat(f"{root}/{file}")
        lines.append(f"{file} {status.st_size} {status.st_mtime_ns}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _records(root: Path) -> list[Path]:
    """Where the record may lie: in the folder, or in the user's cache where that is another's."""
    called = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
    return [root / NAME, Path(os.path.expanduser("~/.cache/tser_lightning"), f"{called}.json")]


def verified(root: Path) -> dict[str, tuple[str, str]]:
    """Give the `stamps` and the hash of the contents of the class folders that were read before, by PART/CLASS."""
    for file in _records(root):
        try:
            kept = json.loads(file.read_text())["verified"].items()
            return {str(key): (str(each["stamps"]), str(each["content"])) for key, each in kept}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # none yet, or one that was damaged: it is written again
    return {}


def keep_verified(root: Path, found: Mapping[str, tuple[str, str]]) -> None:
    """Keep what `verified` gives; where nothing can be kept, images are read again at the next start."""
    content = {key: {"stamps": stamp, "content": digest} for key, (stamp, digest) in found.items()}
    for file in _records(root):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return write_json(file, {"verified": content})
        except (OSError, RunError):
            continue
