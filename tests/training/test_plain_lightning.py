"""The LightningModule under a Trainer that knows nothing of it: the same numbers as `fit` and `examine`."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.models import Student
from tser_lightning.training import Distiller, Machine, Recipe, Teacher, examine, fit

LOSSES = ["ce", "tet", "vanilla_kd", "ts", "tser", "kdsnn", "lasnn", "bkdsnn", "ckdsnn", "sakd", "dkd"]
MACHINE = Machine(accelerator="cpu", devices=1, workers=0)


def _parts(loss: str) -> tuple[Student, nn.Module, Teacher, Digits]:
    torch.manual_seed(3)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3], std=[0.4], batch_size=200)
    student = tl.build_student("resnet_small", in_channels=1, timesteps=2, widths=[4, 8])
    teacher = tl.build_teacher("resnet_small", in_channels=1, widths=[8, 8], weights=None)
    return student, tl.build_loss(loss), teacher, data


def _trainer(folder: Path, recipe: Recipe) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=recipe.epochs,
        accumulate_grad_batches=recipe.accumulate,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_a_plain_trainer_trains_the_same_weights_and_measures_the_same(loss: str, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, accumulate=2, ema=0.9 if loss == "tser" else None)
    student, its_loss, teacher, data = _parts(loss)
    fit(student, its_loss, teacher, data, tmp_path / "fit", recipe=recipe, machine=MACHINE, selection="last")
    plain, its_loss, teacher, data = _parts(loss)
    module = Distiller(plain, its_loss, teacher, data, recipe, machine=MACHINE, selection=None)
    trainer = _trainer(tmp_path, recipe)
    trainer.fit(module)
    held = [value for group in trainer.optimizers[0].param_groups for value in group["params"]]
    assert len(held) == len(list(module.parameters()))
    (tested,) = _trainer(tmp_path, recipe).test(module, verbose=False)
    if module.average is not None:
        module.average.exchange(plain)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in student.state_dict().items())
    measured = examine(student, teacher, data, machine=MACHINE)
    for name in ("acc", "acc_t1", "ece", "agreement"):
        assert tested[f"test/{name}"] == pytest.approx(measured[name], abs=1e-4)
