"""Memory of a training step over T, step by step (`trainer.through_time=false`) and through time.

ResNet-18 for 32 x 32 pixels with BNTT and TET's loss, without a teacher; the rise of the peak as in `memory`, each
number from a process of its own. Time is that of both ways in one process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.memory import taken_mb
from benchmarks.rounds import DEVICE, ON_GPU, ROUNDS, peak_mb, report, start, times
from tser_lightning.losses import TET
from tser_lightning.models import BNTT, Student
from tser_lightning.models.resnet import resnet18
from tser_lightning.neurons import LIF
from tser_lightning.training.online import online

BATCH = int(os.environ.get("BATCH", "16"))
STEPS = [int(steps) for steps in os.environ.get("T", "2,4,8,16").split(",")]
TIMED = [int(steps) for steps in os.environ.get("TIMED", "2,4,8").split(",")]
WAYS = ("through time", "step by step")


def step(way: str, steps: int) -> Callable[[int], None]:
    """Make forward and backward of so many images; gradients stay."""
    student = Student(resnet18(10, 3, LIF, norm=partial(BNTT, timesteps=steps)), steps).to(DEVICE)
    loss = TET()

    def take(batch: int) -> None:
        images, labels = torch.randn(batch, 3, 32, 32, device=DEVICE), torch.zeros(batch, device=DEVICE).long()
        if way == "through time":
            loss(student(images), None, labels).total.backward()
        else:
            logits = student.stream(images, through_time=False)
            terms = (loss(logits_BC.unsqueeze(0), None, labels) for logits_BC in logits)
            online(terms, list(student.parameters())).total.backward()

    return take


def child(way: str, steps: int) -> float:
    """Give the rise of the peak in MiB; a small step before makes the gradients."""
    start()
    take = step(way, steps)
    take(2)
    before = taken_mb()
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    take(BATCH)
    peak = torch.cuda.max_memory_allocated() / 2**20 if ON_GPU else peak_mb()
    return peak - before


def fresh(way: str, steps: int) -> float:
    """Run `child` in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "benchmarks.online", way, str(steps)]
    call = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(call.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and report."""
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1], int(sys.argv[2]))))
        return
    start()
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        row: dict[str, Any] = {"what": f"T={steps}"} | {f"{way}, MiB": fresh(way, steps) for way in WAYS}
        if steps in TIMED:
            found = times({way: partial(step(way, steps), BATCH) for way in WAYS}, rounds=min(ROUNDS, 3))
            row["time of through time"] = found["step by step"] / found["through time"]
        rows.append(row)
    report("online", f"Memory and time of a step, ResNet-18 with BNTT, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
