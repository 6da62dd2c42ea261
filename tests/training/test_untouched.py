"""No mixed precision changes the teacher; that no loss does in float32 is in test_plain_lightning.py."""

from pathlib import Path

import pytest
import torch

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.models import Student
from tser_lightning.training import Machine, Recipe, Teacher, fit

NAMES = ["ce", "tser", "bkdsnn", "ckdsnn", "sakd"]  # without it, by its logits, its layers, its classifier


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_the_same_after_a_training(
    student: Student, teacher: Teacher, digits: Digits, tmp_path: Path, name: str
) -> None:
    before, weights = teacher.fingerprint(), [value.clone() for value in student.state_dict().values()]
    recipe = Recipe(epochs=1, precision="bf16-mixed", steps=2)
    fit(
        student, tl.build_loss(name), teacher, digits, tmp_path, recipe=recipe, machine=Machine("cpu"), selection="last"
    )
    assert teacher.fingerprint() == before
    assert not any(module.training for module in teacher.net.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(weights, student.state_dict().values(), strict=True))
