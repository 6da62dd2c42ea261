"""Processes that train together end together, whichever of them ends first.

Lightning's own guard kills the first process without a word as soon as another has ended in any way but well, also
while the first is saving because both were told to stop.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import lightning.pytorch as pl

from tser_lightning.errors import RunError

PATIENCE_SECONDS = 10.0  # for a process to find out by itself, and to end in its own words
_leaving = threading.Event()

Processes = Sequence["subprocess.Popen[bytes]"]


def start_watchdog(trainer: pl.Trainer) -> None:
    """Let each process of a Trainer end when another has died; called in each, once for every Trainer."""
    launcher = trainer.strategy.launcher
    started = getattr(launcher, "procs", [])
    companions = [process for process in started if isinstance(process, subprocess.Popen)]
    if companions:
        started.clear()  # Lightning's guard has nobody left to watch
        _leaving.clear()
        atexit.register(_end, companions)
        threading.Thread(target=_watch, args=(companions,), daemon=True).start()
    elif trainer.global_rank > 0 and not any(thread.name == _FOLLOWING for thread in threading.enumerate()):
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True, name=_FOLLOWING).start()


_FOLLOWING = "ends with the first process"


def leave() -> None:
    """Stop watching: this process is ending by itself."""
    _leaving.set()


def lost(who: str) -> RunError:
    """Make the `RunError` for a process that has died."""
    return RunError(
        what=f"one of the processes that train together has died: {who}",
        why="the system killed it, or it failed by itself: its own words are above",
        fix="the same command goes on from the last checkpoint",
    )


def _watch(companions: Processes) -> None:
    while not _leaving.is_set() and any(process.returncode != 0 for process in companions):
        time.sleep(0.5)
        dead = [process for process in companions if process.poll() not in (None, 0)]
        if dead and not _leaving.wait(PATIENCE_SECONDS):
            _give_up(f"process {dead[0].pid} ended with {dead[0].returncode}", companions)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if not _leaving.wait(PATIENCE_SECONDS):
        _give_up(f"process {parent}, the first one", [])


def _give_up(who: str, companions: Processes) -> None:
    """End from a thread: the main one may wait for the dead for ever."""
    print(f"tser: {lost(who)}", file=sys.stderr, flush=True)
    for process in companions:
        process.kill()
    os._exit(1)


def _end(companions: Processes) -> None:
    """End the processes that are still there."""
    if _leaving.is_set():
        for process in companions:
            process.terminate()
    leave()
    limit = time.monotonic() + PATIENCE_SECONDS
    for process in companions:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, limit - time.monotonic()))
    for process in companions:
        process.kill()
