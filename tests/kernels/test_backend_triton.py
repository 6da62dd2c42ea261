"""The kernels without a GPU, in processes of their own: in Triton's interpreter, and compiled for an H100 or H200."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import itertools, torch
from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.surrogate import SURROGATES
torch.manual_seed(0)

def results(backend, x, decay, v_init, **settings):
    x = x.detach().clone().requires_grad_()
    spikes, last = lif(x, decay=decay, v_init=v_init, backend=backend, **settings)
    wanted = [value for value in (x, decay, v_init) if isinstance(value, torch.Tensor)]
    weights = torch.arange(spikes.numel()).view(spikes.shape).cos()
    total = (spikes * weights).sum() + (last.square().sum() if isinstance(v_init, torch.Tensor) else 0)
    return [spikes, last, *torch.autograd.grad(total, wanted)]

def compare(x, decay=0.5, v_init=0.0, **settings):
    for ours, expected in zip(*(results(b, x, decay, v_init, **settings) for b in ("triton", "eager")), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5, msg=lambda m: f"{settings} {x.shape}: {m}")

switches = itertools.product(SURROGATES, ("hard", "soft", "soft_delayed"), (False, True), (False, True))
for name, reset, detach, decay_input in switches:
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
compare(x[0], v_init=0.4)
spikes, last = lif((2 * torch.randn(4, 100)).bfloat16(), backend="triton")
assert spikes.dtype == torch.bfloat16 and last.dtype == torch.float32
big = 2 * torch.randn(4, 50_000)
ours, expected = (results(backend, big, 0.5, 0.0) for backend in ("triton", "reference"))
same = (ours[0] == expected[0]).all(0)
assert (~same).sum() <= 1, (~same).sum()
assert (ours[2] - expected[2])[:, same].norm() <= 1e-6 * expected[2].norm()
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

NORM_INTERPRETED = """
import itertools, torch
from dataclasses import replace
from torch import nn
from tser_lightning.kernels.norm_lif import norm_lif
from tser_lightning.neurons.batch_norm import batch_norm
from tser_lightning.kernels.operators import encode
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.kernels.surrogate import SURROGATES

def results(backend, y, residual, decay, scale, steps, static, affine, training, spec):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(y.shape[1], affine=affine).train(training)
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    y, residual = (None if t is None else t.detach().clone().requires_grad_() for t in (y, residual))
    spec = replace(spec, backend=backend)
    spikes = norm_lif(y, residual, batch_norm(norm, y), steps, static, spec, decay, scale)
    wanted = [t for t in (y, residual, *norm.parameters(), decay) if isinstance(t, torch.Tensor) and t.requires_grad]
    grads = torch.autograd.grad((spikes * torch.arange(spikes.numel()).view(spikes.shape).cos()).sum(), wanted)
    return spikes, [*grads, norm.running_mean, norm.running_var]

def compare(shape, steps, last, static=False, with_residual=False, affine=True, training=True, decay=None, scale=None,
            spec=NeuronSpec()):
    torch.manual_seed(0)
    y = 2 * torch.randn(shape[0] * (1 if static else steps), *shape[1:]) + 0.5
    residual = (torch.rand_like(y) < 0.3).float() if with_residual else None
    if last:
        y, residual = (None if t is None else t.contiguous(memory_format=torch.channels_last) for t in (y, residual))
    case = (shape, steps, last, static, with_residual, affine, training, decay, spec)
    found = [results(backend, y, residual, decay, scale, steps, static, affine, training, spec)
             for backend in ("triton", "eager")]
    assert torch.equal(found[0][0], found[1][0]), case
    for ours, expected in zip(*(grads for _, grads in found), strict=True):
        # The gradient of one decay is a sum over all neurons, of either sign.
        assert (ours - expected).norm() <= (1e-4 if ours.ndim == 0 else 1e-5) * expected.norm(), case

for steps, last, static, with_residual, affine, training in itertools.product((1, 4), *((False, True),) * 5):
    compare((2, 5, 3, 7), steps, last, static, with_residual, affine, training)
