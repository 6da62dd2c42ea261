from typing import Any

import pytest
import torch
from torch import Tensor

from tser_lightning.kernels import backend_eager
from tser_lightning.kernels.batch_norm import BatchNorm
from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.norm_lif import norm_lif, norm_lif_step
from tser_lightning.kernels.spec import NeuronSpec


def results(x: Tensor, backend: str, **settings: Any) -> list[Tensor]:
    source = torch.Generator().manual_seed(1)
    v_init = torch.rand(x.shape[1:], generator=source, dtype=x.dtype).requires_grad_()
    decay = torch.tensor(0.6, dtype=x.dtype, requires_grad=True)
    spikes, v_last = lif(x, decay=decay, v_init=v_init, backend=backend, **settings)
    cotangent = torch.rand(x.shape, generator=source, dtype=x.dtype)
    grads = torch.autograd.grad((spikes * cotangent).sum() + v_last.square().sum(), (x, v_init, decay))
    return [spikes, v_last, *grads]


@pytest.mark.parametrize(
    "settings",
    [{}, {"reset": "soft"}, {"reset": "soft_delayed"}, {"detach_reset": True, "decay_input": False}],
    ids=str,
)
def test_blocks_of_any_size_give_the_numbers_of_the_reference(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = (2 * torch.randn(3, 7, 11, dtype=torch.float64)).requires_grad_()
    expected = results(x, "reference", **settings)
    for size in (1, 10, 77, 1000):
        monkeypatch.setattr(backend_eager, "NEURONS_PER_THREAD", size)
        for ours, theirs in zip(results(x, "eager", **settings), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_float32_spikes_flip_less_than_once_in_a_million() -> None:
    x = (2 * torch.randn(4, 300_000)).requires_grad_()
    cotangent = torch.randn_like(x)
    (ours, _), (expected, _) = (lif(x, backend=backend) for backend in ("eager", "reference"))
    assert (ours != expected).sum() <= 1
    grad, expected_grad = (torch.autograd.grad(s, x, cotangent)[0] for s in (ours, expected))
    assert (grad - expected_grad).norm() <= 1e-6 * expected_grad.norm()


def test_every_neuron_is_in_one_block() -> None:
    for shape in ((0,), (1,), (32768,), (100_000,), (9, 30_000), (3, 100_000), (5, 0)):
        rows = shape[0]
        cuts = list(backend_eager.blocks(torch.empty(shape)))
        assert [i for some in cuts for i in range(rows)[some]] == list(range(rows))
    assert len(cuts) == 1
    assert len(list(backend_eager.blocks(torch.empty(10**6, device="meta")))) == 1


@pytest.mark.parametrize("decay", [0.5, 0.6, torch.tensor(0.6)], ids=str)
@pytest.mark.parametrize("reset", ["hard", "soft", "soft_delayed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_without_gradients_are_the_whole_run_to_the_last_bit(reset: Any, decay: Any, dtype: torch.dtype) -> None:
    x = (2 * torch.randn(4, 3, 5, 2, 6)).to(dtype).permute(0, 1, 4, 2, 3)  # [T, B, C, H, W], channels last
    settings: dict[str, Any] = {"decay": decay, "reset": reset, "v_init": 0.25}
    expected, last = lif(x, **settings)
    found = []
    with torch.no_grad():
        for step in range(4):
            spikes, settings["v_init"] = lif(x[step : step + 1], **settings)
            assert spikes.stride()[1:] == x.stride()[1:]
            found.append(spikes)
    assert torch.equal(torch.cat(found), expected)
    assert torch.equal(settings["v_init"], last)


@pytest.mark.parametrize("size", [1, 200, 1 << 16])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("added", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_norm_and_neurons_step_by_step_are_the_whole_run_to_the_last_bit(
    dtype: torch.dtype, added: bool, last: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_eager, "NEURONS_PER_THREAD", size)
    layout = torch.channels_last if last else torch.contiguous_format
    y_TB, residual_TB = (torch.randn(4 * 5, 6, 4, 3).to(dtype).contiguous(memory_format=layout) for _ in range(2))
    weight, bias, mean, var = torch.rand(4, 6, dtype=torch.promote_types(dtype, torch.float32)) + 0.5
    norm = BatchNorm(weight, bias, mean, var, of_batch=False, eps=1e-5)
    spec, decay = NeuronSpec(v_init=0.25, reset="soft"), torch.tensor(0.6)
    with torch.no_grad():
        expected = norm_lif(y_TB, residual_TB if added else None, norm, 4, False, spec, decay)
        found, v = [], None
        for y, residual in zip(y_TB.chunk(4), residual_TB.chunk(4), strict=True):
            given = y.clone(), residual.clone()
            spikes, v = norm_lif_step(y, residual if added else None, norm, v, spec, decay)
            assert spikes.stride() == y.stride()
            assert torch.equal(y, given[0])
            assert torch.equal(residual, given[1])
            found.append(spikes)
    assert 0 < expected.mean() < 1
    assert torch.equal(torch.cat(found), expected)
