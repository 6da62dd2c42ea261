"""A whole student as a GPU runs it against eager neurons apart from their norms: logits and every gradient.

Convolutions are computed in full float32. The first difference is rounding; the spikes that it flips are counted in.
"""

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_check.comparison import gap
from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import DEVICE, ON_GPU
from tser_lightning.models import Student
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training.speed import CUDA_GRAPHS, compiled

ALLOWED = 2e-2
BATCH, STEPS, SIZE, WIDTHS = (16, 4, 32, (32, 64)) if ON_GPU else (2, 2, 8, (4, 8))
PATHS = ("triton", "triton fused", "triton fused nhwc", "triton fused nhwc low", "triton fused nhwc lowest")
COMPILED = ("triton fused nhwc whole", "triton fused nhwc graphs")


def results(name: str) -> list[Tensor]:
    """Logits and gradients of a student that is named as in `benchmarks.peers`."""
    torch.manual_seed(0)
    neuron = partial(LIF, backend="triton" if "triton" in name else "eager")
    student = Student(resnet_small(10, 3, neuron, widths=WIDTHS), STEPS).to(DEVICE)
    images = torch.randn(BATCH, 3, SIZE, SIZE).to(DEVICE)
    allow_fusing(student, "fused" in name)
    student.saves_memory, student.recomputes = "low" in name, "lowest" in name
    if "nhwc" in name:
        lay_out(student, images[:2], DEVICE)
    call = compiled(student, CUDA_GRAPHS if "graphs" in name else "whole" in name)
    for _ in range(3 if "graphs" in name else 1):  # the first warms up, the second records, the third is the graph
        torch.compiler.cudagraph_mark_step_begin()
        student.zero_grad()
        logits_TBC = call(images)
        found = logits_TBC.detach().clone()
        logits_TBC.square().sum().backward()
    return [found, *(weights.grad.clone() for weights in student.parameters() if weights.grad is not None)]


def main(report: Report) -> None:
    """Compare and report."""
    torch.backends.cudnn.allow_tf32 = False
    expected = results("eager")
    for name in PATHS:
        _compare(report, name, expected)
    for name in COMPILED:
        if ON_GPU:
            _compare(report, name, expected)
        else:
            report.skipped(f"student, {name}", "needs a GPU")


def _compare(report: Report, name: str, expected: list[Tensor]) -> None:
    try:
        errors = [gap(ours, theirs) for ours, theirs in zip(results(name), expected, strict=True)]
    except Exception as error:  # another path may still work
        report.write(f"student, {name}", "fail", note=f"{type(error).__name__}: {str(error).splitlines()[:1]}")
    else:
        report.equal(f"student, {name}", max(errors), ALLOWED)
