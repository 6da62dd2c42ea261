"""A norm and the activation behind it, computed as one operation where that is possible, with the same numbers.

Every architecture calls `norm_act` where a norm is followed by an activation. The pair is one operation
(`kernels.norm_lif`) where a plain `BatchNorm2d` is followed by a LIF, IF, PLIF or LSG neuron in a student; while it
streams, only in eager torch and without gradients. Everything else is called as it is written: other norms (tdBN,
TEBN), other neurons, an ANN's ReLU, a norm or a neuron that somebody listens to with a hook, and a network that is
being compiled or exported without Triton's kernels, where the compiler does the fusing.
"""

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tser_lightning.kernels.dispatch import chosen
from tser_lightning.neurons.neuron import LIF

_found: ContextVar[set[nn.Module] | None] = ContextVar("neurons that computed as one with a norm", default=None)
GLOBAL_HOOKS = [
    cast(dict[int, Any], getattr(torch_module, f"_global_{way}_hooks"))
    for way in ("forward", "forward_pre", "backward", "backward_pre")
]


def norm_act(norm: nn.Module, act: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """Give act(norm(x) + residual), [N, C, H, W]; the residual is as norm(x) or, for an ANN alone, left out."""
    if isinstance(norm, nn.BatchNorm2d) and isinstance(act, LIF) and _as_one(norm, act, x, residual):
        _note(act)
        return act.after_norm(norm, x, residual)
    x = norm(x)
    return cast(Tensor, act(x if residual is None else x + residual))


def _as_one(norm: nn.BatchNorm2d, act: LIF, x: Tensor, residual: Tensor | None) -> bool:
    return (
        act.fused
        and type(norm) is nn.BatchNorm2d
        and type(act).run is LIF.run
        and act.clock.steps is not None
        and x.numel() > x.shape[1]  # below, the norm has an error to raise
        and (residual is None or (residual.shape == x.shape and residual.dtype == x.dtype))
        and not _heard(norm)
        and not _heard(act)
        and _has_operation(act, x)
    )


def _has_operation(act: LIF, x: Tensor) -> bool:
    """Whether there is one operation for both: all steps of a call, or one step of a stream without gradients."""
    backend = chosen(act.spec, x)
    return backend != "reference" if act.clock.carry is None else backend == "eager" and not torch.is_grad_enabled()


def _heard(module: nn.Module) -> bool:
    """Tell whether a module has forward hooks, which a fused call would pass by."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own) or any(GLOBAL_HOOKS)


def _note(act: LIF) -> None:
    """Tell `fused_neurons`, if it asked."""
    found = None if torch.compiler.is_compiling() else _found.get()
    if found is not None:
        found.add(act)


@torch.no_grad()
def fused_neurons(network: nn.Module, images: Tensor) -> set[nn.Module]:
    """Find out which neurons compute as one with the norm before them, by a call in eval mode.

    Args:
        network: A student, as it will run: hooks on it count.
        images: What it is called with.
    """
    modes = [(module, module.training) for module in network.modules()]
    token = _found.set(set())
    try:
        network.eval()(images)
        return _found.get() or set()
    finally:
        _found.reset(token)
        for module, training in modes:
            module.training = training


def allow_fusing(network: nn.Module, allowed: bool) -> None:
    """Let the neurons of a network compute as one with the norms before them, or not."""
    for module in network.modules():
        if isinstance(module, LIF):
            module.fused = allowed


class Layers(nn.Sequential):
    """Modules one after the other, as `in_order` applies them."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply them all."""
        return in_order(self, x)


def in_order(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply modules one after the other, a norm and the module behind it through `norm_act`.

    Where one of them is `Layers`, the norm at its end meets what follows.
    """
    left = list(_flat(modules))
    while left:
        module = left.pop(0)
        x = norm_act(module, left.pop(0), x) if isinstance(module, nn.BatchNorm2d) and left else module(x)
    return x


def _flat(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, Layers) and not _heard(module):
            yield from _flat(module)
        else:
            yield module
