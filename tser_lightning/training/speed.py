"""Choices that make a training faster or smaller and change its numbers by rounding alone."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.errors import UsageError
from tser_lightning.kernels.dispatch import chosen
from tser_lightning.kernels.spec import NeuronSpec
from tser_lightning.models.fusing import allow_fusing, fused_neurons
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import Neuron
from tser_lightning.training.recipe import Machine, Recipe

CUDA_GRAPHS = "reduce-overhead"
MEMORY = ("auto", "low", "lowest")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of malloc.h


def prepare_student(
    student: nn.Module, recipe: Recipe, machine: Machine, shape: tuple[int, int, int], device: torch.device
) -> None:
    """Prepare a student for a machine: memory layout, fusing, what is kept for the backward pass.

    Args:
        student: The student; it is changed in place.
        recipe: How it will be trained.
        machine: Its `memory`, `fused` and `channels_last`.
        shape: [C, H, W] of an image.
        device: The device that it will run on.

    Raises:
        UsageError: A setting that does not exist, or two that do not go together.
    """
    check_speed(recipe, machine)
    allow_fusing(student, machine.fused)
    there = next(student.parameters(), torch.empty(0)).device  # it goes to its device later
    lay_out(student, torch.zeros(2, *shape, device=there), device, machine.channels_last)
    if isinstance(student, Student):
        student.saves_memory = machine.memory in ("low", "lowest")
        student.recomputes = machine.memory == "lowest"


def check_speed(recipe: Recipe, machine: Machine) -> None:
    """Raise a `UsageError` for settings that do not exist or do not go together."""
    if machine.memory not in MEMORY:
        raise UsageError(
            what=f"memory={machine.memory} is none of {', '.join(MEMORY)}",
            why="low keeps spikes as bits for the backward pass, lowest computes blocks again too",
            fix="memory=low",
        )
    if machine.compile not in (False, True, CUDA_GRAPHS):
        raise UsageError(
            what=f"compile={machine.compile} is none of False, True, {CUDA_GRAPHS}",
            why=f"True compiles student and teacher, {CUDA_GRAPHS} replays them as CUDA graphs besides",
            fix="compile=True",
        )
    if machine.compile and machine.memory != "auto":
        raise UsageError(
            what=f"compile={machine.compile} does not go with memory={machine.memory}",
            why="a compiled student keeps for the backward pass what the compiler chooses",
            fix="compile=False, or memory=auto",
        )
    if machine.compile == CUDA_GRAPHS and recipe.accumulate > 1:
        raise UsageError(
            what=f"compile={CUDA_GRAPHS} does not go with accumulate={recipe.accumulate}",
            why="a CUDA graph writes the gradients of a batch over those of the batch before",
            fix="compile=True, or accumulate=1 with a smaller `batch_size`",
        )


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones; on Linux with glibc, elsewhere nothing.

    By itself glibc hands tensors above 32 MiB back to the system, which then fills new pages with zeros at every step:
    an eighth of the time of a small student. What the user has set in the environment holds.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def compiled(module: nn.Module, how: bool | str) -> Callable[..., Any]:
    """Give a module's call as `torch.compile` makes it; the module and the names of its weights stay as they are.

    Args:
        module: A student or teacher. It is compiled at the first call, and again for another T, mode or (once) batch.
        how: False: not at all; True; or "reduce-overhead", with CUDA graphs.
    """
    # A partial, because a module would become a part of whoever keeps it.
    return partial(torch.compile(module, mode=None if how is True else str(how)) if how else module)


def described(
    student: nn.Module, images: ImageDataModule, machine: Machine, device: torch.device, optimizer: Optimizer
) -> str:
    """Describe in a line what a training uses of its machine, from the modules that do the work."""
    kept = {"low": "spikes kept as bits", "lowest": "spikes kept as bits, blocks computed twice"}
    graphs = ", as CUDA graphs" if machine.compile == CUDA_GRAPHS and device.type == "cuda" else ""
    parts = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        _counted(torch.get_num_threads(), "thread"),
        f"compiled by torch{graphs}" if machine.compile else _neurons(student, images.data.shape, device),
        "channels_last" if _channels_last(student) else "",
        kept.get(machine.memory, ""),
        "fused optimiser" if optimizer.param_groups[0].get("fused") else "",
        f"images on the {'device' if images.is_on_device else 'host' if images.data.in_memory else 'disk'}",
        _counted(images.workers, "worker"),
    ]
    return ", ".join(part for part in parts if part)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _neurons(student: nn.Module, shape: tuple[int, int, int], device: torch.device) -> str:
    neurons = [module for module in student.modules() if isinstance(module, Neuron)]
    if not neurons:
        return ""
    backends = sorted({_backend(neuron, device) for neuron in neurons})
    images = torch.zeros(2, *shape, device=device, dtype=next(student.parameters()).dtype)
    fused = len(fused_neurons(student, images))
    some = "" if fused == len(neurons) else f"{fused} of {_counted(len(neurons), 'layer')} "
    return f"{' and '.join(backends)} neurons{f', {some}fused with their norms' if fused else ''}"


def _backend(neuron: Neuron, device: torch.device) -> str:
    spec = getattr(neuron, "spec", NeuronSpec(backend="reference"))  # of one's own: plain operations
    return chosen(spec, torch.empty(0, device=device))


def _channels_last(student: nn.Module) -> bool:
    convs = [
        module.weight for module in student.modules() if isinstance(module, nn.Conv2d) and module.kernel_size > (1, 1)
    ]
    return any(weight.is_contiguous(memory_format=torch.channels_last) for weight in convs)
