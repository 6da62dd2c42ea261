"""Time some functions against each other: interleaved rounds, medians, ratios within one run.

The clock is the processor time of this process on one thread (`CLOCK=wall` for wall time, `THREADS=n` for more), so
that other people's work on the machine shows as little as it can; on a GPU (`DEVICE=cuda`) it is wall time from the
first kernel to the last of `REPEAT` calls. Only ratios of one run mean anything.
"""

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

PACKAGES = ("torch", "triton", "lightning", "spikingjelly", "snntorch", "norse", "numpy")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))
ON_GPU = DEVICE.type == "cuda"
REPEAT = int(os.environ.get("REPEAT", "10" if ON_GPU else "1"))
clock = time.perf_counter if os.environ.get("CLOCK") == "wall" or ON_GPU else time.process_time


def start() -> None:
    """Fix threads and seed; end, with a word, where a GPU is asked for and there is none."""
    if ON_GPU and not torch.cuda.is_available():
        print(f"{Path(sys.argv[0]).stem} on a GPU: not measured: no GPU")
        sys.exit(0)
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    torch.manual_seed(0)


def samples(functions: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each function in every one of the rounds A B C A B C; the first call of each is not counted."""
    for function in functions.values():
        function()
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            gc.collect()
            finished()
            begin = clock()
            for _ in range(REPEAT):
                function()
            finished()
            found[name].append((clock() - begin) / REPEAT)
    return found


def times(functions: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each function; see `samples`."""
    return {name: statistics.median(seconds) for name, seconds in samples(functions, rounds).items()}


def finished() -> None:
    """Wait for the GPU, if it is one that is measured."""
    if ON_GPU:
        torch.cuda.synchronize()


def peak_mb() -> float:
    """Largest resident memory of this process so far, MiB, by the operating system's count."""
    # Not getrusage: its count begins with the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def conditions() -> dict[str, Any]:
    """Versions, hardware, how it was called."""
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "clock": "wall" if clock is time.perf_counter else "process",
        "rounds": ROUNDS,
        "device": str(DEVICE),
        "repeat": REPEAT,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def report(name: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table and write BENCH_OUT/name.json, for a GPU name_cuda.json."""
    table = Table(title=title)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(width=140).print(table)
    folder = Path(os.environ.get("BENCH_OUT", "benchmarks/results"))
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "rows": rows, "conditions": conditions()}
    (folder / f"{name}{'_cuda' if ON_GPU else ''}.json").write_text(json.dumps(content, indent=1) + "\n")


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
