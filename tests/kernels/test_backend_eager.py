from typing import Any

import pytest
import torch
from torch import Tensor

from tser_lightning.kernels import backend_eager
from tser_lightning.kernels.lif import lif


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
    cpu = torch.device("cpu")
    for neurons in (0, 1, 32768, 100_000):
        covered = [i for block in backend_eager.blocks(neurons, cpu) for i in range(neurons)[block]]
        assert covered == list(range(neurons))
    assert len(list(backend_eager.blocks(10**6, torch.device("meta")))) == 1


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
