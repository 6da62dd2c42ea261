"""Functions that Linux, macOS and Windows offer differently.

Windows has no `fcntl`, no `resource`, no user signals, and opens no folder; macOS has no processor affinity and counts
memory in bytes.
"""

import contextlib
import getpass
import os
import signal
import sys
from typing import IO, Any

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

WINDOWS = sys.platform == "win32"


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def user() -> str:
    """Name this user, for folders that several users share."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def peak_resident_mib() -> float | None:
    """Largest resident memory of this process so far in MiB; None where the system does not say."""
    if resource is None:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def open_files_limit() -> tuple[float, float]:
    """How many files this process may have open: now, and at most if it asks; infinity where there is no limit."""
    if resource is None:
        return float("inf"), float("inf")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return float("inf") if soft == endless else soft, float("inf") if hard == endless else hard


def allow_open_files(number: int) -> None:
    """Let this process have so many files open; not more than `open_files_limit` says."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def process_lives(number: int) -> bool:
    """Tell whether there is a process of that number on this machine; True where asking would end it."""
    if WINDOWS:  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(number, 0)
    except PermissionError:
        return True  # another user's
    except ProcessLookupError:
        return False
    return True


def lock(file: IO[Any], *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file for this process alone, until it is closed: its children do not inherit that.

    The package filelock is not used: its locks pass to children, so that a loader's process would keep a dead run's
    directory, and have no shared mode, so that nobody could look whether a run is at work without taking its lock.

    Returns:
        Whether it is locked; False if another process has it.
    """
    if fcntl is None:
        return _lock_on_windows(file.fileno(), wait)
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock_for_children(descriptor: int) -> bool:
    """Lock an open file, if no process has it, for this process and those that inherit the descriptor."""
    if fcntl is None:
        return _lock_on_windows(descriptor, wait=False)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_on_windows(descriptor: int, wait: bool) -> bool:
    import msvcrt

    windows: Any = msvcrt  # typed on Windows alone
    while True:
        try:
            windows.locking(descriptor, windows.LK_LOCK if wait else windows.LK_NBLCK, 1)
        except OSError:  # LK_LOCK gives up after ten seconds
            if not wait:
                return False
        else:
            return True


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Bring the names of a folder to the disk; Windows does that by itself."""
    if WINDOWS:
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def ignore_user_signals() -> None:
    """Let this process go on at SIGUSR1 and SIGUSR2, which Slurm sends to all processes of a job."""
    for name in ("SIGUSR1", "SIGUSR2"):
        with contextlib.suppress(AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def kill_this_process() -> None:
    """End at once."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
