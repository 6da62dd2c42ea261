"""Surrogate gradients: what stands in for the derivative of the step Theta(u) in a backward pass.

u is the distance of the membrane from the threshold. All are even and largest at u = 0, have area 1 (`fast_sigmoid` has
2 / s) and are pointwise, so that a compiler can fuse them into the kernel that uses them. A surrogate stands in
`SURROGATES` and nowhere else: help, messages and docs/settings.md read its name there, so that nothing here imports
torch.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from torch import Tensor

Scale = Union[float, "Tensor"]


def sigmoid(u: "Tensor", scale: Scale = 4.0) -> "Tensor":
    """Derivative of a sigmoid: s sig(s u) (1 - sig(s u)), with the slope s = `scale`; peak s / 4.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Slope s, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> sigmoid(torch.tensor(0.0), 4.0).item()  # s / 4
        1.0
    """
    p = (scale * u).sigmoid()
    return p.addcmul(p, p, value=-1) * scale  # p (1 - p) in one pass


def atan(u: "Tensor", scale: Scale = 2.0) -> "Tensor":
    """Derivative of an arctangent: (s / 2) / (1 + (pi s u / 2)^2), with the slope s = `scale`; peak s / 2.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Slope s, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> atan(torch.tensor(0.0), 2.0).item()  # s / 2
        1.0
    """
    return scale / 2 / (1 + (math.pi / 2 * scale * u).square())


def triangle(u: "Tensor", scale: Scale = 1.0) -> "Tensor":
    """A triangle: max(0, w - |u|) / w^2, with the half width w = `scale`; peak 1 / w (TET, Deng et al. 2022).

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Half width w, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> triangle(torch.tensor([-0.25, 0.0, 2.0]), 1.0).tolist()
        [0.75, 1.0, 0.0]
    """
    return (scale - u.abs()).clamp(min=0) / (scale * scale)


def rectangular(u: "Tensor", scale: Scale = 1.0) -> "Tensor":
    """A rectangle: 1 / w where |u| < w / 2, else 0, with the width w = `scale`; peak 1 / w (STBP, Wu et al. 2018).

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Width w, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> rectangular(torch.tensor([-0.5, 0.5, 1.5]), 2.0).tolist()  # 1 / w where |u| < 1
        [0.5, 0.5, 0.0]
    """
    return (u.abs() < scale / 2).to(u.dtype) / scale


def piecewise_quadratic(u: "Tensor", scale: Scale = 1.0) -> "Tensor":
    """Derivative of a piecewise quadratic step: max(0, s - s^2 |u|), with s = `scale`; peak s (Esser et al. 2016).

    The same family as `triangle`, which names it by its half width 1 / s in place of its peak s.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Peak s, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> piecewise_quadratic(torch.tensor([0.0, 0.25]), 2.0).tolist()  # 2 - 4 |u|
        [2.0, 1.0]
    """
    return (scale - scale * scale * u.abs()).clamp(min=0)


def tanh(u: "Tensor", scale: Scale = 3.0) -> "Tensor":
    """Derivative of a hyperbolic tangent of slope s = `scale`, cut to a window of width 1 and brought to area 1.

    s sech^2(s u) / (2 tanh(s / 2)) where |u| <= 1 / 2, else 0; peak s / (2 tanh(s / 2)). That of MPBN's public code.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Slope s, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> round(tanh(torch.tensor(0.0), 3.0).item(), 4)  # s / (2 tanh(s / 2))
        1.6572
    """
    end = math.tanh(scale / 2) if isinstance(scale, float | int) else (scale / 2).tanh()
    return (u.abs() <= 0.5).to(u.dtype) * scale * (1 - (scale * u).tanh().square()) / (2 * end)


def fast_sigmoid(u: "Tensor", scale: Scale = 25.0) -> "Tensor":
    """Derivative of the fast sigmoid u / (1 + s |u|): 1 / (1 + s |u|)^2, with the slope s = `scale`; peak 1.

    SuperSpike, Zenke and Ganguli, Neural Computation 2018; as in snnTorch. Its area is 2 / s and not 1, so that a
    steeper one lets less gradient through.

    Args:
        u: Distance of the membrane from the threshold, any shape.
        scale: Slope s, > 0.

    Returns:
        g(u), of the shape of `u`.

    Examples:
        >>> import torch
        >>> fast_sigmoid(torch.tensor([0.0, 0.04]), 25.0).tolist()  # 1 / (1 + s |u|)^2
        [1.0, 0.25]
    """
    return (1 + scale * u.abs()).square().reciprocal()


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient by name.

    Attributes:
        gradient: g(u, scale), pointwise.
        scale: The shape parameter that is used when none is given.
        triton: The module that has the same function for Triton's kernels, by the name of `gradient`; None: there is
            none, and these kernels are not used with it.

    Examples:
        >>> import torch
        >>> from tser_lightning.neurons import LIF, SURROGATES
        >>> SURROGATES["wide_triangle"] = Surrogate(SURROGATES["triangle"].gradient, scale=2.0)
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> LIF(decay_input=False, surrogate="wide_triangle")(x).sum().backward()  # H = 1, at the threshold
        >>> x.grad.item()  # 1 / w
        0.5
        >>> del SURROGATES["wide_triangle"]
    """

    gradient: Callable[["Tensor", Scale], "Tensor"]
    scale: float
    triton: str | None = None

    def for_triton(self) -> Any:
        """The function that Triton's kernels take; there has to be one."""
        assert self.triton is not None
        return getattr(importlib.import_module(self.triton), self.gradient.__name__)


_TRITON = "tser_lightning.kernels.triton_surrogates"
SURROGATES = {
    "sigmoid": Surrogate(sigmoid, 4.0, _TRITON),
    "atan": Surrogate(atan, 2.0, _TRITON),
    "triangle": Surrogate(triangle, 1.0, _TRITON),
    "rectangular": Surrogate(rectangular, 1.0, _TRITON),
    "piecewise_quadratic": Surrogate(piecewise_quadratic, 1.0, _TRITON),
    "tanh": Surrogate(tanh, 3.0, _TRITON),
    "fast_sigmoid": Surrogate(fast_sigmoid, 25.0, _TRITON),
}


def surrogate_named(name: str) -> Surrogate:
    """Look a surrogate up by its name.

    Args:
        name: A key of `SURROGATES`.

    Returns:
        Its entry.

    Raises:
        ValueError: There is none of that name.

    Examples:
        >>> surrogate_named("atan").scale
        2.0
    """
    if name not in SURROGATES:
        raise ValueError(f"surrogate={name!r} is not one of {', '.join(SURROGATES)}")
    return SURROGATES[name]
