"""LIF as two Triton kernels, each one pass over memory: what a GPU runs.

Legend: T time step, M everything but time. The forward kernel reads the currents and writes the spikes in their dtype;
the backward one reads the currents and the gradient, goes through the steps again in registers and writes one gradient.
The membrane is float32 whatever the currents are. One thread takes eight neurons, so that 16-bit tensors move 16 bytes
at a time. M stays an argument: another batch size is no new compilation, another T is.
"""

import triton
from torch import Tensor

from tser_lightning.neurons.dynamics import Decay, Dynamics, Gradients
from tser_lightning.neurons.surrogate import SURROGATES, Scale
from tser_lightning.neurons.triton_kernels import backward_kernel, forward_kernel

BLOCK = 1024  # neurons of one program: 128 threads of eight


def _rows(tensor_TM: Tensor) -> Tensor:
    """What a kernel can walk: neurons beside each other, steps at any distance, also none (one image for all)."""
    return tensor_TM if tensor_TM.stride(1) == 1 or tensor_TM.shape[1] == 1 else tensor_TM.contiguous()


def forward_triton(currents_TM: Tensor, v_M: Tensor, decay: Decay, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    x_TM = _rows(currents_TM)
    T, M = x_TM.shape
    spikes_TM, last_M = x_TM.new_empty(T, M), v_M.new_empty(M)
    if M:
        forward_kernel[(triton.cdiv(M, BLOCK),)](
            x_TM, v_M.contiguous(), decay, spikes_TM, last_M, M, x_TM.stride(0), dynamics.v_threshold,
            T, v_M.ndim > 0, isinstance(decay, Tensor), dynamics.decay_input, dynamics.reset == "hard", BLOCK,
        )  # fmt: skip
    return spikes_TM, last_M


def backward_triton(
    currents_TM: Tensor,
    v_M: Tensor,
    decay: Decay,
    dynamics: Dynamics,
    scale: Scale,
    grad_spikes_TM: Tensor,
    grad_v_M: Tensor,
    learn_decay: bool,
) -> Gradients:
    """Recompute the membrane from the input, then go back through all steps."""
    x_TM, grad_TM = _rows(currents_TM), _rows(grad_spikes_TM)
    T, M = x_TM.shape
    programs = triton.cdiv(M, BLOCK)
    own_v, has_last = v_M.ndim > 0, grad_v_M.ndim > 0
    grad_x_TM, grad_start = x_TM.new_empty(T, M), v_M.new_empty(M if own_v else programs)
    grad_decay = v_M.new_zeros(programs if learn_decay else 0)
    if M:
        backward_kernel[(programs,)](
            x_TM, v_M.contiguous(), decay, scale, grad_TM, grad_v_M.contiguous() if has_last else grad_start,
            grad_x_TM, grad_start, grad_decay, M, x_TM.stride(0), grad_TM.stride(0), dynamics.v_threshold,
            T, own_v, has_last, isinstance(decay, Tensor), isinstance(scale, Tensor),
            learn_decay, dynamics.decay_input, dynamics.reset == "hard", dynamics.detach_reset,
            SURROGATES[dynamics.surrogate].for_triton(), BLOCK,
        )  # fmt: skip
    return Gradients(grad_x_TM, grad_start if own_v else grad_start.sum(), grad_decay.sum() if learn_decay else None)
