"""Peak memory of a step at each `machine.memory`, each in a fresh process; see `benchmarks.memory`."""

import subprocess
from importlib.util import find_spec

from benchmarks.gpu_check.lines import Report
from benchmarks.gpu_check.packages import PEER as PEER_PACKAGE
from benchmarks.memory import PEER, fresh
from benchmarks.rounds import ON_GPU

AUTO = "ours, triton fused nhwc bf16" if ON_GPU else "ours, eager fused nhwc"
BEST_PEER = f"{PEER} bf16 policy" if ON_GPU else PEER
OF_PEER = {"auto": 0.5, "low": 0.3, "lowest": 0.25}


def main(report: Report) -> None:
    """Measure and report; the peer comes last, because it is not ours to fail for."""
    peaks = {}
    for memory in OF_PEER:
        peaks[memory] = fresh(AUTO if memory == "auto" else f"{AUTO} {memory}")["peak MiB"]
        report.figure(f"machine.memory={memory}, peak of a step", peaks[memory], "MiB")
    if find_spec(PEER_PACKAGE) is None:
        report.skipped(f"against {BEST_PEER}", f"{PEER_PACKAGE} is not here")
        return
    try:
        peer = fresh(BEST_PEER)["peak MiB"]
    except subprocess.CalledProcessError as error:
        report.skipped(f"against {BEST_PEER}", f"it ended with {error.returncode}")
        return
    for memory, goal in OF_PEER.items():
        report.figure(f"machine.memory={memory}, of {BEST_PEER}", peaks[memory] / peer, "of its peak", most=goal)
