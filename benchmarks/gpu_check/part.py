"""The process of one part: `python -m benchmarks.gpu_check.part NAME FILE`."""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import ON_GPU, start

if __name__ == "__main__":
    start()
    import_module(f"benchmarks.gpu_check.{sys.argv[1]}").main(Report(sys.argv[1], Path(sys.argv[2]), ON_GPU))
