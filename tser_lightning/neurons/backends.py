"""How LIF neurons are computed.

    eager      torch, block by block (`blocks`); the one on a CPU, everywhere.
    compiled   `dynamics` fused by torch.compile; needs a C++ compiler (or a GPU), some seconds at the first call.
    triton     two kernels (`triton_lif`); needs a GPU.
    reference  plain operations and autograd (`lif.lif_reference`).
    auto       triton on a GPU where it gives eager's numbers, else eager.

Under torch.compile the reference is what is traced, so that the compiler fuses the neurons with what is around them.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from tser_lightning.neurons.blocks import backward_blocks, forward_blocks
from tser_lightning.neurons.dynamics import Dynamics, Gradients, backward_body, forward_body
from tser_lightning.neurons.surrogate import sigmoid

BACKENDS = ("auto", "eager", "compiled", "triton", "reference")


class Bodies(NamedTuple):
    """The two passes over [T, M] tensors; signatures of `dynamics.forward_body` and `backward_body`."""

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., Gradients]


EAGER = Bodies(forward_blocks, backward_blocks)


def bodies_for(backend: str, currents: Tensor) -> Bodies:
    """Give the two passes of a backend for such currents; float64 has no Triton kernel and runs eager.

    Raises:
        ValueError: Triton without a GPU.
    """
    if backend == "compiled":
        return _compiled()
    if currents.dtype == torch.float64:
        return EAGER
    if backend == "triton":
        if not (currents.is_cuda or os.environ.get("TRITON_INTERPRET")):
            raise ValueError(
                "neuron.backend=triton needs a GPU: give neuron.backend=auto, or TRITON_INTERPRET=1 to test"
            )
        return _triton()
    return _triton() if backend == "auto" and currents.is_cuda and _triton_agrees(currents.device) else EAGER


@cache
def _compiled() -> Bodies:
    return Bodies(torch.compile(forward_body, dynamic=True), torch.compile(backward_body, dynamic=True))


@cache
def _triton() -> Bodies:
    # Imported here, because triton is not there on every machine.
    from tser_lightning.neurons.triton_lif import backward_triton, forward_triton

    return Bodies(forward_triton, backward_triton)


@cache
def _triton_agrees(device: torch.device) -> bool:
    """Whether Triton runs on this device and gives eager's numbers there; else says why not, once."""
    if importlib.util.find_spec("triton") is None:
        return False
    x_TM = torch.linspace(-2, 4, 4 * 1500, device=device).view(4, 1500)
    start, zero = x_TM.new_zeros(()), x_TM.new_zeros(())
    dynamics = Dynamics(True, 1.0, "hard", False, sigmoid)
    try:
        results = [
            (*bodies.forward(x_TM, start, 0.5, dynamics),
             bodies.backward(x_TM, start, 0.5, dynamics, 4.0, x_TM, zero, False).currents)
            for bodies in (_triton(), EAGER)
        ]  # fmt: skip
    except Exception as error:  # whatever a driver or a compiler can come up with: eager works
        warnings.warn(f"neurons run without Triton, slower: {str(error).partition(chr(10))[0][:200]}", stacklevel=2)
        return False
    agree = all(torch.allclose(ours, expected, atol=1e-5) for ours, expected in zip(*results, strict=True))
    if not agree:
        warnings.warn("neurons run without Triton, slower: its numbers on this GPU are not eager's", stacklevel=2)
    return agree
