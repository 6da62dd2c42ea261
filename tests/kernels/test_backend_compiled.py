"""A norm and neurons as torch.compile gets them, against the eager blocks, which are tested against autograd."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.kernels.backend_compiled import compiled_body
from tser_lightning.kernels.norm_lif import norm_lif
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.neurons.batch_norm import batch_norm

CASES = list(
    itertools.product((False, True), repeat=4)
)  # channels last, one image for all steps, residual, learnt decay


def results(
    backend: str,
    case: tuple[bool, ...],
    reset: Any = "hard",
    dtype: torch.dtype = torch.float64,
    rounded: torch.dtype | None = None,
    training: bool = True,
    size: int = 6,
) -> dict[str, Tensor]:
    """Spikes and gradients of three steps of two images; `rounded`: the numbers are such of another dtype."""
    last, static, added, learns = case
    generator = torch.Generator().manual_seed(0)

    def drawn(images: int, of: Callable[..., Tensor] = torch.randn) -> Tensor:
        layout = torch.channels_last if last else torch.contiguous_format
        numbers = of(images, 5, size, 7, generator=generator, dtype=torch.float64).to(rounded or dtype)
        return numbers.to(dtype).contiguous(memory_format=layout).requires_grad_()

    y, residual = drawn(2 if static else 6), drawn(2 if static else 6, torch.rand) if added else None
    norm = nn.BatchNorm2d(5).to(torch.promote_types(dtype, torch.float32)).train(training)
    nn.init.normal_(norm.weight, generator=generator)
    nn.init.normal_(norm.bias, 1, generator=generator)
    decay = torch.tensor(0.6, dtype=norm.weight.dtype, requires_grad=True) if learns else 0.6
    spec = NeuronSpec(decay=0.6, v_init=0.2, reset=reset, backend=backend)
    learnt = decay if isinstance(decay, Tensor) else None
    spikes = norm_lif(y, residual, batch_norm(norm, y), 3, static, spec, learnt)
    inputs = {"y": y, "residual": residual, "weight": norm.weight, "bias": norm.bias, "decay": decay}
    wanted = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    found = torch.autograd.grad(spikes, list(wanted.values()), drawn(6).detach())
    return {"spikes": spikes.detach(), **dict(zip(wanted, found, strict=True))}


def same(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == expected.keys()
    assert torch.equal(ours["spikes"], expected["spikes"])
    assert 0.05 < expected["spikes"].double().mean() < 0.95
    for name in expected:
        assert ours[name].dtype == expected[name].dtype
        torch.testing.assert_close(ours[name], expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reset", ["hard", "soft", "soft_delayed"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_its_source_is_the_eager_neuron(case: tuple[bool, ...], reset: str) -> None:
    with torch.compiler.set_stance("force_eager"):
        ours = results("compiled", case, reset=reset)
    same(ours, results("eager", case, reset=reset), 1e-9)
    assert ours["spikes"].is_contiguous(memory_format=torch.channels_last) == case[0]
    assert ours["y"].is_contiguous(memory_format=torch.channels_last) == case[0]


def test_constant_statistics() -> None:
    with torch.compiler.set_stance("force_eager"):
        ours = results("compiled", (True, False, True, False), training=False)
    same(ours, results("eager", (True, False, True, False), training=False), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_is_eager(case: tuple[bool, ...], dtype: torch.dtype) -> None:
    for size in (6, 9):  # the second with the kernels of the first
        ours, expected = (results(name, case, dtype=dtype, size=size) for name in ("compiled", "eager"))
        same(ours, expected, 1e-9 if dtype == torch.float64 else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16_is_rounded_at_the_ends_alone(case: tuple[bool, ...]) -> None:
    ours = results("compiled", case, dtype=torch.bfloat16)
    expected = results("eager", case, dtype=torch.float32, rounded=torch.bfloat16)
    assert {name: value.dtype for name, value in ours.items()} == {
        name: torch.bfloat16 if name in ("spikes", "y", "residual") else torch.float32 for name in expected
    }
    same({name: value.float() for name, value in ours.items()}, expected, 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("added", [False, True])
def test_is_one_kernel_each_way(added: bool) -> None:
    from torch._inductor import config, metrics

    torch.compiler.reset()
    compiled_body.cache_clear()
    metrics.reset()
    with config.patch(force_disable_caches=True):
        results("compiled", (True, False, added, False), dtype=torch.float32, size=50)
    assert metrics.generated_kernel_count == 2


@pytest.mark.slow
def test_many_lengths_in_one_process_all_stay_compiled(recwarn: pytest.WarningsRecorder) -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    norm, spec = nn.BatchNorm2d(2), NeuronSpec(backend="compiled")
    for steps in range(1, 11):
        y = torch.randn(2 * steps, 2, 3, 3)
        norm_lif(y, None, batch_norm(norm, y), steps, False, spec)
    assert counters["stats"]["unique_graphs"] == 10
