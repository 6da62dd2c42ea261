"""What the compiler is given, run line by line, against autograd over plain operations."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tser_lightning.kernels.lif import lif

CASES = list(itertools.product(("hard", "soft", "soft_delayed"), (False, True), (False, True), (False, True)))


def results(backend: str, learns: bool, **settings: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.randn(4, 3, 50, generator=generator)).requires_grad_()
    decay = torch.tensor(0.6, requires_grad=learns)
    start = torch.rand(3, 50, generator=generator).requires_grad_()
    spikes, last = lif(x, decay=decay, v_init=start, v_threshold=0.8, backend=backend, **settings)
    weights = torch.arange(spikes.numel()).view(spikes.shape).cos()
    wanted = [x, start, decay] if learns else [x, start]
    return [spikes, last, *torch.autograd.grad((spikes * weights).sum() + last.square().sum(), wanted)]


@pytest.mark.parametrize(("reset", "detach_reset", "decay_input", "learns"), CASES)
def test_the_compilers_source_is_the_reference(reset: str, detach_reset: bool, decay_input: bool, learns: bool) -> None:
    settings = {"reset": reset, "detach_reset": detach_reset, "decay_input": decay_input}
    with torch.compiler.set_stance("force_eager"):
        ours = results("compiled", learns, **settings)
    for one, other in zip(ours, results("reference", learns, **settings), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)
