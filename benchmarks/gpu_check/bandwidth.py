"""LIF, and norm with LIF, against the bandwidth that a copy reaches in the same process; see `benchmarks.lif_layer`."""

import math
from importlib.util import find_spec

from benchmarks.gpu_check.lines import Report
from benchmarks.gpu_check.packages import PEER as PEER_PACKAGE
from benchmarks.lif_layer import BFLOAT16, PASSES, PEER, SHAPE, measured
from benchmarks.rounds import ON_GPU

PEERS = (PEER, *BFLOAT16) if ON_GPU else (PEER,)
OF_FLOOR = 1.3


def main(report: Report) -> None:
    """Measure and report."""
    for what in PASSES:
        ours = tuple(f"ours, triton{'' if what == 'LIF' else ' fused'}{dtype}" for dtype in ("", " bf16"))
        rows = measured(what, ours)
        one = rows[0]["ms"] / 1e3 / rows[0]["of floor"] / sum(PASSES[what])  # seconds of one pass in float32
        report.figure(f"{what}: a copy of {list(SHAPE)}", 4 * math.prod(SHAPE) / one / 1e9, "GB/s")
        for row in rows:
            for way in ("forward", "backward"):
                report.figure(f"{row['what']}, {way}", row[f"{way} of floor"], "of the floor", most=OF_FLOOR)
        _peers(report, what, ours[-1])


def _peers(report: Report, what: str, ours: str) -> None:
    """Report how much faster ours is than SpikingJelly's, where that is here and works."""
    if find_spec(PEER_PACKAGE) is None:
        report.skipped(f"{what} against {PEER}", f"{PEER_PACKAGE} is not here")
        return
    try:
        rows = measured(what, (ours, *PEERS))
    except Exception as error:  # not ours to fail for
        report.skipped(f"{what} against {PEER}", f"{type(error).__name__}: {str(error).splitlines()[:1]}")
        return
    for row in rows[1:]:
        report.figure(f"{rows[0]['what']} against {row['what']}", row["ms"] / rows[0]["ms"], "times faster")
