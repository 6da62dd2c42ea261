"""How many files a process may have open at once: what processes that load data need of it."""

import os
import resource

from tser_lightning.mistake import Mistake

OWN = 32  # of the process itself, besides what is open: checkpoints, records, the network
PER_WORKER = 20  # pipes, and the tensors of the batches that it has read ahead, for two loaders


def make_room_for(workers: int) -> None:
    """Let this process open as many files as its workers need, if the system lets it.

    Args:
        workers: Processes that load data.

    Raises:
        Mistake: The system does not; a training would stand still, or end in the middle.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _open_now() + OWN + PER_WORKER * workers
    if not workers or soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Mistake(
            what=f"machine.workers={workers} needs up to {needed} open files, and this shell allows {soft}",
            why="processes that load data hand over each tensor as an open file",
            fix="machine.workers=0, or `ulimit -n 4096` before the command",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return OWN
