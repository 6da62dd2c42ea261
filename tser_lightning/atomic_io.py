"""Files that are whole or not there: written beside the target, flushed to the disk, renamed."""

import contextlib
import errno
import glob
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tser_lightning.errors import RunError
from tser_lightning.operating_system import WINDOWS, flush_folder, process_lives

LONGEST_WRITE_SECONDS = 3600

# What the system refuses by itself, whatever a program does: no mistake in the code that met it.
REMEDIES = {
    errno.ENOSPC: "free space on that disk, or fewer files there (`df -i`)",
    errno.EDQUOT: "free space within your quota",
    errno.EACCES: "a folder that you may use, or its permissions",
    errno.EPERM: "a folder that you may use, or its permissions",
    errno.EROFS: "a folder on a disk that is not mounted read-only",
    errno.EIO: "another disk: this one may be failing (see dmesg)",
    errno.ENOTDIR: "a path whose folders are folders: one of them is a file",
    errno.EEXIST: "another name, or without the file that is there in place of a folder",
    errno.EMFILE: "`ulimit -n 4096` in this shell, or fewer machine.workers",
    errno.ENFILE: "fewer programs at once on this machine: all of its open files are in use",
    errno.ELOOP: "the link removed: in a run directory it may have been made to have another file written",
    errno.ENOLCK: "a folder on a disk whose system can lock files (NFS without locks cannot)",
}


def first_process() -> bool:
    """Tell whether this is the first of the processes that train together: the one that writes files.

    Lightning, torchrun and SLURM each number them in the environment.
    """
    return all(int(os.environ.get(name) or 0) == 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


def refused(error: OSError) -> RunError | None:
    """Say what the system refused, of a file or in general; None for an error that may be the program's own."""
    remedy = REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return RunError(
        what=f"{name}: {error.strerror}" if name else f"the system says: {error.strerror}",
        why="the system refused it; what was saved before is untouched",
        fix=f"{remedy}; then the same command goes on",
    )


@contextlib.contextmanager
def telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about writing a file into a sentence.

    Raises:
        RunError: The disk is full, failing or not ours.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            what=f"{os.fspath(path)} could not be written: {error.strerror or error}",
            why="what was there before is untouched: a file takes its place only once it is whole on the disk",
            fix=f"{REMEDIES.get(error.errno or 0, 'the disk and its permissions')}; then the same command goes on",
        ) from error


def itself(path: str, flags: int) -> int:
    """Open a file for writing, `open(path, "a", opener=itself)`, but not what a link in its place leads to.

    A run directory may have been sent by anybody, and what is written in place would then be a file of ours.
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], keep: Path | None = None) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` once the block has ended well.

    Args:
        path: The file.
        keep: Where the file that is replaced goes; None for nowhere.

    Raises:
        RunError: As the system says it (disk full, no permission). `path` is then as it was before.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{_host()}-{os.getpid()}.part")
    with telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(target.parent, target.name)
        try:
            yield beside
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            if keep is not None and target.exists():
                os.replace(target, keep)
            os.replace(beside, target)
            flush_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().replace(".", "_")[:64]


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


def remove_parts(folder: Path, name: str = "*") -> None:
    """Remove what writers that were killed have left in a folder; what a process that lives is writing stays.

    Args:
        folder: Folders in it are not looked into.
        name: Of the file that they wrote; of any by default.
    """
    name = name if name == "*" else glob.escape(name)
    for part in folder.glob(f".{name}.*.part"):
        if not _being_written(part):
            with contextlib.suppress(OSError):  # another user's: they remove it
                part.unlink(missing_ok=True)


def _being_written(part: Path) -> bool:
    host, _, process = part.name.removesuffix(".part").rpartition(".")[2].rpartition("-")
    if host and host != _host():  # its processes are not seen from here
        return time.time() - _changed(part) < LONGEST_WRITE_SECONDS
    if WINDOWS:  # asking would end it
        return time.time() - _changed(part) < LONGEST_WRITE_SECONDS
    return process.isdigit() and process_lives(int(process))


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return time.time()  # just renamed