switches = itertools.product(SURROGATES, ("hard", "soft", "soft_delayed"), (False, True), (False, True))
for name, reset, detach, decay_input in switches:
    compare((2, 3, 4, 4), 2, detach, scale=None, spec=NeuronSpec(
        decay_input=decay_input, v_threshold=0.8, v_init=0.3, reset=reset, detach_reset=detach, surrogate=name))
for last, static, training in itertools.product((False, True), repeat=3):  # several tiles, a learnt decay and scale
    compare((17, 66, 3, 3), 2, last, static, True, True, training, torch.tensor(0.6, requires_grad=True),
            torch.tensor(3.0), NeuronSpec(decay_input=False))
for shape in [(3, 4, 1, 1), (2, 1, 5, 5), (1, 3, 40, 40), (70, 2, 4, 4)]:
    for last in (False, True):
        compare(shape, 7, last)
        call = encode(NeuronSpec(), "triton", 2, False, True, 1e-5)
        y = torch.randn(2 * shape[0], *shape[1:])
        y = y.contiguous(memory_format=torch.channels_last) if last else y
        moments = y.new_zeros(shape[1]), y.new_ones(shape[1])
        for residual in (None, y.clone()):
            inputs = (y, residual, moments[1], moments[0], *moments, None, None, call)
            torch.library.opcheck(torch.ops.tser_lightning.norm_lif, inputs, test_utils="test_faketensor")
            torch.library.opcheck(torch.ops.tser_lightning.norm_lif_backward,
                                  (y, *inputs, [True, residual is not None, True, True, False]),
                                  test_utils="test_faketensor")

# Whatever the layouts: y a part of a larger tensor, the residual and the gradient not as y is.
whole, residual = torch.randn(4, 6, 5, 5), torch.rand(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
weights, found = torch.randn(4, 5, 5, 3).permute(0, 3, 1, 2), []
for backend in ("triton", "eager"):
    whole.grad, residual.grad = None, None
    y = whole.requires_grad_()[:, ::2]
    spikes = norm_lif(y, residual.requires_grad_(), batch_norm(nn.BatchNorm2d(3), y), 2, False,
                      NeuronSpec(backend=backend))
    (spikes * weights).sum().backward()
    found.append((spikes, whole.grad, residual.grad))
for ours, expected in zip(*found, strict=True):
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)

# In 16 bit the current is not rounded on the way, so that a few spikes are others.
y = 2 * torch.randn(8, 6, 5, 5)
spikes = [norm_lif(y, None, batch_norm(nn.BatchNorm2d(6), y), 4, False, NeuronSpec(backend="triton"))
          for y in (y.bfloat16(), y)]
assert spikes[0].dtype == torch.bfloat16
assert (spikes[0] != spikes[1]).float().mean() < 0.02

y = 2 * torch.randn(4 * 16, 16, 32, 32)
spikes = [norm_lif(y, None, batch_norm(nn.BatchNorm2d(16), y), 4, False, NeuronSpec(backend=backend))
          for backend in ("triton", "eager")]
assert (spikes[0] != spikes[1]).sum() <= 1 + 1e-6 * y.numel()
"""

OTHER_SURROGATES = """
import torch
from tser_lightning.neurons import lif
from tser_lightning.kernels.dispatch import _compared
from tser_lightning.kernels.surrogate import SURROGATES, Surrogate

def gaussian(u, scale):
    return torch.exp(-scale * u * u)

# Each has its own check against eager before a GPU uses it, and one without a form for Triton is refused.
assert all(_compared(torch.device("cpu"), name) for name in SURROGATES)
SURROGATES["gaussian"] = Surrogate(gaussian, 1.0)
try:
    lif(torch.zeros(2, 3), surrogate="gaussian", backend="triton")
except ValueError as error:
    assert "gaussian has no form for Triton" in str(error), error
else:
    raise AssertionError("another surrogate's gradient was taken")
