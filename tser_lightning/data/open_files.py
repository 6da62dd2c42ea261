"""The limit on open files, and how many processes that load data it allows."""

import os

from tser_lightning.errors import UsageError
from tser_lightning.operating_system import allow_open_files, open_files_limit

OWN = 32  # of the process itself, besides what is open: checkpoints, records, the network
PER_WORKER = 20  # pipes, and the tensors of the batches that it has read ahead, for two loaders


def make_room_for(workers: int) -> None:
    """Raise this process's limit on open files to what its workers need, if the system allows it.

    Args:
        workers: Processes that load data.

    Raises:
        UsageError: The system does not; a training would stand still, or end in the middle.
    """
    soft, hard = open_files_limit()
    needed = _open_now() + OWN + PER_WORKER * workers
    if not workers or soft >= needed:
        return
    if hard < needed:
        raise UsageError(
            what=f"workers={workers} needs up to {needed} open files, and this shell allows {soft}",
            why="processes that load data hand over each tensor as an open file",
            fix="workers=0, or `ulimit -n 4096` before the command",
        )
    allow_open_files(needed)


def workers_that_fit(most: int) -> int:
    """Compute how many loading processes the limit on open files allows, here and later in a training.

    Args:
        most: What would be best, e.g. the number of cores.

    Returns:
        From 0 to `most`.
    """
    _, hard = open_files_limit()
    if hard == float("inf"):
        return most
    return max(0, min(most, (int(hard) - _open_now() - 2 * OWN) // PER_WORKER))  # as many again may be open by then


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return OWN
