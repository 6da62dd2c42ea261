"""What all steps of a stream cost beside one call of the same student: T = 4, eval mode, no autograd.

Beside each stands its floor, the convolutions alone: what they take with T x B images at once, and T times with B, on
what reaches them there. A ratio is the median over the rounds, each of the two right after the other.
"""

import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import tser_lightning as tl
from benchmarks.rounds import report, samples, start
from tser_lightning.models import Student

CASES = {  # size of the images, calls and rounds
    "cnn_small": ((1, 8, 8), 20, 15),
    "resnet18": ((3, 32, 32), 1, 9),
    "sew_resnet34": ((3, 224, 224), 1, 5),
}
NETS = os.environ.get("NETS", ",".join(CASES)).split(",")
BATCHES = [int(batch) for batch in os.environ.get("BATCH", "1,8").split(",")]


def awake(name: str, channels: int) -> Student:
    """Make a student whose neurons fire."""
    student = tl.build_student(name, in_channels=channels, timesteps=4)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1, 3)
            nn.init.uniform_(module.bias, 0, 1)
    return student.eval()


def streamed(student: Student, images: Tensor) -> list[Tensor]:
    """Run all steps, one after the other."""
    return list(student.stream(images))


def convolutions(student: Student, run: Callable[[], object]) -> Callable[[], object]:
    """Give the convolutions of a run by themselves, on what reached them; what was remembered counts once."""
    seen: dict[int, tuple[nn.Module, Tensor, Tensor]] = {}

    def note(conv: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        seen[id(y)] = conv, args[0], y  # outputs are held, so that no identity is given away again

    handles = [conv.register_forward_hook(note) for conv in student.modules() if isinstance(conv, nn.Conv2d)]
    run()
    for handle in handles:
        handle.remove()
    calls = [(conv, x) for conv, x, _ in seen.values()]
    return lambda: [conv(x) for conv, x in calls]


def often(calls: int, function: Callable[[], object]) -> Callable[[], None]:
    """Call a function so many times."""

    def call() -> None:
        for _ in range(calls):
            function()

    return call


def ratio(found: dict[str, list[float]], one: str, other: str) -> float:
    """Median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(found[one], found[other], strict=True))


@torch.no_grad()
def main() -> None:
    """Measure and report."""
    start()
    rows: list[dict[str, Any]] = []
    for name in NETS:
        shape, calls, rounds = CASES[name]
        for batch in BATCHES:
            images, student = torch.randn(batch, *shape), awake(name, shape[0])
            ways: dict[str, Callable[[], object]] = {
                "call": partial(student, images),
                "stream": partial(streamed, student, images),
            }
            alone = {f"{way}, convolutions": convolutions(student, run) for way, run in ways.items()}
            found = samples({way: often(calls, run) for way, run in {**ways, **alone}.items()}, rounds)
            milliseconds = {way: 1000 * statistics.median(seconds) / calls for way, seconds in found.items()}
            row: dict[str, Any] = {"what": f"{name}, batch {batch}"}
            row |= {f"{way}, ms": milliseconds[way] for way in ways}
            row["stream of call"] = ratio(found, "stream", "call")
            row["convolutions alone"] = ratio(found, "stream, convolutions", "call, convolutions")
            row["rest, ms"] = milliseconds["stream"] - milliseconds["stream, convolutions"]
            row["rest of call, ms"] = milliseconds["call"] - milliseconds["call, convolutions"]
            rows.append(row)
    report("stream", "All steps of a stream, T=4", rows)


if __name__ == "__main__":
    main()
