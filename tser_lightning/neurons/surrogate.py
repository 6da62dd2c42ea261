"""Surrogate gradients: what stands in for the derivative of the step Theta(u) in a backward pass.

u is the distance of the membrane from the threshold. All have area 1, are even and largest at u = 0, and are pointwise,
so that a compiler can fuse them into the kernel that uses them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Scale = float | Tensor


def sigmoid(u: Tensor, scale: Scale = 4.0) -> Tensor:
    """Derivative of a sigmoid: s sig(s u) (1 - sig(s u)), with the slope s = `scale`; peak s / 4."""
    p = torch.sigmoid(scale * u)
    return scale * p * (1 - p)


def atan(u: Tensor, scale: Scale = 2.0) -> Tensor:
    """Derivative of an arctangent: (s / 2) / (1 + (pi s u / 2)^2), with the slope s = `scale`; peak s / 2."""
    return scale / 2 / (1 + (math.pi / 2 * scale * u).square())


def triangle(u: Tensor, scale: Scale = 1.0) -> Tensor:
    """A triangle: max(0, w - |u|) / w^2, with the half width w = `scale`; peak 1 / w (TET, Deng et al. 2022)."""
    return (scale - u.abs()).clamp(min=0) / (scale * scale)


def rectangular(u: Tensor, scale: Scale = 1.0) -> Tensor:
    """A rectangle: 1 / w where |u| < w / 2, else 0, with the width w = `scale`; peak 1 / w (STBP, Wu et al. 2018)."""
    return (u.abs() < scale / 2).to(u.dtype) / scale


def piecewise_quadratic(u: Tensor, scale: Scale = 1.0) -> Tensor:
    """Derivative of a piecewise quadratic step: max(0, s - s^2 |u|), with s = `scale`; peak s (Esser et al. 2016).

    The same family as `triangle`, which names it by its half width 1 / s in place of its peak s.
    """
    return (scale - scale * scale * u.abs()).clamp(min=0)


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient by name.

    Attributes:
        gradient: g(u, scale), pointwise.
        scale: The shape parameter that is used when none is given.
    """

    gradient: Callable[[Tensor, Scale], Tensor]
    scale: float


SURROGATES = {
    "sigmoid": Surrogate(sigmoid, 4.0),
    "atan": Surrogate(atan, 2.0),
    "triangle": Surrogate(triangle, 1.0),
    "rectangular": Surrogate(rectangular, 1.0),
    "piecewise_quadratic": Surrogate(piecewise_quadratic, 1.0),
}


def surrogate_named(name: str) -> Surrogate:
    """Look a surrogate up.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in SURROGATES:
        raise ValueError(f"surrogate={name!r} is not one of {', '.join(SURROGATES)}")
    return SURROGATES[name]
