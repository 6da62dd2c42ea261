# mypy: ignore-errors
# What follows is compiled by Triton, which has types and syntax of its own.
"""The functions of `surrogate` as Triton takes them into its kernels: g(u, scale), pointwise, by the same names."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(u, scale):
    """See `surrogate.sigmoid`."""
    p = 1 / (1 + tl.exp(-scale * u))
    return scale * p * (1 - p)


@triton.jit
def atan(u, scale):
    """See `surrogate.atan`."""
    a = 1.5707963267948966 * scale * u
    return scale / 2 / (1 + a * a)


@triton.jit
def triangle(u, scale):
    """See `surrogate.triangle`."""
    return tl.maximum(scale - tl.abs(u), 0.0) / (scale * scale)


@triton.jit
def rectangular(u, scale):
    """See `surrogate.rectangular`."""
    return tl.where(tl.abs(u) < scale / 2, 1 / scale, 0.0)


@triton.jit
def piecewise_quadratic(u, scale):
    """See `surrogate.piecewise_quadratic`."""
    return tl.maximum(scale - scale * scale * tl.abs(u), 0.0)


@triton.jit
def tanh(u, scale):
    """See `surrogate.tanh`; by exponentials."""
    e = tl.exp(-2 * scale * tl.abs(u))
    th = (1 - e) / (1 + e)
    end = (1 - tl.exp(-scale)) / (1 + tl.exp(-scale))
    return tl.where(tl.abs(u) <= 0.5, scale * (1 - th * th) / (2 * end), 0.0)


@triton.jit
def fast_sigmoid(u, scale):
    """See `surrogate.fast_sigmoid`."""
    a = 1 + scale * tl.abs(u)
    return 1 / (a * a)
