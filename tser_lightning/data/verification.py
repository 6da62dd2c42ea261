"""Verification of a folder's images by decoding each once, again only where a file changed."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from tser_lightning.data.folder_index import keep_verified, stamps, verified
from tser_lightning.errors import UsageError

log = logging.getLogger("tser_lightning")


@dataclass(frozen=True)
class VerifiedFile:
    """A file that was read and decoded.

    Attributes:
        digest: SHA-256 of its bytes, as hex.
        several: Whether it holds more pictures than the one that is read.
    """

    digest: str
    several: bool


def contents(
    root: Path, classes: Mapping[str, list[str]], look: Callable[[str], VerifiedFile | UsageError]
) -> dict[str, str]:
    """Hash the images of each class folder; what was good, and is as old and as large as then, is not read again.

    Args:
        root: The folder of the set, where the record of it is kept.
        classes: Files below `root`, by PART/CLASS.
        look: Reads a file below `root`, or says what is wrong with it.

    Returns:
        SHA-256 of names and bytes, as hex, by PART/CLASS: the same on every machine.

    Raises:
        UsageError: An image cannot be read; how many cannot is said.
        OSError: A file is gone.
    """
    now = {key: stamps(root, files) for key, files in classes.items()}
    kept = {key: value for key, value in verified(root).items() if now.get(key) == value[0]}
    new = {key: files for key, files in classes.items() if key not in kept}
    if new:
        seen, wrong = _read(root, [file for files in new.values() for file in files], look)
        good = {key: files for key, files in new.items() if seen.keys() >= set(files)}
        kept |= {
            key: (now[key], _hash(f"{seen[file].digest} {file}\n" for file in files)) for key, files in good.items()
        }
        keep_verified(root, kept)
        if wrong:
            more = f" (and {len(wrong) - 1} more files cannot)" if len(wrong) > 1 else ""
            raise UsageError(f"{wrong[0].what}{more}", wrong[0].why, wrong[0].fix)
    return {key: kept[key][1] for key in classes}


def _read(
    root: Path, files: list[str], look: Callable[[str], VerifiedFile | UsageError]
) -> tuple[dict[str, VerifiedFile], list[UsageError]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let go of Python's lock
        looked = pool.map(look, files)
        shown = track(looked, "looking at new images", len(files), transient=True, disable=len(files) < 1000)
        answers = dict(zip(files, shown, strict=True))
    seen = {file: answer for file, answer in answers.items() if isinstance(answer, VerifiedFile)}
    several = sum(each.several for each in seen.values())
    if several:
        log.warning("%s: %d files hold several pictures; the first of each is read", root, several)
    return seen, [answer for answer in answers.values() if isinstance(answer, UsageError)]


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