lif(torch.zeros(2, 3), surrogate="gaussian")
"""

COMPILED_AROUND = """
import warnings
from copy import deepcopy
from functools import partial
import torch
from torch._dynamo.backends.common import aot_autograd
from tser_lightning.models import Student
from tser_lightning.models.resnet import resnet_small
from tser_lightning.kernels import backend_triton
from tser_lightning.neurons import LIF
from tser_lightning.kernels.dispatch import _compared, _triton_agrees

# A GPU is asked whether its kernels are right while a network is compiled for it.
device = torch.device("cpu")
asked = torch.compile(lambda x: x + _triton_agrees(device, "sigmoid"), fullgraph=True, backend="eager")
assert asked(torch.zeros(())) == 1
right = backend_triton.norm_backward_kernel
class Wrong:
    def __getitem__(self, grid):
        return lambda *args: right[grid](*args[:4], args[4] * 1.1, *args[5:])  # a larger variance
backend_triton.norm_backward_kernel = Wrong()
_compared.cache_clear()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    assert not _triton_agrees(device, "sigmoid")
assert "are not eager's" in str(said[-1].message), said
backend_triton.norm_backward_kernel = right

torch.manual_seed(0)
student = Student(resnet_small(5, 3, partial(LIF, backend="triton"), widths=(4, 8)), 3)
apart, graphs = deepcopy(student), []
def look(graph, _):
    graphs.append([str(node.target) for node in graph.graph.nodes])
    return graph
compiled = torch.compile(student, fullgraph=True, backend=aot_autograd(fw_compiler=look, bw_compiler=look))
images = torch.randn(2, 3, 8, 8)
for call in (compiled, apart):
    call(images).square().sum().backward()
for ours, expected in zip(student.parameters(), apart.parameters()):
    torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-5, atol=1e-6)
for ours, expected in zip(student.buffers(), apart.buffers()):  # running statistics, written from inside the graph
    torch.testing.assert_close(ours, expected)
neurons = sum(isinstance(module, LIF) for module in student.modules())
names = ["tser_lightning.norm_lif.default", "tser_lightning.norm_lif_backward.default"]
assert [graph.count(name) for graph, name in zip(graphs, names, strict=True)] == [neurons, neurons], (neurons, graphs)
"""

COMPILE_FOR = """
import re, subprocess, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compile_for(kernel, pointers, numbers, **constants):
    names = kernel.arg_names
    types = {n: pointers.get(n) or numbers.get(n) or "constexpr" for n in names}
    constants |= {n: None for n in names if n not in pointers | numbers | constants}  # tensors that are not there
    aligned = [*pointers, "M", "x_step", "grad_step", "rows", "width", "channels", "row_step", "time_step"]
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
"""

COMPILED = """
from tser_lightning.kernels import triton_lif_kernels as kernels, triton_surrogates as surrogates

T = 4
common = dict(T=T, OWN_V=False, LEARNT=False, DECAY_INPUT=True, RESET="hard", BLOCK=1024)
for dtype, share in (("bf16", 1), ("fp32", 2)):  # eight numbers are one access of 16 bytes, or two
    tensor, number = "*" + dtype, dict(decay="fp32", scale="fp32", threshold="fp32", M="i32", x_step="i32")
    found = compile_for(kernels.forward_kernel, dict(x_ptr=tensor, v_ptr="*fp32", spikes_ptr=tensor, last_ptr="*fp32"),
                        number, **common)
    assert found == (1, T * share, 0, T * share + 2), found  # the start, x; spikes, the last membrane
    found = compile_for(
        kernels.backward_kernel,
        dict(x_ptr=tensor, v_ptr="*fp32", grad_ptr=tensor, grad_last_ptr="*fp32", grad_x_ptr=tensor,
             grad_v_ptr="*fp32", grad_decay_ptr="*fp32"), number | dict(grad_step="i32"), HAS_LAST=False,
        LEARNT_SCALE=False, LEARN_DECAY=False, DETACH=False, SURROGATE=surrogates.sigmoid, **common)
    assert found == (1, 2 * T * share, 1, T * share), found  # x and the gradient; the gradient, a sum per program
