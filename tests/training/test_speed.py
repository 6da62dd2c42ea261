from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

from tser_lightning.data.synthetic import Synthetic
from tser_lightning.losses import CrossEntropy, DistillationLoss, KLDivergence
from tser_lightning.mistake import Mistake
from tser_lightning.models import Student, relu
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, Teacher, fit
from tser_lightning.training.speed import prepare


def curve(folder: Path, **settings: Any) -> list[float]:
    """The loss of every epoch of a short training with some machine settings."""
    torch.manual_seed(0)
    data = Synthetic(4, (3, 8, 8), train_images=24, test_images=4, batch_size=8, augment={"crop": 1, "flip": True})
    teacher = Teacher(resnet_small(4, 3, relu, widths=(4,)))
    student = Student(resnet_small(4, 3, LIF, widths=(4, 8)), timesteps=2)
    rows: list[Any] = []
    fit(
        student,
        DistillationLoss({"ce": CrossEntropy(), "kl": KLDivergence()}),
        teacher,
        data,
        folder / "checkpoints",
        recipe=Recipe(epochs=3, optimizer=lambda groups: SGD(groups, lr=0.05)),
        machine=Machine(accelerator="cpu", runs_dir=str(folder), **settings),
        selection="last",
        record=rows.append,
    )
    return [row["train/loss"] for row in rows]


@pytest.mark.parametrize(
    "settings",
    [{"fused": False}, {"channels_last": False}, {"memory": "low"}, {"teacher_cache": 2}],
    ids=lambda settings: next(iter(settings)),
)
def test_no_choice_shows_in_the_loss(settings: dict[str, Any], tmp_path: Path) -> None:
    expected = curve(tmp_path / "expected")
    for _ in range(2):  # the second reads the teacher's logits, if they are kept
        runs = tmp_path / "kept"
        runs.mkdir(exist_ok=True)
        ours = curve(runs, **settings)
        assert len(ours) == 3
        assert ours == pytest.approx(expected, abs=1e-4)
        for file in (runs / "checkpoints").iterdir():
            file.unlink()


def test_settings_reach_the_student() -> None:
    student = Student(resnet_small(4, 3, LIF, widths=(4,)), timesteps=2)
    prepare(student, Machine(fused=False, memory="low"))
    neurons = [module for module in student.modules() if isinstance(module, LIF)]
    assert neurons
    assert not any(neuron.fused for neuron in neurons)
    assert student.saves_memory
    prepare(student, Machine())
    assert all(neuron.fused for neuron in neurons)
    assert not student.saves_memory


def test_unknown_memory_is_refused() -> None:
    with pytest.raises(Mistake, match="neither auto nor low"):
        prepare(torch.nn.Identity(), Machine(memory="small"))
