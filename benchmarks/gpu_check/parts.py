"""Run every part in a process of its own, with a time limit, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_check.lines import Line, read

IN_SMALL = {
    "TRITON_INTERPRET": "1",
    "OMP_NUM_THREADS": "1",
    "ROUNDS": "1",
    "T": "2",
    "BATCH": "2",
    "MEMORY_BATCH": "2",
    "SHAPE": "2,2,8,4,4",
}
SLOWER = 5
"""A CPU may take so many times a limit: others may be at work on it."""
IN_FULL = {"ROUNDS": "5", "T": "4", "BATCH": "128", "MEMORY_BATCH": "128", "SHAPE": "4,32,64,32,32"}


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: A module of this package with a function `main(report)`.
        seconds: When it is cut off.
    """

    name: str
    seconds: float

    @property
    def command(self) -> list[str]:
        """What its process runs, but for the file that its lines go to."""
        return [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_check.part", self.name]


COMPARING = (
    Part("lif_kernels", 155),
    Part("norm_kernels", 155),
    Part("norm_forms", 155),
    Part("fused_network", 155),
    Part("resume", 155),
)
"""They take no times, so they run side by side."""
TIMING = (Part("bandwidth", 40), Part("step", 175), Part("training", 75), Part("peak_memory", 80))
"""One after the other, alone on the machine. All limits together, and a start of some seconds: under nine minutes."""


def environment(device: str) -> dict[str, str]:
    """What a part's process sees: the sizes of a GPU, or small ones for a CPU with Triton in its interpreter."""
    return {**os.environ, **(IN_FULL if device == "cuda" else IN_SMALL), "DEVICE": device}


def run(part: Part, device: str, folder: Path) -> list[Line]:
    """Run a part to its end or its limit.

    Args:
        part: Which.
        device: cuda or cpu.
        folder: Takes its lines, NAME.jsonl, and all that it printed, NAME.log.

    Returns:
        Its lines, with one that failed where it broke or was cut off.
    """
    lines, printed = folder / f"{part.name}.jsonl", folder / f"{part.name}.log"
    lines.unlink(missing_ok=True)
    seconds = part.seconds * (1 if device == "cuda" else SLOWER)
    with printed.open("w") as log:
        process = subprocess.Popen(
            [*part.command, str(lines)],
            env=environment(device),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own processes end with it
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    found = read(lines)
    if code != 0:
        why = f"cut off after {seconds:g} s" if code is None else f"ended with {code}: {_last(printed)}"
        found.append(Line(part.name, "the part ran to its end", "fail", note=f"{why} ({printed.name})"))
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a part's process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _last(printed: Path) -> str:
    """The last line that says something."""
    return next(
        (line.strip() for line in reversed(printed.read_text().splitlines()) if line.strip()), "it said nothing"
    )


def run_all(
    device: str, folder: Path, comparing: Sequence[Part] = COMPARING, timing: Sequence[Part] = TIMING
) -> list[Line]:
    """Run all parts, those that compare side by side.

    Returns:
        Their lines, in the order of the parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    at_once = 1 if device == "cpu" else max(1, len(comparing))
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(lambda part: run(part, device, folder), comparing))
    found += [run(part, device, folder) for part in timing]
    return [line for lines in found for line in lines]
