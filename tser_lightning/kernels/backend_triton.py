"""LIF as Triton kernels: what a GPU runs.

Legend: T time step, M everything but time. Alone it is two kernels, each one pass over memory: the forward kernel reads
the currents and writes the spikes in their dtype; the backward one reads the currents and the gradient, goes through
the steps again in registers and writes one gradient. The membrane is float32 whatever the currents are. One thread
takes eight neurons, so that 16-bit tensors move 16 bytes at a time. M stays an argument: another batch size is no new
compilation, another T is.

Behind a batch norm: passes over memory, each of T*B*C*H*W numbers, after the one of the statistics. Forward: the
convolution's output y is read, spikes are written. Backward: y and the gradient are read for the sums over each
channel, and again for the gradient of y, which is written. With a residual, which is read besides, its gradient is
written with the sums, and the gradient of y needs that and y alone. Statistics that are constants need no sums:
backward is one kernel.
An input that is the same at all steps is read once, and its gradient is summed over them in registers.
"""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from tser_lightning.kernels.batch_norm import Form, Inputs, NormGradients, room
from tser_lightning.kernels.dynamics import Gradients
from tser_lightning.kernels.spec import Decay, NeuronSpec
from tser_lightning.kernels.surrogate import SURROGATES, Scale
from tser_lightning.kernels.triton_lif_kernels import backward_kernel, forward_kernel
from tser_lightning.kernels.triton_norm_kernels import norm_backward_kernel, norm_forward_kernel, norm_input_kernel

BLOCK = 1024  # neurons of one program: 128 threads of eight
THREADS = 128  # of one program
CHANNELS = 64  # of a tile, at most, with channels last: the more pixels it has, the fewer parts has a channel's sum


def _rows(tensor_TM: Tensor) -> Tensor:
    """What a kernel can walk: neurons beside each other, steps at any distance, also none (one image for all)."""
    return tensor_TM if tensor_TM.stride(1) == 1 or tensor_TM.shape[1] == 1 else tensor_TM.contiguous()


def lif_forward(currents_TM: Tensor, v_M: Tensor, decay: Decay, spec: NeuronSpec) -> tuple[Tensor, Tensor]:
    """Go through all steps; returns the spikes and the last membrane."""
    x_TM = _rows(currents_TM)
    T, M = x_TM.shape
    spikes_TM, last_M = x_TM.new_empty(T, M), v_M.new_empty(M)
    if M:
        forward_kernel[(triton.cdiv(M, BLOCK),)](
            x_TM, v_M.contiguous(), decay, spikes_TM, last_M, M, x_TM.stride(0), spec.v_threshold,
            T, v_M.ndim > 0, isinstance(decay, Tensor), spec.decay_input, spec.reset, BLOCK,
        )  # fmt: skip
    return spikes_TM, last_M


def lif_backward(
    currents_TM: Tensor,
    v_M: Tensor,
    decay: Decay,
    spec: NeuronSpec,
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
            grad_x_TM, grad_start, grad_decay, M, x_TM.stride(0), grad_TM.stride(0), spec.v_threshold,
            T, own_v, has_last, isinstance(decay, Tensor), isinstance(scale, Tensor),
            learn_decay, spec.decay_input, spec.reset, spec.detach_reset,
            SURROGATES[spec.surrogate].for_triton(), BLOCK,
        )  # fmt: skip
    return Gradients(grad_x_TM, grad_start if own_v else grad_start.sum(), grad_decay.sum() if learn_decay else None)


