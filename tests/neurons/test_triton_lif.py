"""The kernels without a GPU, in processes of their own: in Triton's interpreter, and compiled for an H100 or H200."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import itertools, torch
from tser_lightning.neurons.lif import lif
from tser_lightning.neurons.surrogate import SURROGATES
torch.manual_seed(0)

def results(backend, x, decay, v_init, **settings):
    x = x.detach().clone().requires_grad_()
    spikes, last = lif(x, decay=decay, v_init=v_init, backend=backend, **settings)
    wanted = [value for value in (x, decay, v_init) if isinstance(value, torch.Tensor)]
    weights = torch.arange(spikes.numel()).view(spikes.shape).cos()
    total = (spikes * weights).sum() + (last.square().sum() if v_init is not None else 0)
    return [spikes, last, *torch.autograd.grad(total, wanted)]

def compare(x, decay=0.5, v_init=None, **settings):
    for ours, expected in zip(*(results(b, x, decay, v_init, **settings) for b in ("triton", "eager")), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5, msg=lambda m: f"{settings} {x.shape}: {m}")

for name, reset, detach, decay_input in itertools.product(SURROGATES, ("hard", "soft"), (False, True), (False, True)):
    x = 2 * torch.randn(4, 3, 400)
    compare(x, torch.tensor(0.6, requires_grad=True), torch.rand(3, 400, requires_grad=True), surrogate=name,
            reset=reset, detach_reset=detach, decay_input=decay_input)
for shape in [(1, 2, 3), (4,), (3, 0, 5), (6, 1025), (2, 1, 1)]:
    compare(2 * torch.randn(shape))
x = 2 * torch.randn(2, 5, 3, 4, 4)
compare(x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3))
compare(x[:, :, ::2])
compare(x[:1].expand(4, 5, 3, 4, 4))
compare(x[0], v_init=torch.tensor(0.4, requires_grad=True))
spikes, last = lif((2 * torch.randn(4, 100)).bfloat16(), backend="triton")
assert spikes.dtype == torch.bfloat16 and last.dtype == torch.float32
big = 2 * torch.randn(4, 50_000)
flips = (lif(big, backend="triton")[0] != lif(big, backend="reference")[0]).sum()
assert flips <= 1, flips
from tser_lightning.models import Student
from tser_lightning.models.resnet import resnet_small
from functools import partial
from tser_lightning.neurons import LIF
grads = []
for backend in ("triton", "eager"):
    torch.manual_seed(1)
    student = Student(resnet_small(5, 3, partial(LIF, backend=backend), widths=(4, 8)), 3)
    student(torch.randn(2, 3, 8, 8)).square().sum().backward()
    grads.append([p.grad for p in student.parameters()])
for ours, expected in zip(*grads):
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
"""

COMPILED = """
import re, subprocess, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tser_lightning.neurons import triton_kernels as kernels

def compile_for(kernel, pointers, numbers, **constants):
    names = kernel.arg_names
    types = {n: pointers.get(n) or numbers.get(n) or "constexpr" for n in names}
    aligned = [*pointers, "M", "x_step", "grad_step"]
    built = triton.compile(
        ASTSource(kernel, types, {(names.index(n),): v for n, v in constants.items()},
                  {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in aligned}),
        target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    loads, stores = (re.findall(rf"{kind}\\.global\\S*", built.asm["ptx"]) for kind in ("ld", "st"))
    wide = lambda found: sum(name.endswith("v4.b32") for name in found)
    assert ".local" not in built.asm["ptx"]
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(built.asm["cubin"]); cubin.flush()
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", cubin.name], capture_output=True, text=True).stdout
    assert "STACK:0" in usage and "LOCAL:0" in usage, usage
    return len(loads) - wide(loads), wide(loads), len(stores) - wide(stores), wide(stores)

T = 4
common = dict(T=T, OWN_V=False, LEARNT=False, DECAY_INPUT=True, HARD=True, BLOCK=1024)
for dtype, share in (("bf16", 1), ("fp32", 2)):  # eight numbers are one access of 16 bytes, or two
    tensor, number = "*" + dtype, dict(decay="fp32", scale="fp32", threshold="fp32", M="i32", x_step="i32")
    found = compile_for(kernels.forward_kernel, dict(x_ptr=tensor, v_ptr="*fp32", spikes_ptr=tensor, last_ptr="*fp32"),
                        number, **common)
    assert found == (1, T * share, 0, T * share + 2), found  # the start, x; spikes, the last membrane
    found = compile_for(
        kernels.backward_kernel,
        dict(x_ptr=tensor, v_ptr="*fp32", grad_ptr=tensor, grad_last_ptr="*fp32", grad_x_ptr=tensor,
             grad_v_ptr="*fp32", grad_decay_ptr="*fp32"), number | dict(grad_step="i32"), HAS_LAST=False,
        LEARNT_SCALE=False, LEARN_DECAY=False, DETACH=False, SURROGATE="sigmoid", **common)
    assert found == (1, 2 * T * share, 1, T * share), found  # x and the gradient; the gradient, a sum per program
"""


def run(script: str, **environment: str) -> None:
    call = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "exec(open(0).read())"],
        input=script,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert call.returncode == 0, call.stderr[-2000:]


@pytest.mark.slow
def test_the_interpreter_gives_eagers_numbers() -> None:
    run(INTERPRETED, TRITON_INTERPRET="1")


@pytest.mark.slow
def test_kernels_for_sm_90_move_16_bytes_at_a_time_and_spill_nothing() -> None:
    run(COMPILED, TRITON_INTERPRET="0")


def test_triton_without_a_gpu_is_refused() -> None:
    import torch

    from tser_lightning.neurons import lif

    with pytest.raises(ValueError, match=r"needs a GPU"):
        lif(torch.zeros(1, 1), backend="triton")
