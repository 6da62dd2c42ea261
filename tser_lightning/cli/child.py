"""One job of a sweep, `python -m tser_lightning.cli.child`: the same program, which ends when its sweep does.

Its standard input is a pipe into which nobody writes. The system closes it however the sweep ends, SIGKILL included.
"""

import os
import signal
import sys
import threading
import time

from tser_lightning.cli.main import main

GRACE_SECONDS = 30


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # time to save what has been done
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for warning in (signal.SIGUSR1, signal.SIGUSR2):  # of Slurm to all processes: the launcher hears it and tells us
        signal.signal(warning, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    sys.exit(main())
