"""The kernels of batch norm with LIF against eager: surrogates, dtypes, resets; `norm_forms` has the rest."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_check.comparison import DTYPES, IN_SMALL, Case, Results, compare
from benchmarks.gpu_check.lif_kernels import RESETS
from benchmarks.gpu_check.lines import Report
from benchmarks.rounds import DEVICE
from tser_lightning.kernels.norm_lif import norm_lif
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.kernels.surrogate import SURROGATES
from tser_lightning.neurons.batch_norm import batch_norm

SHAPE = (2, 3, 4, 4) if IN_SMALL else (5, 70, 9, 7)  # more channels than a tile has, and no multiple of it


@dataclass(frozen=True)
class Form:
    """How the norm and the neurons are asked.

    Attributes:
        shape: [B, C, H, W].
        steps: T.
        last: Whether channels lie last in memory.
        static: Whether all steps see the same images.
        residual: Whether something is added after the norm.
        training: Whether statistics are those of the batch.
        learnt: Whether decay and surrogate scale are tensors.
    """

    shape: tuple[int, ...] = SHAPE
    steps: int = 4
    last: bool = True
    static: bool = False
    residual: bool = False
    training: bool = True
    learnt: bool = False

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor]:
        """Give y, residual and the gradient of the spikes; the same numbers on every device."""
        generator = torch.Generator().manual_seed(0)
        images, (_, *size) = self.shape[0], self.shape
        folded = (images * (1 if self.static else self.steps), *size)
        y = 2 * torch.randn(folded, generator=generator) + 0.5
        residual = (torch.rand(folded, generator=generator) < 0.3).float()
        weights = torch.randn(images * self.steps, *size, generator=generator)
        layout = torch.channels_last if self.last else torch.contiguous_format
        found = [tensor.to(dtype).to(DEVICE, memory_format=layout) for tensor in (y, residual, weights)]
        return found[0], found[1] if self.residual else None, found[2]


def case(name: str, form: Form, dtype: torch.dtype = torch.float32, **settings: Any) -> Case:
    """Make a case of a form, with the settings of `NeuronSpec`."""

    def run(backend: str, precision: torch.dtype) -> Results:
        torch.manual_seed(1)
        norm = nn.BatchNorm2d(form.shape[1]).train(form.training)
        for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 2)  # type: ignore[arg-type]
        norm.to(DEVICE)
        y, residual, weights = (
            None if tensor is None else tensor.to(precision).detach().requires_grad_() for tensor in form.inputs(dtype)
        )
        assert y is not None
        assert weights is not None
        decay, scale = (torch.tensor(x, device=DEVICE, requires_grad=form.learnt) for x in (0.6, 3.0))
        learnt = (decay, scale.detach()) if form.learnt else (None, None)
        spec = NeuronSpec(backend=backend, **settings)
        spikes = norm_lif(y, residual, batch_norm(norm, y), form.steps, form.static, spec, *learnt)
        wanted = [y, *norm.parameters(), *([] if residual is None else [residual]), *([decay] if form.learnt else [])]
        grads = torch.autograd.grad(spikes, wanted, weights.detach().to(spikes.dtype))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return Results(spikes.detach(), [*grads, norm.running_mean, norm.running_var])

    return Case(f"{name}: {form}", run, dtype)


def surrogates() -> Iterator[tuple[str, list[Case]]]:
    """All of them, in all dtypes, alone and with a residual."""
    forms = (Form(), Form(last=False, residual=True), Form(static=True, training=False))
    for surrogate in SURROGATES:
        made = [case(f"{dtype}", form, dtype, surrogate=surrogate) for dtype, form in zip(DTYPES, forms, strict=True)]
        yield f"norm and LIF, {surrogate}, dtypes", made


def switches() -> list[Case]:
    """Every reset, with and without its gradient, with and without the decay of the input; learnt."""
    every = itertools.product(RESETS, (False, True), (False, True))
    return [
        case(f"{how}", Form(steps=2, learnt=True), reset=how[0], detach_reset=how[1], decay_input=how[2], v_init=0.3)
        for how in every
    ]


def main(report: Report) -> None:
    """Compare and report."""
    for what, cases in surrogates():
        compare(report, what, cases)
    compare(report, "norm and LIF, resets, detached, decay of the input; learnt", switches())
