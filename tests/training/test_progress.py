import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tser_lightning.operating_system import WINDOWS
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


@pytest.mark.skipif(WINDOWS, reason="there is no pseudo-terminal")
def test_a_terminal_of_80_columns_counts_epochs_from_one_and_says_what_is_left() -> None:
    import pty

    parent, child = pty.openpty()
    begin = CELL.replace("[1:]", "[1:2]")  # without the lines of the log, which say it too
    with subprocess.Popen(
        [sys.executable, "-c", begin], stdout=child, stderr=child, env=os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    ) as process:
        os.close(child)
        said = b""
        with contextlib.suppress(OSError):  # EIO: its end is closed
            while part := os.read(parent, 65536):
                said += part
    os.close(parent)
    assert process.returncode == 0, said
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).splitlines()
    assert any(line.startswith("epoch 1 of 2 ") for line in lines), "\n".join(lines)
    assert any(re.match(r"epoch 2 of 2 .*left: 0:00:0", line) for line in lines), "\n".join(lines)
    assert not any("Epoch 0" in line for line in lines)


@pytest.mark.slow
def test_a_notebook_shows_a_bar_without_its_widgets(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = json.dumps(notebook.cells[0].outputs)
    assert "['MachineLine', 'NotebookBar', 'EpochLines']" in said
    assert "epoch 2 of 2" in said
    assert "left" in said
