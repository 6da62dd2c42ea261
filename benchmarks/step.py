"""The whole distillation step: spiking ResNet-18, ResNet-34 teacher, TSER loss, SGD; 32x32 images, 100 classes.

Two floors: the student's convolutions alone, forward and backward, in channels_last, as they run here; and the
roofline, on which nothing but the multiplications of student and teacher (at the speed of one large product) and eight
passes over what each layer of neurons sees (at the speed of a copy) take any time.
"""

import copy
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import PEERS, caller, precision_of, student
from benchmarks.rounds import DEVICE, ON_GPU, report, start, times
from tser_lightning.losses import TSER
from tser_lightning.models.resnet import resnet34
from tser_lightning.neurons import LIF
from tser_lightning.training.inference import for_inference
from tser_lightning.training.precision import bfloat16_time

BATCH = int(os.environ.get("BATCH", "128" if ON_GPU else "8"))
STEPS = [int(steps) for steps in os.environ.get("T", "2,4,6").split(",")]
PEER = "spikingjelly 2.0.0"
SLOW = 2.0  # times float32: beyond that bfloat16 is emulated, and a step takes minutes
ON_CPU = (
    "ours, eager",
    "ours, eager fused",
    "ours, eager fused nhwc",
    "ours, compiled fused nhwc",
    "ours, eager fused nhwc low",
    "ours, eager fused nhwc lowest",
)
ON_CPU_IN_BF16 = (f"{PEER} bf16", "ours, eager fused nhwc bf16", "ours, compiled fused nhwc bf16")
ON_CUDA = (
    f"{PEER} memopt",
    f"{PEER} bf16",
    f"{PEER} bf16 policy",
    *(f"ours, triton fused nhwc{how}" for how in ("", " bf16", " bf16 low", " bf16 whole", " bf16 graphs")),
)
CACHED = ("ours, eager fused nhwc", "ours, compiled fused nhwc", "ours, triton fused nhwc bf16")


def parts(
    name: str, steps: int, images: Tensor, teacher: nn.Module, cached: bool = False
) -> dict[str, Callable[[], object]]:
    """Make a training step of a variant in its three parts: teacher, student, optimiser."""
    model, ours = student(name, steps), name.startswith("ours")
    call = caller(name, model)
    loss, labels = TSER(), torch.randint(0, 100, (len(images),), device=DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=ours or None)
    answers = [teacher(images)]

    def ask() -> None:
        if not cached:
            with torch.no_grad(), precision_of(name):
                answers[0] = teacher(images)

    def learn() -> None:
        logits_TBC = call(images)
        with precision_of(name):
            total = loss(logits_TBC, answers[0], labels).total
        total.backward()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return {"teacher": ask, "student": learn, "optimiser": update}


def step(*arguments: Any) -> Callable[[], object]:
    """Make one training step; see `parts`."""
    made = list(parts(*arguments).values())

    def run() -> None:
        for part in made:
            part()

    return run


def watched(
    name: str, model: nn.Module, kind: type[nn.Module], images: Tensor
) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Module, input and output of every call of a kind of module in a variant's student."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        calls.append((module, args[0].detach().clone().requires_grad_(args[0].requires_grad), output.detach()))

    handles = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, kind)]
    with precision_of(name):
        model(images)
    for handle in handles:
        handle.remove()
    return calls


def convolutions(name: str, steps: int, images: Tensor) -> Callable[[], object]:
    """Make forward and backward of every convolution of the student, alone."""
    calls = watched(name, student(name, steps), nn.Conv2d, images)

    def run() -> None:
        for conv, x, output in calls:
            with precision_of(name):
                y = conv(x)
            y.backward(output.to(y.dtype))
            x.grad = None

    return run


def roofline(name: str, steps: int, images: Tensor, teacher: nn.Module) -> float:
    """Seconds of a step on which nothing but its multiplications and the passes over its neurons take time."""
    size, dtype = (8192, torch.bfloat16) if ON_GPU else (1024, torch.float32)
    model, square = student(name, steps), torch.randn(size, size, device=DEVICE, dtype=dtype)
    with FlopCounterMode(display=False) as counted:
        with torch.no_grad():
            teacher(images)
        model(images).sum().backward()
    spikes = sum(output.numel() for _, _, output in watched(name, model, LIF, images))
    source = torch.randn(2**26, device=DEVICE)
    target = torch.empty_like(source)
    speed = times({"product": lambda: square @ square, "copy": lambda: target.copy_(source)}, rounds=3)
    products: float = counted.get_total_flops() / (2 * size**3 / speed["product"])
    passes = 8 * spikes * dtype.itemsize / (2 * source.nbytes / speed["copy"])
    return products + passes


def main() -> None:
    """Measure and report."""
    start()
    images = torch.randn(BATCH, 3, 32, 32, device=DEVICE)
    teacher = resnet34(100).eval().requires_grad_(False).to(DEVICE)
    fast = for_inference(copy.deepcopy(teacher), images[:2])
    best = "ours, triton fused nhwc bf16" if ON_GPU else "ours, eager fused nhwc"
    rows = []
    for steps in STEPS:
        on_cpu = (*PEERS, f"{PEER} memopt", *ON_CPU, *(ON_CPU_IN_BF16 if bfloat16_time() < SLOW else ()))
        names = (PEER, *ON_CUDA) if ON_GPU else on_cpu
        functions = {name: step(name, steps, images, fast if "ours" in name else teacher) for name in names}
        functions |= {
            f"{name}, cached teacher": step(name, steps, images, fast, True) for name in CACHED if name in names
        }
        functions["convolutions alone"] = convolutions(best, steps, images)
        found = times(functions) | {"roofline": roofline(best, steps, images, fast)}
        rows += [
            {
                "what": name,
                "T": steps,
                "ms": 1e3 * t,
                "of spikingjelly": t / found[PEER],
                "share of roofline": found["roofline"] / t,
            }
            for name, t in found.items()
        ]
    report("step", f"Distillation step, ResNet-18 from ResNet-34, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
