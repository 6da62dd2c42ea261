"""What all steps of a stream cost beside one call of the same student: T = 4, eval mode, no autograd.

"folded" has the batch norms in the convolutions before them (`models.folding.fold_norms`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import tser_lightning as tl
from benchmarks.rounds import report, start, times
from tser_lightning.models import Student
from tser_lightning.models.folding import fold_norms

CASES = [
    ("cnn_small", (1, 8, 8), 1),
    ("cnn_small", (1, 8, 8), 32),
    ("resnet_small", (3, 32, 32), 1),
    ("resnet_small", (3, 32, 32), 32),
    ("resnet18", (3, 32, 32), 1),
    ("resnet18", (3, 32, 32), 32),
]


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


@torch.no_grad()
def main() -> None:
    """Measure and report."""
    start()
    rows: list[dict[str, Any]] = []
    for name, shape, batch in CASES:
        images = torch.randn(batch, *shape)
        student = awake(name, shape[0])
        folded = fold_norms(student, images[:2])
        assert isinstance(folded, Student)
        case = f"{name}, batch {batch}"
        whole, each = f"{case}: whole", f"{case}: stream"
        functions: dict[str, Callable[[], object]] = {
            whole: partial(student, images),
            each: partial(streamed, student, images),
            f"{each} folded": partial(streamed, folded, images),
        }
        found = times(functions)
        rows += [{"what": key, "ms": 1000 * t, "of the whole call": t / found[whole]} for key, t in found.items()]
    report("stream", "All steps of a stream, T=4", rows)


if __name__ == "__main__":
    main()
