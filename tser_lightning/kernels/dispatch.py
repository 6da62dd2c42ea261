"""Choose the backend that computes some currents; the functions that every backend has.

Under torch.compile Triton's kernels stay what they are, operators that the compiled program calls. Without them the
reference is traced, so that the compiler fuses the neurons with what is around them; exporters trace it always.
"""

import importlib
import importlib.util
import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.kernels.backends import MODULES
from tser_lightning.kernels.batch_norm import Form, Inputs, NormGradients
from tser_lightning.kernels.dynamics import Gradients
from tser_lightning.kernels.self_check import numbers
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import Scale, surrogate_named


class Backend(Protocol):
    """The functions of a backend's module; legend and arguments as in `dynamics` and `batch_norm`."""

    def lif_forward(self, currents_TM: Tensor, v_M: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
        """Spikes [T, M] and the last membrane [M] from currents and the first membrane, [M] or one number."""

    def lif_backward(
        self,
        currents_TM: Tensor,
        v_M: Tensor,
        decay: Decay,
        spec: NeuronSpec,
        scale: Scale,
        grad_spikes_TM: Tensor,
        grad_v_M: Tensor,
        learn_decay: bool,
    ) -> Gradients:
        """Gradients of what `lif_forward` took."""

    def norm_lif_forward(self, inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec) -> Tensor:
        """Spikes [T*B, C, H, W] of neurons at rest that see norm(y) + residual."""

    def norm_lif_backward(
        self,
        inputs: Inputs,
        form: Form,
        decay: Decay,
        spec: NeuronSpec,
        scale: Scale,
        grad_NCHW: Tensor,
        needed: Sequence[bool],
    ) -> NormGradients:
        """Gradients of y, residual, weight, bias and decay, as far as they are needed."""


@cache
def backend_named(name: str) -> Backend:
    """Import the module of a backend: not before it is used, because Triton is not there on every machine."""
    return cast(Backend, importlib.import_module(MODULES[name]))


def chosen(spec: NeuronSpec, currents: Tensor) -> str:
    """Give the backend that computes such currents; float64 has no Triton kernel and runs eager.

    Raises:
        UsageError: Triton without a GPU.
    """
    if spec.backend == "reference" or (torch.compiler.is_compiling() and not _kernels(spec, currents)):
        return "reference"
    if spec.backend not in ("auto", "triton"):
        return spec.backend
    return "triton" if _kernels(spec, currents) else "eager"


def _kernels(spec: NeuronSpec, currents: Tensor) -> bool:
    """Whether Triton's kernels compute such currents."""
    if spec.backend not in ("auto", "triton") or currents.dtype == torch.float64 or torch.compiler.is_exporting():
        return False
    if spec.backend == "auto":
        has_form = surrogate_named(spec.surrogate).triton is not None
        return currents.is_cuda and has_form and _triton_agrees(currents.device, spec.surrogate)
    if not (currents.is_cuda or os.environ.get("TRITON_INTERPRET")):
        raise UsageError(
            what="the backend triton needs a GPU",
            why=f"the currents lie on {currents.device.type}; TRITON_INTERPRET=1 is for tests",
            fix="backend=auto",
        )
    return True


def _triton_agrees(device: torch.device, surrogate: str) -> bool:
    return _compared(device, surrogate)


# Called nowhere else; the mark imports the compiler, which takes over a second.
if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET"):
    _triton_agrees = torch.compiler.assume_constant_result(_triton_agrees)


@cache
def _compared(device: torch.device, surrogate: str) -> bool:
    """Whether Triton runs on this device and gives eager's numbers there; else says why not, once."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        ours, expected = (numbers(backend_named(name), device, surrogate) for name in ("triton", "eager"))
    except Exception as error:  # whatever a driver or a compiler can come up with: eager works
        warnings.warn(f"neurons run without Triton, slower: {str(error).partition(chr(10))[0][:200]}", stacklevel=2)
        return False
    # A spike at the threshold may flip, and what follows from it; a kernel that is wrong is wrong by more.
    agree = all((a - b).abs().mean() <= 1e-3 * b.abs().mean() for a, b in zip(ours, expected, strict=True))
    if not agree:
        warnings.warn("neurons run without Triton, slower: its numbers on this GPU are not eager's", stacklevel=2)
    return agree
