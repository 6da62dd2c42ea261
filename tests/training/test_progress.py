import json
from pathlib import Path

import pytest

from tser_lightning.training.progress import progress_callbacks

CELL = """
import logging
import torch
import lightning.pytorch as pl
from lightning.pytorch.demos.boring_classes import BoringModel
from tser_lightning.training.progress import progress_callbacks
print([type(each).__name__ for each in progress_callbacks()])
trainer = pl.Trainer(max_epochs=2, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", logger=False,
                     enable_checkpointing=False, enable_model_summary=False, callbacks=progress_callbacks()[1:])
trainer.fit(BoringModel())
"""


def test_a_pipe_gets_lines_alone() -> None:
    assert [type(each).__name__ for each in progress_callbacks()] == ["MachineLine", "EpochLines"]


@pytest.mark.slow
def test_a_notebook_shows_a_bar_without_its_widgets(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = json.dumps(notebook.cells[0].outputs)
    assert "['MachineLine', 'NotebookBar', 'EpochLines']" in said
    assert "Epoch 1" in said
    assert "left" in said
