"""Memory of a training step, ResNet-18, T=4, without the teacher; each variant in a process of its own.

By the operating system's count: the rise of the peak over what the model, its optimiser and the images take, and what
is held between forward and backward. Tensors go back to the system when they are freed (MALLOC_MMAP_THRESHOLD_). On a
GPU by the count of torch's allocator.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import PEERS, caller, student
from benchmarks.rounds import DEVICE, ON_GPU, peak_mb, report, start

BATCH, STEPS = int(os.environ.get("MEMORY_BATCH", "32")), 4
PEER = "spikingjelly 2.0.0"
OURS = tuple(f"ours, eager{how}" for how in ("", " fused", " fused nhwc", " fused nhwc low", " fused nhwc lowest"))
ON_CUDA = (
    PEER,
    f"{PEER} memopt",
    f"{PEER} bf16",
    f"{PEER} bf16 policy",
    *(f"ours, triton fused nhwc{how}" for how in ("", " bf16", " bf16 low", " bf16 lowest")),
)


def taken_mb() -> float:
    """Memory that is taken now, MiB: this process's, or the GPU's."""
    if ON_GPU:
        return torch.cuda.memory_allocated() / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def child(name: str, steps: int, batch: int) -> dict[str, float]:
    """Take two steps; the first makes gradients and momenta."""
    start()
    model = student(name, steps)
    call = caller(name, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    small, images = torch.randn(2, 3, 32, 32, device=DEVICE), torch.randn(batch, 3, 32, 32, device=DEVICE)
    call(small).square().sum().backward()
    optimizer.step()
    before = taken_mb()
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    loss = call(images).square().sum()
    held = taken_mb() - before
    loss.backward()
    peak = torch.cuda.max_memory_allocated() / 2**20 if ON_GPU else peak_mb()
    return {"peak MiB": peak - before, "held MiB": held}


def fresh(name: str, steps: int = STEPS, batch: int = BATCH) -> dict[str, float]:
    """Run `child` in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "benchmarks.memory", name, str(steps), str(batch)]
    call = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(call.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and report."""
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    start()
    found = {name: fresh(name) for name in (ON_CUDA if ON_GPU else (*PEERS, f"{PEER} memopt", *OURS))}
    rows: list[dict[str, Any]] = [
        {"what": name, **sizes, **{f"{key.split()[0]} of spikingjelly": sizes[key] / found[PEER][key] for key in sizes}}
        for name, sizes in found.items()
    ]
    report("memory", f"Memory of a step, ResNet-18, T={STEPS}, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
