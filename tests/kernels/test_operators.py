"""LIF, alone and behind a norm, as an operator of torch: what takes graphs of operators takes it."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.norm_lif import norm_lif
from tser_lightning.kernels.operators import encode
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.models import Student
from tser_lightning.models.fusing import Layers
from tser_lightning.neurons import LIF, LSG, PLIF, Neuron
from tser_lightning.neurons.batch_norm import batch_norm

OPERATORS = torch.ops.tser_lightning
SPEC = NeuronSpec(backend="eager")


def number(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True)


def lif_inputs() -> dict[str, tuple[Any, ...]]:
    plain = learnt = encode(SPEC, "eager")
    x = torch.randn(3, 2, 4, 5, 6, requires_grad=True)
    v_init = torch.rand(2, 4, 5, 6, requires_grad=True)
    return {
        "plain": (x, None, None, None, plain),
        "learnt": (x, v_init, number(0.5), torch.tensor(3.0), learnt),
        "bfloat16": (x.detach().bfloat16().requires_grad_(), number(0.3), None, None, plain),
        "channels_last": (x.detach().transpose(2, 4).requires_grad_(), v_init.transpose(1, 3), None, None, plain),
        "static": (x[:1].expand(3, -1, -1, -1, -1), None, None, None, plain),
        "sliced": (x[:, :, ::2], None, None, None, plain),
    }


def norm_lif_inputs() -> dict[str, tuple[Any, ...]]:
    of_batch = encode(SPEC, "eager", 3, False, True, 1e-5)
    running = encode(SPEC, "eager", 3, True, False, 1e-5)
    y, residual = torch.randn(2, 6, 3, 4, 5).unbind()
    moments = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
    affine = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    last = [tensor.contiguous(memory_format=torch.channels_last).requires_grad_() for tensor in (y, residual)]
    return {
        "of_batch": (y.requires_grad_(), None, *affine, *moments, None, None, of_batch),
        "residual": (*last, *affine, *moments, None, None, of_batch),
        "running": (y, residual.requires_grad_(), None, None, *moments, number(0.5), None, running),
    }


@pytest.mark.parametrize("case", lif_inputs())
def test_lif_is_a_sound_operator(case: str) -> None:
    torch.library.opcheck(OPERATORS.lif, lif_inputs()[case])


@pytest.mark.parametrize("case", norm_lif_inputs())
def test_norm_lif_is_a_sound_operator(case: str) -> None:
    torch.library.opcheck(OPERATORS.norm_lif, norm_lif_inputs()[case])


def test_the_operators_without_a_derivative_are_sound() -> None:
    x, *others = lif_inputs()["plain"]
    torch.library.opcheck(OPERATORS.lif_backward, (x.detach(), *others, torch.randn_like(x), None, False))
    inputs = [v.detach() if isinstance(v, Tensor) else v for v in norm_lif_inputs()["residual"]]
    needed = [True, True, True, False, False]
    torch.library.opcheck(OPERATORS.norm_lif_backward, (torch.randn_like(inputs[0]), *inputs, needed))
    torch.library.opcheck(OPERATORS.batch_moments, (inputs[0], torch.zeros(3), torch.ones(3), 0.1))


@pytest.mark.parametrize("neuron", [LIF, PLIF, LSG])
def test_whoever_calls_an_operator_gets_its_derivative(neuron: type[LIF]) -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    layer = neuron().double()
    spikes, _ = OPERATORS.lif(x, None, layer.leak(), layer.width(), encode(layer.spec, "eager"))
    expected = layer(x)
    assert torch.equal(spikes, expected)
    wanted = [x, *layer.parameters()]
    for create_graph in (False, True):
        grads = [
            torch.autograd.grad(y.square().sum(), wanted, create_graph=create_graph, retain_graph=True)
            for y in (spikes, expected)
        ]
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs)


def small(neuron: Callable[[int], Neuron] = LIF) -> Student:
    torch.manual_seed(0)
    layers = Layers(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), neuron(4), nn.Conv2d(4, 4, 3), neuron(4))
    return Student(nn.Sequential(layers, nn.Flatten(), nn.LazyLinear(3)), timesteps=3)


def after_a_step(student: Student, call: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Logits, gradients and buffers."""
    logits_TBC = call(torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(1)))
    logits_TBC.float().square().sum().backward()
    return [logits_TBC, *(p.grad for p in student.parameters() if p.grad is not None), *student.buffers()]


def pair(neuron: Callable[[int], Neuron] = LIF) -> tuple[Student, Student]:
    student = small(neuron)
    student(torch.randn(2, 2, 6, 6))
    return student, deepcopy(student)


def same(ours: list[Tensor], expected: list[Tensor], rtol: float = 0, atol: float = 0) -> None:
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def test_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    student, eager = pair(PLIF)
    compiled = torch.compile(student, fullgraph=True, backend="aot_eager")
    same(after_a_step(student, compiled), after_a_step(eager, eager), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_can_be_recomputed(reentrant: bool) -> None:
    norm = nn.BatchNorm2d(4, momentum=0.0)  # so that a second forward leaves the running statistics as they are
    y = torch.randn(6, 4, 3, 3, requires_grad=True)

    def block(y: Tensor) -> Tensor:
        spikes = norm_lif(y, None, batch_norm(norm, y), 3, False, SPEC)
        return lif((spikes + y).unflatten(0, (3, 2)))[0]

    weights = torch.arange(y.numel()).view(3, 2, 4, 3, 3).cos()
    spikes, recomputed = block(y), checkpoint(block, y, use_reentrant=reentrant)
    assert torch.equal(recomputed, spikes)
    found = []
    for out in (spikes, recomputed):
        y.grad = norm.weight.grad = norm.bias.grad = None
        (out * weights).sum().backward()
        found.append([y.grad, norm.weight.grad, norm.bias.grad])
    for ours, expected in zip(*found, strict=True):
        assert torch.equal(ours, expected)


def test_ddp_sees_its_parameters(tmp_path: Path) -> None:
    student, eager = pair(PLIF)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(student)
        same(after_a_step(student, parallel), after_a_step(eager, eager))
    finally:
        torch.distributed.destroy_process_group()


def test_autocast_hands_it_bfloat16() -> None:
    student, eager = pair()
    wide = after_a_step(eager, eager)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = after_a_step(student, student)
    assert narrow[0].dtype == torch.bfloat16
    ours, expected = (torch.cat([grad.float().flatten() for grad in found[1:-3]]) for found in (narrow, wide))
    assert (ours - expected).norm() < 0.1 * expected.norm()
