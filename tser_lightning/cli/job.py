"""One job of a sweep, `python -m tser_lightning.cli.job`: the same program, which ends when its sweep does.

Its standard input is a pipe into which nobody writes. The system closes it however the sweep ends, SIGKILL included.
"""

from tser_lightning.cli.import_path import search_working_folder_last

search_working_folder_last()

import os  # noqa: E402 - only now can no file of the working folder be taken for a module of Python's
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from tser_lightning.cli.main import main  # noqa: E402
from tser_lightning.operating_system import ignore_user_signals, kill_this_process  # noqa: E402

GRACE_SECONDS = 30


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # time to save what has been done
    time.sleep(GRACE_SECONDS)
    kill_this_process()


if __name__ == "__main__":
    ignore_user_signals()  # the launcher hears them and tells us
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    sys.exit(main(of_sweep=True))
