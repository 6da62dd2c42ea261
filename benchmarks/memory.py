"""Memory of a training step, ResNet-18, T=4, without the teacher; each variant in a process of its own.

By the operating system's count: the rise of the peak over what the model, its optimiser and the images take, and what
is held between forward and backward. Tensors go back to the system when they are freed (MALLOC_MMAP_THRESHOLD_).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.peers import PEERS, student
from benchmarks.rounds import peak_mb, report, start

BATCH, STEPS = int(os.environ.get("MEMORY_BATCH", "32")), 4
OURS = ("ours, eager", "ours, eager fused", "ours, eager fused nhwc", "ours, eager fused nhwc low")


def resident_mb() -> float:
    """Resident memory of this process now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def child(name: str) -> dict[str, float]:
    """Take two steps; the first makes gradients and momenta."""
    start()
    model = student(name, STEPS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    small, images = torch.randn(2, 3, 32, 32), torch.randn(BATCH, 3, 32, 32)
    model(small).square().sum().backward()
    optimizer.step()
    before = resident_mb()
    loss = model(images).square().sum()
    held = resident_mb() - before
    loss.backward()
    return {"peak MiB": peak_mb() - before, "held MiB": held}


def fresh(name: str) -> dict[str, float]:
    """Run `child` in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    call = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", name], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(call.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and report."""
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1])))
        return
    start()
    found = {name: fresh(name) for name in (*PEERS, *OURS)}
    peer = found["spikingjelly 2.0.0"]
    rows = [
        {"what": name, **sizes, **{f"{key.split()[0]} of spikingjelly": sizes[key] / peer[key] for key in sizes}}
        for name, sizes in found.items()
    ]
    report("memory", f"Memory of a step, ResNet-18, T={STEPS}, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
