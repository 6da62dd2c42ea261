from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from tser_lightning.errors import RunError
from tser_lightning.training.checkpoints import Checkpoints, read_sealed


class Holder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(1, 1, bias=False)


def validated(score: float, epoch: int, first: bool = True) -> Any:
    return SimpleNamespace(
        callbacks=[], callback_metrics={"val/acc": torch.tensor(score)}, current_epoch=epoch, is_global_zero=first
    )


def test_the_best_epoch_stays_and_the_first_process_alone_writes_it(tmp_path: Path) -> None:
    kept, module = Checkpoints(tmp_path, "val/acc"), Holder()
    for epoch, (score, weight) in enumerate([(50.0, 1.0), (70.0, 2.0), (60.0, 3.0), (70.0, 4.0), (10.0, 5.0)]):
        nn.init.constant_(module.student.weight, weight)
        kept.on_validation_end(validated(score, epoch), module)
    best = read_sealed(tmp_path / "best.ckpt")
    assert (best["epoch"], best["val/acc"], best["state_dict"]["student.weight"].item()) == (3, 70.0, 4.0)
    assert kept.best is not None
    assert kept.best["weight"].item() == 4.0

    other = Checkpoints(tmp_path / "other", "val/acc")
    other.on_validation_end(validated(50.0, 0, first=False), module)
    assert other.score == 50.0
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the checkpoint .*none\.ckpt is damaged: No such file or directory"):
        read_sealed(tmp_path / "none.ckpt")
