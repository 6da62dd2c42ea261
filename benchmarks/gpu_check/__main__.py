"""`make gpu-check`: run all parts, print one table, write it to OUT; exit code 1 where an equality does not hold.

PYTHON=python3 make gpu-check              # on a GPU; CIFAR10=FILE trains on a prepared CIFAR-10
CHECK_DEVICE=cpu make gpu-check            # all of it in small, Triton in its interpreter
"""

import os
import sys
from pathlib import Path

from benchmarks.gpu_check.packages import missing, told

device = os.environ.get("CHECK_DEVICE", "cuda")
if device not in ("cuda", "cpu"):
    sys.exit(f"CHECK_DEVICE={device} is neither cuda nor cpu")
if absent := missing(on_gpu=device == "cuda"):
    sys.exit(told(absent))

import torch  # noqa: E402 - not before it is known to be there

from benchmarks.gpu_check.lines import exit_code  # noqa: E402
from benchmarks.gpu_check.page import write  # noqa: E402
from benchmarks.gpu_check.parts import run_all  # noqa: E402
from benchmarks.rounds import conditions  # noqa: E402

if device == "cuda" and not torch.cuda.is_available():
    sys.exit("gpu-check: torch sees no GPU here; CHECK_DEVICE=cpu make gpu-check runs all of it in small on a CPU")
folder = Path(os.environ.get("OUT", "gpu-check"))
lines = run_all(device, folder)
write(lines, {**conditions(), "device": device}, folder)
sys.exit(exit_code(lines))
