"""The LightningModule under a Trainer that knows nothing of it: the same numbers as `fit` and `evaluate_network`."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import tser_lightning as tl
from tser_lightning.data import Digits, ImageDataModule
from tser_lightning.models import Student
from tser_lightning.training import Distiller, Machine, Recipe, Teacher, evaluate_network, fit

LOSSES = sorted({file.stem for file in Path(__file__).parents[2].joinpath("conf/loss").glob("*.yaml")} - {"custom"})
MACHINE = Machine(accelerator="cpu", devices=1, workers=0)


def _parts(loss: str) -> tuple[Student, nn.Module, Teacher, Digits]:
    torch.manual_seed(3)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3], std=[0.4], batch_size=200)
    student = tl.build_student("resnet_small", in_channels=1, timesteps=2, widths=[4, 8])
    teacher = tl.build_teacher("resnet_small", in_channels=1, widths=[8, 8], weights=None)
    return student, tl.build_loss(loss), teacher, data


def _trainer(folder: Path, recipe: Recipe, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=recipe.epochs,
        accumulate_grad_batches=recipe.accumulate,
        limit_train_batches=recipe.steps,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing="callbacks" in settings,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_a_plain_trainer_trains_the_same_weights_and_measures_the_same(loss: str, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, accumulate=2, ema=0.9 if loss in ("tser", "bkdsnn") else None, steps=3)
    student, its_loss, teacher, data = _parts(loss)
    taught, start = teacher.fingerprint(), copy.deepcopy(student.state_dict())
    fit(student, its_loss, teacher, data, tmp_path / "fit", recipe=recipe, machine=MACHINE, selection="last")
    assert teacher.fingerprint() == taught  # no loss changes its teacher
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    assert any(not torch.equal(value, start[name]) for name, value in student.state_dict().items())
    plain, its_loss, teacher, data = _parts(loss)
    module = Distiller(plain, its_loss, teacher, recipe=recipe, machine=MACHINE)
    trainer = _trainer(tmp_path, recipe)
    trainer.fit(module, datamodule=ImageDataModule(data, selection=None, workers=0))
    held = [value for group in trainer.optimizers[0].param_groups for value in group["params"]]
    assert len(held) == len(list(module.parameters()))
    (tested,) = _trainer(tmp_path, recipe).test(
        module, datamodule=ImageDataModule(data, selection=None, workers=0), verbose=False
    )
    if module.ema is not None:
        module.ema.exchange(plain)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in student.state_dict().items())
    measured = evaluate_network(student, teacher, data, machine=MACHINE)
    assert tested.keys() == {f"test/{name}" for name in measured}
    assert tested == pytest.approx({f"test/{name}": value for name, value in measured.items()}, rel=1e-5, abs=1e-4)


def test_a_module_with_data_of_its_own_needs_no_datamodule(tmp_path: Path) -> None:
    weights, recipe = [], Recipe(epochs=1, steps=2)
    for with_data in (False, True):
        student, loss, teacher, data = _parts("tser")
        if with_data:
            module = Distiller(student, loss, teacher, data, recipe, machine=MACHINE, selection=None)
            _trainer(tmp_path, recipe).fit(module)
        else:
            module = Distiller(student, loss, teacher, recipe=recipe, machine=MACHINE)
            _trainer(tmp_path, recipe).fit(module, datamodule=ImageDataModule(data, selection=None, workers=0))
        weights.append(student.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(TypeError, match="is no ImageDataModule"):
        _trainer(tmp_path, recipe).fit(Distiller(student, loss, teacher, recipe=recipe))


def test_a_plain_trainer_goes_on_exactly_from_its_own_checkpoints_in_which_the_average_has_its_place(
    tmp_path: Path,
) -> None:
    recipe, ends = Recipe(epochs=2, ema=0.4, steps=3), []
    for first in (None, str(tmp_path / "epoch=0.ckpt")):
        student, loss, teacher, data = _parts("bkdsnn")
        module = Distiller(student, loss, teacher, recipe=recipe, machine=MACHINE)
        kept = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/acc", save_top_k=-1, enable_version_counter=False)
        trainer = _trainer(tmp_path, recipe, callbacks=[kept])
        images = ImageDataModule(data, workers=0)
        trainer.fit(module, datamodule=images, ckpt_path=first)
        (tested,) = trainer.test(module, datamodule=images, verbose=False)
        assert module.ema is not None
        ends.append((module.state_dict(), module.ema.network, tested))
        fresh = Distiller(*_parts("bkdsnn")[:3], recipe=recipe, machine=MACHINE)
        (again,) = trainer.test(fresh, datamodule=images, ckpt_path=str(tmp_path / "epoch=1.ckpt"), verbose=False)
        assert again == tested
    (weights, average, tested), (weights_2, average_2, tested_2) = ends
    assert all(torch.equal(value, weights_2[name]) for name, value in weights.items())
    assert all(torch.equal(value, average_2[name]) for name, value in average.items())
    assert tested == tested_2
