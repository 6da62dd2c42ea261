"""The whole distillation step: spiking ResNet-18, ResNet-34 teacher, TSER loss, SGD; 32x32 images, 100 classes.

The floor is the student's convolutions alone, forward and backward, in channels_last.
"""

import copy
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tser_lightning as tl
from benchmarks.peers import PEERS, student
from benchmarks.rounds import report, start, times
from tser_lightning.models.resnet import resnet34
from tser_lightning.training.inference import for_inference

BATCH = int(os.environ.get("BATCH", "8"))
STEPS = [int(steps) for steps in os.environ.get("T", "2,4,6").split(",")]
OURS = ("ours, eager", "ours, eager fused", "ours, eager fused nhwc", "ours, compiled fused nhwc")


def step(name: str, steps: int, images: Tensor, teacher: nn.Module, cached: bool) -> Callable[[], object]:
    """Make one training step of a student."""
    model, ours = student(name, steps), name.startswith("ours")
    loss, labels = tl.build_loss("tser"), torch.randint(0, 100, (len(images),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=ours or None)
    answered = teacher(images) if cached else None

    def run() -> None:
        with torch.no_grad():
            teacher_BC = teacher(images) if answered is None else answered
        loss(model(images), teacher_BC, labels).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def convolutions(steps: int, images: Tensor) -> Callable[[], object]:
    """Make forward and backward of every convolution of the student, alone."""
    model = student("ours, eager nhwc", steps)
    calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        calls.append((module, args[0].detach().clone().requires_grad_(args[0].requires_grad), torch.randn_like(output)))

    handles = [m.register_forward_hook(watch) for m in model.modules() if isinstance(m, nn.Conv2d)]
    model(images)
    for handle in handles:
        handle.remove()

    def run() -> None:
        for conv, x, grad in calls:
            conv(x).backward(grad)
            x.grad = None

    return run


def main() -> None:
    """Measure and report."""
    start()
    images = torch.randn(BATCH, 3, 32, 32)
    teacher = resnet34(100).eval().requires_grad_(False)
    fast = for_inference(copy.deepcopy(teacher), images[:2])
    rows = []
    for steps in STEPS:
        functions = {name: step(name, steps, images, teacher, False) for name in PEERS}
        functions |= {name: step(name, steps, images, fast, False) for name in OURS}
        functions |= {f"{name}, cached teacher": step(name, steps, images, fast, True) for name in OURS[2:]}
        functions["convolutions alone"] = convolutions(steps, images)
        found = times(functions)
        peer = found["spikingjelly 2.0.0"]
        rows += [{"what": name, "T": steps, "ms": 1e3 * t, "of spikingjelly": t / peer} for name, t in found.items()]
    report("step", f"Distillation step, ResNet-18 from ResNet-34, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
