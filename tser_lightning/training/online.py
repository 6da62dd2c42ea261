"""Online training: each time step is backpropagated before the next, so that memory does not grow with T.

A loss that is a sum over time steps, L = mean_t L_t, has at every step the gradient

    dL_t/dW = dL_t/dz_t dz_t/dW,  with the membranes that step t - 1 left taken as constants,

where training through time adds what W did to those membranes. So a step needs its own graph alone. Source: spatial
learning through time (SLTT), Meng et al., ICCV 2023, arXiv 2302.14311.

Legend: T time step.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from tser_lightning.errors import UsageError
from tser_lightning.losses import LossTerms
from tser_lightning.losses.contract import needs_of, sums_over_steps
from tser_lightning.models import Student
from tser_lightning.models.network import network_of
from tser_lightning.models.norms import NormByStep
from tser_lightning.neurons import Neuron
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.sharding import is_sharded
from tser_lightning.training.user_code import named

log = logging.getLogger("tser_lightning")


def online(steps: Iterable[LossTerms], parameters: Sequence[nn.Parameter]) -> LossTerms:
    """Backpropagate the loss of each time step before the next step is computed.

    Args:
        steps: The losses of the steps, each computed when it is asked for and free of the graphs of those before.
        parameters: What a gradient is wanted for.

    Returns:
        The means over the steps. A backward pass from the total hands on the gradients, which are computed already, so
        that loss scaling, accumulation, clipping and DDP work as they do otherwise.
    """
    grads: list[Tensor | None] = [None] * len(parameters)
    seen: list[LossTerms] = []
    for terms in steps:
        _add(grads, terms.total, parameters)
        seen.append(
            LossTerms(terms.total.detach(), {k: part.detach() for k, part in terms.parts.items()}, terms.weights)
        )
    means = {name: torch.stack([terms.parts[name] for terms in seen]).mean() for name in seen[0].parts}
    total = torch.stack([terms.total for terms in seen]).mean()
    return LossTerms(_Known.apply(total, grads, len(seen), *parameters), means, seen[0].weights)


def _add(grads: list[Tensor | None], total: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of a step to the sums; each is freed at once, so that there are never more than two."""
    with torch.autocast(total.device.type, enabled=False):  # a backward pass has the precision of its forward
        found = list(torch.autograd.grad(total, parameters, allow_unused=True))
    while found:
        now, at = found.pop(), len(found)
        before = grads[at]
        if before is None or now is None:
            grads[at] = now if before is None else before
        else:
            grads[at] = before + now  # not in place: two parameters may be given one tensor


class _Known(torch.autograd.Function):
    """A mean over so many steps, the sum of whose gradients is known."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, grads: Sequence[Tensor | None], steps: int, *_: Tensor) -> Tensor:
        ctx.grads, ctx.steps = grads, steps
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad / ctx.steps
        return None, None, None, *(None if each is None else each * scale for each in ctx.grads)


def check_online(student: nn.Module, loss: nn.Module, recipe: Recipe, machine: Machine) -> None:
    """Refuse what cannot be trained step by step.

    Raises:
        UsageError: A loss that is no sum over steps or asks for what spans them; a student that does not run step by
            step; a setting that does not go with it.
    """
    if recipe.through_time:
        return
    whole = "through_time=True"
    if not sums_over_steps(loss):
        raise UsageError(
            what=f"through_time=False does not go with {named('loss', loss)}, which is no sum over time steps",
            why="each step is gone back through before the next is there; this loss compares steps, averages them "
            "first, or does not say that it is a sum",
            fix=f"`TSER`, `TET` or `LogitStandardization`, or {whole}; in a loss of your own that is the mean of "
            "what it is for each step alone, the class attribute sums_over_steps = True",
        )
    needs = needs_of(loss)
    refused = {
        "a loss that asks for membranes": ("they are known of all steps together alone", whole, bool(needs.membranes)),
        "a loss that asks for the moving average": ("it answers for all steps together", whole, needs.ema),
        named("student", network_of(student)): (
            "it does not run step by step: a part of it needs all steps at once",
            f"{whole}, or a network without it (PFA)",
            not (isinstance(student, Student) and student.causal),
        ),
        f"precision={recipe.precision}": (
            "the gradients of a step are there before the loss is scaled",
            "precision=bf16-mixed",
            recipe.precision.startswith("16"),
        ),
        f"compile={machine.compile}": (
            "a student is compiled for all steps at once",
            "compile=False",
            bool(machine.compile),
        ),
        f"memory={machine.memory}": (
            "blocks are not computed again where the student runs step by step",
            "memory=low",
            machine.memory == "lowest",
        ),
        "strategy=fsdp": ("weights that lie in parts", "strategy=ddp", is_sharded(machine)),
    }
    for what, (why, fix, is_so) in refused.items():
        if is_so:
            raise UsageError(f"through_time=False does not go with {what}", why, fix)


def warn_of_norms(student: nn.Module) -> None:
    """Warn of norms whose statistics are of all steps, and of one step alone in online training."""
    inside = {part for module in student.modules() if isinstance(module, Neuron) for part in module.modules()}
    norms = [module for module in student.modules() if isinstance(module, _BatchNorm) and module not in inside]
    kinds = sorted({type(norm).__name__ for norm in norms if not isinstance(norm, NormByStep)})
    if kinds:
        log.warning(
            "through_time=False: %s sees one step at a time, but keeps the same running statistics for all: "
            "what is measured after the training, above all step 1, can be much worse; `BNTT` has its own for every "
            "step",
            " and ".join(kinds),
        )
