"""The distillation step, ResNet-18 from ResNet-34: bf16 and tf32, compiled, as CUDA graphs; see `benchmarks.step`."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.gpu_check.lines import Report
from benchmarks.gpu_check.packages import PEER as PEER_PACKAGE
from benchmarks.profile import row
from benchmarks.rounds import DEVICE, ON_GPU, times
from benchmarks.step import BATCH, PEER, STEPS, parts, roofline, step
from tser_lightning.models.resnet import resnet34
from tser_lightning.training.inference import for_inference

OURS = "ours, triton fused nhwc" if ON_GPU else "ours, eager fused nhwc"
BEST = f"{OURS} bf16" if ON_GPU else OURS
PLAIN = (OURS, BEST, f"{BEST} low") if ON_GPU else (OURS,)
COMPILED = (f"{BEST} whole", f"{BEST} graphs")
DEFAULT, POLICY = f"{PEER} bf16", f"{PEER} bf16 policy"
PEERS = (PEER, DEFAULT, POLICY) if ON_GPU else (PEER,)
FASTER = {DEFAULT: 2.5, POLICY: 1.2}
OF_ROOFLINE = 0.5


class Steps:
    """Makes, warms up and times steps, and reports those that break.

    Args:
        report: Where the lines go.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        torch.set_float32_matmul_precision("high")  # tf32, for all alike
        self.images: Tensor = torch.randn(BATCH, 3, 32, 32, device=DEVICE)
        self.teacher: nn.Module = resnet34(100).eval().requires_grad_(False).to(DEVICE)
        self.fast = for_inference(self.teacher, self.images[:2])

    def teacher_of(self, name: str) -> nn.Module:
        """The teacher that a variant asks."""
        return self.fast if name.startswith("ours") else self.teacher

    def timed(self, names: Sequence[str]) -> dict[str, float]:
        """Seconds of each variant that runs, in rounds; they are reported."""
        working: dict[str, Callable[[], object]] = {}
        for name in names:
            try:
                run = step(name, STEPS[0], self.images, self.teacher_of(name))
                run()
            except Exception as error:  # the others can still be timed
                why = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
                self.report.write(f"step, {name}", "fail" if name.startswith("ours") else "not measured", note=why)
            else:
                working[name] = run
        found = times(working)
        for name, seconds in found.items():
            self.report.figure(f"step, {name}", 1e3 * seconds, "ms", note=f"{BATCH / seconds:,.0f} images/s")
        return found

    def profiled(self, name: str) -> None:
        """Report where a variant's time goes."""
        made = parts(name, STEPS[0], self.images, self.teacher_of(name))
        row(made)  # the first call compiles
        for what, milliseconds in row(made).items():
            self.report.figure(f"step, {name}: {what}", milliseconds, "ms")


def main(report: Report) -> None:
    """Measure and report; what must be compiled comes last, because it may be cut off."""
    there = find_spec(PEER_PACKAGE) is not None
    steps = Steps(report)
    found = steps.timed((*PLAIN, *(PEERS if there else ())))
    if not there:
        report.skipped("SpikingJelly's step", f"{PEER_PACKAGE} is not here")
    for peer, factor in FASTER.items():
        if peer in found and BEST in found:
            report.figure(f"{BEST} against {peer}", found[peer] / found[BEST], "times faster", least=factor)
    if BEST in found:
        share = roofline(BEST, STEPS[0], steps.images, steps.fast) / found[BEST]
        report.figure(f"{BEST}, of its roofline", share, "of the roofline", least=OF_ROOFLINE)
    for name in [name for name in (BEST, DEFAULT) if name in found]:
        steps.profiled(name)
    if ON_GPU:
        steps.timed((BEST, *COMPILED))
    else:
        report.skipped("step, compiled and as CUDA graphs", "needs a GPU")
