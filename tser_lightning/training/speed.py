"""Choices that make a training faster or smaller and change its numbers by rounding alone."""

import torch
from torch import nn

from tser_lightning.mistake import Mistake
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.student import Student
from tser_lightning.training.recipe import Machine


def prepare(student: nn.Module, machine: Machine) -> None:
    """Set a student up for a machine.

    Raises:
        Mistake: A setting that does not exist.
    """
    if machine.memory not in ("auto", "low"):
        raise Mistake(
            what=f"machine.memory={machine.memory} is neither auto nor low",
            why="low keeps spikes as bits for the backward pass",
            fix="machine.memory=low",
        )
    allow_fusing(student, machine.fused)
    student.to(memory_format=torch.channels_last if machine.channels_last else torch.contiguous_format)
    if isinstance(student, Student):
        student.saves_memory = machine.memory == "low"