class Tiles:
    """How the programs of a kernel share images [B, C, H, W] among them.

    Args:
        y_NCHW: Tells C, H, W and the layout: channels last, or else it is taken as contiguous.
        images: B, images of a step.
        steps: T, for whose membranes a thread has registers.
    """

    def __init__(self, y_NCHW: Tensor, images: int, steps: int) -> None:
        tile = THREADS * (8 if steps <= 6 else 4 if steps <= 12 else 2)  # eight 16-bit numbers are 16 bytes
        self.last = y_NCHW.is_contiguous(memory_format=torch.channels_last)
        channels, pixels = y_NCHW.shape[1], y_NCHW.shape[2:].numel()
        rows, width = (images * pixels, channels) if self.last else (images, pixels)
        self.K = min(triton.next_power_of_2(width), CHANNELS if self.last else tile)
        self.R = tile // self.K
        self.parts = triton.cdiv(rows, self.R) * (1 if self.last else triton.cdiv(width, self.K))
        self.programs = self.parts * (triton.cdiv(width, self.K) if self.last else channels)
        self.numbers = rows, width, channels, channels if self.last else channels * pixels
        self.format = torch.channels_last if self.last else torch.contiguous_format

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor in the layout that the kernels walk; itself where it has it."""
        return tensor.contiguous(memory_format=self.format)


def norm_lif_forward(inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec) -> Tensor:
    """Give the spikes [T*B, C, H, W]."""
    images = form.images(inputs.y)
    tiles = Tiles(inputs.y, images, form.steps)
    y, residual = (None if tensor is None else tiles.laid_out(tensor) for tensor in inputs[:2])
    spikes = room(form.steps * images, inputs.y)
    norm_forward_kernel[(tiles.programs,)](
        y, residual, inputs.mean, inputs.var, inputs.weight, inputs.bias, decay, spikes,
        *tiles.numbers, images * inputs.y[0].numel(), form.eps, spec.v_threshold, spec.v_init,
        form.steps, form.static, tiles.last, isinstance(decay, Tensor), spec.decay_input,
        spec.reset, tiles.R, tiles.K,
    )  # fmt: skip
    return spikes


def norm_lif_backward(
    inputs: Inputs, form: Form, decay: Decay, spec: NeuronSpec, scale: Scale, grad_NCHW: Tensor, needed: Sequence[bool]
) -> NormGradients:
    """Give the gradients that are needed."""
    images = form.images(inputs.y)
    tiles = Tiles(inputs.y, images, form.steps)
    y, residual = (None if tensor is None else tiles.laid_out(tensor) for tensor in inputs[:2])
    grad_NCHW = tiles.laid_out(grad_NCHW)
    channels = inputs.y.shape[1]
    share = channels / inputs.y.numel()
    surrogate = SURROGATES[spec.surrogate].for_triton()

    def through_time(*wanted: Tensor | None) -> None:
        norm_backward_kernel[(tiles.programs,)](
            y, residual, grad_NCHW, inputs.mean, inputs.var, inputs.weight, inputs.bias, decay, scale, *wanted,
            *tiles.numbers, images * inputs.y[0].numel(), form.eps, spec.v_threshold, spec.v_init, share,
            form.steps, form.static, tiles.last, isinstance(decay, Tensor), isinstance(scale, Tensor),
            spec.decay_input, spec.reset, spec.detach_reset, surrogate,
            tiles.R, tiles.K,
        )  # fmt: skip

    grad_y, grad_x = (room(len(inputs.y), inputs.y) if need else None for need in needed[:2])
    parts = (
        inputs.mean.new_empty(tiles.parts, 2, channels, dtype=torch.float32)
        if form.of_batch or needed[2] or needed[3]
        else None
    )
    grad_decay = inputs.mean.new_empty(tiles.programs, dtype=torch.float32) if needed[4] else None
    through_time(None, parts, grad_decay, grad_x, None if form.of_batch else grad_y)
    sums = None if parts is None else parts.sum(0)
    if form.of_batch and grad_y is not None:
        if grad_x is None:
            through_time(sums, None, None, None, grad_y)
        else:
            whole = Tiles(inputs.y, len(inputs.y), 1)
            norm_input_kernel[(whole.programs,)](
                y, grad_x, inputs.mean, inputs.var, inputs.weight, sums, grad_y,
                *whole.numbers, form.eps, share, whole.last, whole.R, whole.K,
            )  # fmt: skip
    # Results of an operator may not share their memory.
    grad_bias, grad_weight = (None, None) if sums is None else (sums[0], sums[1].clone())
    return NormGradients(grad_y, grad_x, grad_weight, grad_bias, None if grad_decay is None else grad_decay.sum())
