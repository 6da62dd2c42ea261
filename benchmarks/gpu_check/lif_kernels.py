"""The kernels of LIF against eager: surrogates, dtypes, resets, layouts, odd sizes, T, learnt decay and start."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.gpu_check.comparison import DTYPES, IN_SMALL, Case, Results, compare
from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import DEVICE
from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.spec import Reset
from tser_lightning.kernels.surrogate import SURROGATES

RESETS = get_args(Reset)
WIDE = 40 if IN_SMALL else 5003  # neurons; no multiple of a block
SHAPES = ((1, 2, 3), (4,), (6, 1025), (2, 1, 1), (3, 7, 11), (8, 3, 5), (13, 2, 33))  # T first
Arrange = Callable[[Tensor], Tensor]


def case(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    arrange: Arrange = lambda x: x,
    learnt: bool = False,
    **settings: Any,
) -> Case:
    """Make a case.

    Args:
        name: Says which it is.
        shape: [T, ...] of the currents.
        dtype: Of the currents.
        arrange: Lays them out another way, by a view.
        learnt: Whether decay, surrogate scale and first membrane are tensors, the first and last with gradients.
        settings: Those of `NeuronSpec`.
    """

    def run(backend: str, precision: torch.dtype) -> Results:
        generator = torch.Generator().manual_seed(0)

        def drawn(*size: int) -> Tensor:  # on the CPU, so that every device sees the same
            return (2 * torch.randn(size, generator=generator)).to(dtype)

        x = arrange(drawn(*shape).to(DEVICE, precision)).detach().requires_grad_()
        tensors: dict[str, Tensor] = {}
        if learnt:
            tensors["decay"] = torch.tensor(0.6, device=DEVICE, requires_grad=True)
            tensors["v_init"] = drawn(*shape[1:]).float().to(DEVICE).requires_grad_()
            tensors["surrogate_scale"] = torch.tensor(3.0, device=DEVICE)
        spikes, last = lif(x, backend=backend, **tensors, **settings)
        weights = drawn(*spikes.shape).to(DEVICE, spikes.dtype)
        total = (spikes * weights).sum(dtype=torch.float32) + last.square().sum()
        wanted = [x, *(value for value in tensors.values() if value.requires_grad)]
        return Results(spikes.detach(), [last.detach(), *torch.autograd.grad(total, wanted)])

    return Case(name, run, dtype)


def surrogates() -> Iterator[tuple[str, list[Case]]]:
    """All of them, in all dtypes, with every reset."""
    for surrogate in SURROGATES:
        made = []
        for at, (dtype, reset) in enumerate(itertools.product(DTYPES, RESETS)):
            switches = {"reset": reset, "detach_reset": at % 2 == 1, "decay_input": at % 4 < 2}
            made.append(case(f"{dtype} {switches}", (4, WIDE), dtype, surrogate=surrogate, **switches))
        yield f"LIF, {surrogate}, dtypes and resets", made[::4] if IN_SMALL else made


def switches() -> list[Case]:
    """Every reset, with and without its gradient, with and without the decay of the input; all learnt."""
    every = itertools.product(RESETS, (False, True), (False, True))
    return [
        case(f"{how}", (2 if IN_SMALL else 4, WIDE), learnt=True, reset=how[0], detach_reset=how[1], decay_input=how[2])
        for how in every
    ]


def arrangements() -> list[Case]:
    """Currents that lie otherwise: channels last, a part of a larger tensor, one image for all steps."""
    shape = (4, 2, 6, 5, 7)
    ways: dict[str, Arrange] = {
        "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
        "every other channel": lambda x: x[:, :, ::2],
        "every other image": lambda x: x[:, ::2],
        "one image for all steps": lambda x: x[:1].expand(4, *x.shape[1:]),
        "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    }
    return [case(f"{name} {dtype}", shape, dtype, way) for dtype in DTYPES[:2] for name, way in ways.items()]


def main(report: Report) -> None:
    """Compare and report."""
    for what, cases in surrogates():
        compare(report, what, cases)
    compare(report, "LIF, resets, detached, decay of the input; learnt", switches())
    compare(report, "LIF, layouts", arrangements())
    compare(report, "LIF, odd sizes and T from 1 to 13", [case(f"{shape}", shape) for shape in SHAPES])
    compare(report, "LIF, 16-bit odd sizes", [case(f"{shape}", shape, torch.bfloat16) for shape in SHAPES[-3:]])
