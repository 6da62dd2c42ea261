"""One thread per test process: the tests run several at once, and more threads than cores only wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
