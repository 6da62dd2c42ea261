"""Files that are whole or not there: written beside the target, flushed to the disk, renamed."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tser_lightning.mistake import Failure

REMEDIES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within your quota",
    errno.EACCES: "a folder that you may write to, or its permissions",
    errno.EPERM: "a folder that you may write to, or its permissions",
    errno.EROFS: "a folder on a disk that is not mounted read-only",
    errno.EIO: "another disk: this one may be failing (see dmesg)",
}


def first_process() -> bool:
    """Tell whether this is the first of the processes that train together: the one that writes files.

    Lightning, torchrun and SLURM each number them in the environment.
    """
    return all(int(os.environ.get(name) or 0) == 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


@contextlib.contextmanager
def telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about writing a file into a sentence.

    Raises:
        Failure: The disk is full, failing or not ours.
    """
    try:
        yield
    except OSError as error:
        raise Failure(
            what=f"{os.fspath(path)} could not be written: {error.strerror or error}",
            why="what was there before is untouched: a file takes its place only once it is whole on the disk",
            fix=f"{REMEDIES.get(error.errno or 0, 'the disk and its permissions')}; then the same command goes on",
        ) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], keep: Path | None = None) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` once the block has ended well.

    Args:
        path: The file.
        keep: Where the file that is replaced goes; None for nowhere.

    Raises:
        Failure: As the system says it (disk full, no permission). `path` is then as it was before.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    with telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            if keep is not None and target.exists():
                os.replace(target, keep)
            os.replace(beside, target)
            _flush_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_bytes(path: str | os.PathLike[str], content: bytes, keep: Path | None = None) -> None:
    """Write a file durably and read it back before it replaces what is there; see `replacing`.

    Of several processes that train together the first alone writes.
    """
    if not first_process():
        return
    with replacing(path, keep) as beside:
        beside.write_bytes(content)
        if beside.read_bytes() != content:
            raise OSError(errno.EIO, "what was read back is not what was written")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file durably."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, durably."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove_parts(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder; nobody else may be writing there."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)