"""

NORM_COMPILED = """
import itertools
from tser_lightning.kernels import triton_norm_kernels as kernels, triton_surrogates as surrogates

T = 4
for dtype, last, static in itertools.product(("bf16", "fp32"), (True, False), (False, True)):
    share = 1 if dtype == "bf16" else 2  # eight numbers are one access of 16 bytes, or two
    tensor = "*" + dtype
    channels = dict(mean_ptr="*fp32", var_ptr="*fp32", weight_ptr="*fp32", bias_ptr="*fp32")
    whole = dict(rows="i32", width="i32", channels="i32", row_step="i32", eps="fp32")
    shape = dict(CHANNELS_LAST=last, R=16, K=64)
    timed = whole | dict(decay="fp32", threshold="fp32", v_init="fp32", time_step="i32")
    common = shape | dict(T=T, STATIC=static, LEARNT=False, DECAY_INPUT=True, RESET="hard")
    back = common | dict(LEARNT_SCALE=False, DETACH=False, SURROGATE=surrogates.sigmoid)
    steps = 1 if static else T

    def check(kernel, pointers, numbers, constants, parameters, loads, stores, sums=0):
        # A thread needs the numbers, float32, of one channel, or with channels last of as many as 16 bytes have.
        beside = 2 // share * parameters if last else 0
        expected = (0 if last else parameters, loads * share + beside, sums, stores * share)
        found = compile_for(kernel, pointers, numbers, **constants)
        assert found == expected, (kernel, dtype, last, static, found, expected)

    for residual, added in ((None, 0), (tensor, steps)):
        y = dict(y_ptr=tensor) | ({"residual_ptr": residual} if residual else {}) | channels
        check(kernels.norm_forward_kernel, y | dict(spikes_ptr=tensor), timed, common, 4, steps + added, T)
        y, timed_back = y | dict(grad_ptr=tensor), timed | dict(scale="fp32", share="fp32")
        if residual is None:
            check(kernels.norm_backward_kernel, y | dict(parts_ptr="*fp32"), timed_back, back, 4, steps + T, 0, 2)
            check(kernels.norm_backward_kernel, y | dict(sums_ptr="*fp32", grad_y_ptr=tensor), timed_back, back,
                  6, steps + T, steps)
        else:
            check(kernels.norm_backward_kernel, y | dict(parts_ptr="*fp32", grad_residual_ptr=tensor), timed_back, back,
                  4, steps + added + T, steps, 2)
            del channels["bias_ptr"]
            check(kernels.norm_input_kernel,
                  dict(y_ptr=tensor, grad_x_ptr=tensor, sums_ptr="*fp32", grad_y_ptr=tensor) | channels,
                  whole | dict(share="fp32"), shape, 5, 2, 1)
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
@pytest.mark.parametrize("script", [INTERPRETED, NORM_INTERPRETED], ids=["lif", "norm_lif"])
def test_the_interpreter_gives_eagers_numbers(script: str) -> None:
    run(script, TRITON_INTERPRET="1")


@pytest.mark.slow
def test_a_surrogate_is_compared_with_eagers_by_itself_and_refused_without_a_form_for_triton() -> None:
    run(OTHER_SURROGATES, TRITON_INTERPRET="1")


@pytest.mark.slow
def test_torch_compile_keeps_the_kernels() -> None:
    run(COMPILED_AROUND, TRITON_INTERPRET="1")


@pytest.mark.slow
@pytest.mark.parametrize("script", [COMPILED, NORM_COMPILED], ids=["lif", "norm_lif"])
def test_kernels_for_sm_90_move_16_bytes_at_a_time_and_spill_nothing(script: str) -> None:
    run(COMPILE_FOR + script, TRITON_INTERPRET="0")


def test_triton_without_a_gpu_is_refused() -> None:
    import torch

    from tser_lightning.neurons import lif

    with pytest.raises(ValueError, match=r"needs a GPU"):
        lif(torch.zeros(1, 1), backend="triton")
