"""The choice of the neurons' backend for a training on a CPU where it is auto: eager, or compiled where that pays.

Both compute the same and round differently, so a training keeps the one that it began with.
"""

import copy
import logging
import time
from dataclasses import replace

import torch
from torch import Tensor, nn

from tser_lightning.data.image_data import ImageData
from tser_lightning.errors import UsageError
from tser_lightning.neurons.neuron import LIF
from tser_lightning.training.preserve_state import own_random_numbers
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.speed import prepare_student

log = logging.getLogger("tser_lightning")

FEW_STEPS = 200  # the steps that are tried would be noticed beside so few
WARM_UP_SECONDS = 30.0  # until the compiler has made what a ResNet-18 needs
SAVING = 0.1  # of a student's step: 0.02 to 0.18 were measured (benchmarks/README.md)
ROUNDS = 3


def is_open(student: nn.Module, machine: Machine) -> bool:
    """Whether there is something to choose: neurons whose backend is auto, trained by one process on a CPU."""
    on_cpu = machine.accelerator == "cpu" or (machine.accelerator == "auto" and not torch.accelerator.is_available())
    alone = machine.devices in ("auto", 1) and machine.num_nodes == 1 and not machine.compile
    return on_cpu and alone and bool(_open_neurons(student))


def use_backend(student: nn.Module, name: str) -> None:
    """Set the backend of those neurons of a student whose own is auto."""
    for neuron in _open_neurons(student):
        neuron.spec = replace(neuron.spec, backend=name)


def faster_backend(student: nn.Module, data: ImageData, recipe: Recipe, machine: Machine) -> str:
    """Choose between eager and compiled by the seconds that a whole training is going to take.

    Copies of the student take a few steps on a training batch: eager ones, and compiled ones only where a tenth of all
    steps would take longer than the warm-up. A training of few steps is not tried at all.

    Args:
        student: As it begins; it is left as it is.
        data: The data set, of which one training batch is taken.
        recipe: How it will be trained.
        machine: Its memory format and what is kept for the backward pass.

    Returns:
        "eager" or "compiled".
    """
    batches = -(-len(data.indices("train")) // data.batch_size)
    steps = recipe.epochs * min(batches, recipe.steps or batches)
    if steps < FEW_STEPS:
        return "eager"
    with own_random_numbers():
        trial = _Trial(student, data, recipe, machine)
        eager = min(trial.seconds("eager") for _ in range(ROUNDS))
        if steps * eager * SAVING < WARM_UP_SECONDS:
            return "eager"
        try:
            trial.seconds("compiled")
        except Exception as error:  # no compiler, or whatever one can come up with: eager works
            log.info("machine: neurons stay eager, they cannot be compiled: %s", _first_line(error))
            return "eager"
        rounds = [(trial.seconds("eager"), trial.seconds("compiled")) for _ in range(ROUNDS)]
    eager, compiled = (min(seconds) for seconds in zip(*rounds, strict=True))
    name = "compiled" if compiled < eager else "eager"
    log.info(
        "machine: %s neurons chosen: a step of the student takes %.3g s compiled, %.3g s eager; the two round "
        "differently, and backend=eager or compiled says which to take",
        name,
        compiled,
        eager,
    )
    return name


def check_compiled(student: nn.Module, data: ImageData, recipe: Recipe, machine: Machine) -> None:
    """Check that the compiled backend, with which a training began, still works on this machine.

    Raises:
        UsageError: They cannot.
    """
    with own_random_numbers():
        try:
            _Trial(student, data, recipe, machine).seconds("compiled")
        except Exception as error:
            raise UsageError(
                what=f"the neurons of this run cannot be compiled any more: {_first_line(error)}",
                why="it began with compiled neurons (run.json), and eager ones would round differently",
                fix="a C++ compiler, or force=True to begin this run again",
            ) from error


class _Trial:
    """Steps of copies of a student on one batch."""

    def __init__(self, student: nn.Module, data: ImageData, recipe: Recipe, machine: Machine) -> None:
        self._images: Tensor = next(iter(data.loader("train"))).images
        self._precision = recipe.precision
        prepared = copy.deepcopy(student).train()
        prepare_student(prepared, recipe, machine, data.shape, torch.device("cpu"))
        self._students = {name: copy.deepcopy(prepared) for name in ("eager", "compiled")}
        for name, made in self._students.items():
            use_backend(made, name)
        self.seconds("eager")  # the first is slower

    def seconds(self, name: str) -> float:
        """Time forward and backward with a backend, by the processor's time, which other work does not lengthen."""
        begin = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled="16" in self._precision):
            logits_TBC = self._students[name](self._images)
        logits_TBC.float().square().mean().backward()
        return (time.process_time() - begin) / torch.get_num_threads()


def _open_neurons(student: nn.Module) -> list[LIF]:
    return [module for module in student.modules() if isinstance(module, LIF) and module.spec.backend == "auto"]


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
