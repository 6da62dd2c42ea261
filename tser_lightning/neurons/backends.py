"""How LIF neurons are computed.

    eager      torch, block by block (`blocks`); the one on a CPU, everywhere.
    compiled   `dynamics`, with a norm before it `compiled_norm_lif`, fused by torch.compile; needs a C++ compiler (or a
               GPU), some seconds at the first call.
    triton     two kernels (`triton_lif`), three or four with a norm before it (`triton_norm_lif`); needs a GPU.
    reference  plain operations and autograd (`lif.lif_reference`).
    auto       triton on a GPU where it gives eager's numbers, else eager.

Under torch.compile Triton's kernels stay what they are, operators that the compiled program calls. Without them the
reference is traced, so that the compiler fuses the neurons with what is around them; exporters trace it always.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tser_lightning.mistake import Mistake
from tser_lightning.neurons.blocks import backward_blocks, forward_blocks
from tser_lightning.neurons.dynamics import Gradients, backward_body, forward_body
from tser_lightning.neurons.surrogate import surrogate_named

BACKENDS = ("auto", "eager", "compiled", "triton", "reference")


class Bodies(NamedTuple):
    """The two passes over [T, M] tensors; signatures of `dynamics.forward_body` and `backward_body`."""

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., Gradients]


def chosen(backend: str, currents: Tensor, surrogate: str) -> str:
    """Give the backend that computes such currents; float64 has no Triton kernel and runs eager.

    Raises:
        ValueError: Triton without a GPU, or with a surrogate that has no form for it.
    """
    if backend == "reference" or (torch.compiler.is_compiling() and not _kernels(backend, currents, surrogate)):
        return "reference"
    if backend == "compiled":
        return "compiled"
    return "triton" if _kernels(backend, currents, surrogate) else "eager"


def _kernels(backend: str, currents: Tensor, surrogate: str) -> bool:
    """Whether Triton's kernels compute such currents."""
    if backend not in ("auto", "triton") or currents.dtype == torch.float64 or torch.compiler.is_exporting():
        return False
    known = surrogate_named(surrogate).triton is not None
    if backend == "auto":
        return currents.is_cuda and known and _triton_agrees(currents.device, surrogate)
    if not (currents.is_cuda or os.environ.get("TRITON_INTERPRET")):
        raise Mistake(
            what="the backend triton needs a GPU",
            why=f"the currents lie on {currents.device.type}; TRITON_INTERPRET=1 is for tests",
            fix="neuron.backend=auto",
        )
    if not known:
        raise Mistake(
            what=f"the surrogate {surrogate} has no form for Triton",
            why="another one's gradient would be taken silently; `Surrogate.triton` names the module that has it",
            fix="neuron.backend=eager",
        )
    return True


@cache
def bodies(backend: str) -> Bodies:
    """Give the two passes of eager, compiled or triton."""
    if backend == "compiled":
        return Bodies(compiled_body(forward_body), compiled_body(backward_body))
    if backend == "triton":  # imported here, because triton is not there on every machine
        from tser_lightning.neurons.triton_lif import backward_triton, forward_triton

        return Bodies(forward_triton, backward_triton)
    return Bodies(forward_blocks, backward_blocks)


@cache
def compiled_body(body: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile make kernels of a body: one for each T, form and dtype, whatever the sizes."""
    from torch._dynamo import config

    # Torch gives a function eight, then it runs line by line, much slower: a process that tries some T needs more.
    config.recompile_limit = max(config.recompile_limit, 64)
    return torch.compile(body, dynamic=True)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _triton_agrees(device: torch.device, surrogate: str) -> bool:
    return _compared(device, surrogate)


@cache
def _compared(device: torch.device, surrogate: str) -> bool:
    """Whether Triton runs on this device and gives eager's numbers there; else says why not, once."""
    if importlib.util.find_spec("triton") is None:
        return False
    from tser_lightning.neurons.triton_check import numbers

    try:
        ours, expected = (numbers(backend, device, surrogate) for backend in ("triton", "eager"))
    except Exception as error:  # whatever a driver or a compiler can come up with: eager works
        warnings.warn(f"neurons run without Triton, slower: {str(error).partition(chr(10))[0][:200]}", stacklevel=2)
        return False
    # A spike at the threshold may flip, and what follows from it; a kernel that is wrong is wrong by more.
    agree = all((a - b).abs().mean() <= 1e-3 * b.abs().mean() for a, b in zip(ours, expected, strict=True))
    if not agree:
        warnings.warn("neurons run without Triton, slower: its numbers on this GPU are not eager's", stacklevel=2)
    return agree
