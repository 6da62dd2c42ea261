"""Triton's numbers against eager's in float32, case by case, one line for a group of cases.

Both see the same values: 16-bit inputs are made wide for eager. A spike whose membrane lies at the threshold may flip
by rounding, and its gradient with it: one may, or the share `FLIPPED` of them, and gradients may then be off by more.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import ON_GPU

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GRADIENTS = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # norm of the difference, of the whole
FLIPPED = 1e-4
IN_SMALL = not ON_GPU


@dataclass
class Results:
    """What one backend gave.

    Attributes:
        spikes: 0 and 1.
        others: Last membranes and gradients.
    """

    spikes: Tensor
    others: list[Tensor]


@dataclass
class Case:
    """One comparison.

    Attributes:
        name: Says what it is where it does not hold.
        run: Takes a backend and the dtype of the inputs, gives the results; draws the same inputs each time.
        dtype: Of the inputs of the backend that is checked.
    """

    name: str
    run: Callable[[str, torch.dtype], Results]
    dtype: torch.dtype = torch.float32

    def error(self) -> float:
        """The largest error, in parts of what is allowed: at most 1 where the backends agree."""
        ours, expected = self.run("triton", self.dtype), self.run("eager", torch.float32)
        assert ours.spikes.dtype == self.dtype, f"spikes are {ours.spikes.dtype}"
        differ = int((ours.spikes.float() != expected.spikes).sum())
        share = differ / max(1, expected.spikes.numel())
        flipped = 0.0 if differ <= 1 else share / FLIPPED
        allowed = GRADIENTS[self.dtype] + 3 * math.sqrt(share)
        gaps = [gap(a, b) for a, b in zip(ours.others, expected.others, strict=True)]
        return max(flipped, *(found / allowed for found in gaps))


def gap(ours: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; infinite where ours is no number."""
    difference = (ours.double() - expected.double()).norm()
    relative = float(difference / expected.double().norm().clamp(min=1e-12))
    return relative if relative == relative else float("inf")


def compare(report: Report, what: str, cases: Iterable[Case]) -> None:
    """Report a group: its worst error, in parts of what is allowed, and the cases that do not hold or cannot run."""
    errors, notes = [], []
    for case in cases:
        try:
            errors.append(case.error())
        except Exception as error:  # a kernel that does not compile is a finding, and the next case is another one
            errors.append(float("inf"))
            notes.append(f"{case.name}: {type(error).__name__}: {str(error).splitlines()[:1]}")
            continue
        if errors[-1] > 1:
            notes.append(f"{case.name}: {errors[-1]:.1f} times what is allowed")
    report.equal(f"{what} ({len(errors)} cases)", max(errors), 1.0, "of what is allowed", "; ".join(notes[:3]))
