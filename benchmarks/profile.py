"""Where the time of a distillation step goes: convolutions, norms with neurons and elementwise work, teacher, the rest.

Self time of every operation by torch's profiler, in rounds of ours and SpikingJelly's; teacher, student and optimiser
are profiled one after the other. On a GPU it is the time of kernels, by their names.
"""

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.rounds import DEVICE, ON_GPU, ROUNDS, finished, report, start
from benchmarks.step import BATCH, parts
from tser_lightning.models.resnet import resnet34
from tser_lightning.training.inference import for_inference

STEPS = int(os.environ.get("T", "4"))
PEER = "spikingjelly 2.0.0"
CPU = (PEER, "ours, eager fused nhwc", "ours, compiled fused nhwc")
CUDA = (f"{PEER} bf16", f"{PEER} bf16 policy", "ours, triton fused nhwc bf16")
GROUPS = ("convolutions", "linear", "norm, LIF, elementwise", "rest")
CONVOLUTION = ("conv", "fprop", "dgrad", "wgrad", "cudnn")
LINEAR = ("addmm", "aten::mm", "aten::bmm", "aten::linear", "gemm")
MOVES_NOTHING = {
    f"aten::{name}"
    for name in ("empty", "empty_strided", "empty_like", "resize_", "view", "as_strided", "detach", "expand", "select",
                 "slice", "unbind", "unflatten", "flatten", "reshape", "to", "_to_copy")
}  # fmt: skip
NEURONS = ("lif", "tser", "sj_", "surrogate", "spike", "inductor", "cpp_fused", "compiled", "triton")


def group(name: str) -> str:
    """The group of an operation of torch, or of a kernel."""
    if name in MOVES_NOTHING:
        return "rest"
    if any(word in name.lower() for word in CONVOLUTION):
        return "convolutions"
    if any(word in name for word in LINEAR):
        return "linear"
    # Neurons of any library are built of aten's operations, an operation of its own or a compiled one.
    own = any(word in name.lower() for word in NEURONS)
    return "norm, LIF, elementwise" if ON_GPU or own or name.startswith("aten::") else "rest"


def spent(run: Callable[[], object]) -> dict[str, float]:
    """Milliseconds by group of one call."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if ON_GPU else [])]
    with profile(activities=kinds) as seen:
        run()
        finished()
    found = dict.fromkeys(GROUPS, 0.0)
    for event in seen.key_averages():
        if (event.device_type == DeviceType.CUDA) == ON_GPU:
            found[group(event.key)] += (event.self_device_time_total if ON_GPU else event.self_cpu_time_total) / 1e3
    return found


def row(made: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of a step by group; those of teacher and optimiser are sums."""
    times = {part: spent(run) for part, run in made.items()}
    alone = {part: sum(times[part].values()) for part in ("teacher", "optimiser")}
    return {**times["student"], **alone}


def main() -> None:
    """Measure and report."""
    start()
    images = torch.randn(BATCH, 3, 32, 32, device=DEVICE)
    teacher = resnet34(100).eval().requires_grad_(False).to(DEVICE)
    fast = for_inference(teacher, images[:2])
    names = CUDA if ON_GPU else CPU
    made = {name: parts(name, STEPS, images, fast if "ours" in name else teacher) for name in names}
    for step in made.values():
        row(step)  # the first call compiles
    rounds = [{name: row(step) for name, step in made.items()} for _ in range(ROUNDS)]
    rows: list[dict[str, Any]] = []
    work = GROUPS[2]
    middle = {
        name: {key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]} for name in names
    }
    for name, found in middle.items():
        total = sum(found.values())
        shares = {f"{key} %": 100 * t / total for key, t in found.items()}
        against = found[work] / middle[names[0]][work]
        rows.append({"what": name, "ms": total, **shares, f"{work} of spikingjelly": against})
    report("profile", f"Where a step's time goes, ResNet-18 from ResNet-34, T={STEPS}, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
