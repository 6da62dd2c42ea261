# mypy: ignore-errors
# ruff: noqa: RUF005
# What follows is compiled by Triton, which has types and syntax of its own.
"""The kernels of neurons behind a batch norm.

A program takes a tile of R rows and K neighbours in memory. With channels last a row is a pixel and the neighbours are
channels; else a row is an image, the neighbours are pixels and the tile has one channel. A pointer that is None is a
tensor that is not there or not wanted. x = (y - mean) w / sqrt(var + eps) + b, all of it in float32.
"""

import triton
import triton.language as tl

from tser_lightning.kernels.triton_lif_kernels import charge_back, step, step_back


@triton.jit
def _tile(rows, width, channels, row_step, CHANNELS_LAST: tl.constexpr, R: tl.constexpr, K: tl.constexpr):
    """Give the offsets [R, K], the channels [K] or the one, which of both exist, and the number of the tile's sums."""
    beside = tl.cdiv(width, K)
    tiles = beside if CHANNELS_LAST else beside * channels
    column = tl.program_id(0) % tiles
    down = tl.program_id(0) // tiles
    row = down * R + tl.arange(0, R)
    k = (column % beside) * K + tl.arange(0, K)
    plane = column // beside  # with channels last there is one
    at = row.to(tl.int64)[:, None] * row_step + (plane.to(tl.int64) * width + k)[None, :]
    inside = (row < rows)[:, None] & (k < width)[None, :]
    if CHANNELS_LAST:
        return at, inside, k, k < width, down
    else:
        return at, inside, plane, plane < channels, down * beside + column % beside


@triton.jit
def _of_channel(pointer, channel, known, default):
    """Give one number for each channel, as it meets a tile."""
    if pointer is None:
        return default
    else:
        return tl.load(pointer + channel, mask=known, other=0.0).to(tl.float32)


@triton.jit
def _deviation(var_ptr, channel, known, eps):
    """1 / sqrt(var + eps), likewise."""
    return 1.0 / tl.sqrt_rn(tl.load(var_ptr + channel, mask=known, other=1.0).to(tl.float32) + eps)


@triton.jit
def _of_batch(sums_ptr, channel, known, channels, deviation, share):
    """What the gradient of y loses because y moves the statistics: a number, and one for each of y less its mean."""
    if sums_ptr is None:
        return 0.0, 0.0
    else:
        offset = _of_channel(sums_ptr, channel, known, 0.0) * share
        return offset, _of_channel(sums_ptr + channels, channel, known, 0.0) * share * deviation


@triton.jit
def norm_forward_kernel(
    y_ptr, residual_ptr, mean_ptr, var_ptr, weight_ptr, bias_ptr, decay, spikes_ptr,
    rows, width, channels, row_step, time_step, eps, threshold, v_init,
    T: tl.constexpr, STATIC: tl.constexpr, CHANNELS_LAST: tl.constexpr, LEARNT: tl.constexpr,
    DECAY_INPUT: tl.constexpr, RESET: tl.constexpr, R: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """All steps of one tile; STATIC: the same input at each."""
    at, inside, channel, known, _ = _tile(rows, width, channels, row_step, CHANNELS_LAST, R, K)
    mean = _of_channel(mean_ptr, channel, known, 0.0)
    slope = _deviation(var_ptr, channel, known, eps) * _of_channel(weight_ptr, channel, known, 1.0)
    bias = _of_channel(bias_ptr, channel, known, 0.0)
    if LEARNT:
        decay = tl.load(decay).to(tl.float32)
    gain = 1.0 - decay if DECAY_INPUT else 1.0
    v = tl.zeros([R, K], tl.float32) + v_init
    for t in tl.static_range(T):
        if t == 0 or not STATIC:
            x = (tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32) - mean) * slope + bias
            if residual_ptr is not None:
                x += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
        _, s, v = step(v, x, decay, gain, threshold, RESET)
        tl.store(spikes_ptr + at, tl.where(s, 1.0, 0.0).to(spikes_ptr.dtype.element_ty), mask=inside)
        at += time_step


@triton.jit
def norm_backward_kernel(
    y_ptr, residual_ptr, grad_ptr, mean_ptr, var_ptr, weight_ptr, bias_ptr, decay, scale, sums_ptr,
    parts_ptr, grad_decay_ptr, grad_residual_ptr, grad_y_ptr,
    rows, width, channels, row_step, time_step, eps, threshold, v_init, share,
    T: tl.constexpr, STATIC: tl.constexpr, CHANNELS_LAST: tl.constexpr, LEARNT: tl.constexpr,
    LEARNT_SCALE: tl.constexpr, DECAY_INPUT: tl.constexpr, RESET: tl.constexpr, DETACH: tl.constexpr,
    SURROGATE: tl.constexpr, R: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """All steps of one tile forward in registers, then back.

    Gives what is asked for: parts of the sums over a channel of the gradient of x, and of that times the normalised y;
    the gradient of x itself, which is the residual's; and that of y, for which `sums_ptr` holds those sums and `share`
    is one over the numbers in a channel, or is None where the statistics are constants.
    """
    at, inside, channel, known, part = _tile(rows, width, channels, row_step, CHANNELS_LAST, R, K)
    mean = _of_channel(mean_ptr, channel, known, 0.0)
    deviation = _deviation(var_ptr, channel, known, eps)
    slope = deviation * _of_channel(weight_ptr, channel, known, 1.0)
    bias = _of_channel(bias_ptr, channel, known, 0.0)
    if LEARNT:
        decay = tl.load(decay).to(tl.float32)
    if LEARNT_SCALE:
        scale = tl.load(scale).to(tl.float32)
    gain = 1.0 - decay if DECAY_INPUT else 1.0
    v = tl.zeros([R, K], tl.float32) + v_init
    hs, befores, drives, centred = (), (), (), ()
    for t in tl.static_range(T):
        if t == 0 or not STATIC:
            d = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32) - mean
            x = d * slope + bias
            if residual_ptr is not None:
                x += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
            centred = centred + (d,)
        befores = befores + (v,)
        if grad_decay_ptr is not None:
            drives = drives + ((v - x) if DECAY_INPUT else v,)
        h, _, v = step(v, x, decay, gain, threshold, RESET)
        hs = hs + (h,)
        at += time_step
    grad_v, grad_decay = tl.zeros([R, K], tl.float32), tl.zeros([R, K], tl.float32)
    grad_x = tl.zeros([R, K], tl.float32)
    offset, along = _of_batch(sums_ptr, channel, known, channels, deviation, share)
    total, total_along = tl.zeros([R, K], tl.float32), tl.zeros([R, K], tl.float32)
    for back in tl.static_range(T):
        at -= time_step
        grad_s = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32)
        grad_h = step_back(hs[T - 1 - back], grad_s, grad_v, threshold, scale, RESET, DETACH, SURROGATE)
        if grad_decay_ptr is not None:
            grad_decay += grad_h * drives[T - 1 - back]
        grad_v = charge_back(befores[T - 1 - back], grad_h, decay, threshold, scale, RESET, DETACH, SURROGATE)
        if STATIC:
            grad_x += grad_h * gain
        else:
            grad_x = grad_h * gain
        if back == T - 1 or not STATIC:
            d = centred[0 if STATIC else T - 1 - back]
            if parts_ptr is not None:
                total += grad_x
                total_along += grad_x * d
            if grad_residual_ptr is not None:
                tl.store(grad_residual_ptr + at, grad_x.to(grad_residual_ptr.dtype.element_ty), mask=inside)
            if grad_y_ptr is not None:
                grad_y = (grad_x - offset - d * along) * slope
                tl.store(grad_y_ptr + at, grad_y.to(grad_y_ptr.dtype.element_ty), mask=inside)
    if parts_ptr is not None:
        into = parts_ptr + part.to(tl.int64) * 2 * channels
        if CHANNELS_LAST:
            tl.store(into + channel, tl.sum(total, axis=0), mask=known)
            tl.store(into + channels + channel, tl.sum(total_along * deviation, axis=0), mask=known)
        else:
            tl.store(into + channel, tl.sum(total))
            tl.store(into + channels + channel, tl.sum(total_along * deviation))
    if grad_decay_ptr is not None:
        tl.store(grad_decay_ptr + tl.program_id(0), tl.sum(grad_decay))


@triton.jit
def norm_input_kernel(
    y_ptr, grad_x_ptr, mean_ptr, var_ptr, weight_ptr, sums_ptr, grad_y_ptr,
    rows, width, channels, row_step, eps, share,
    CHANNELS_LAST: tl.constexpr, R: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Gradient of y where that of x lies in memory already; a tile knows no time."""
    at, inside, channel, known, _ = _tile(rows, width, channels, row_step, CHANNELS_LAST, R, K)
    d = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32) - _of_channel(mean_ptr, channel, known, 0.0)
    grad_x = tl.load(grad_x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    deviation = _deviation(var_ptr, channel, known, eps)
    slope = deviation * _of_channel(weight_ptr, channel, known, 1.0)
    offset, along = _of_batch(sums_ptr, channel, known, channels, deviation, share)
    grad_y = (grad_x - offset - d * along) * slope
    tl.store(grad_y_ptr + at, grad_y.to(grad_y_ptr.dtype.element_ty), mask=inside)
