"""Two machines that train together, played by two processes that torchrun starts as the first of a machine each."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tser_lightning.errors import UsageError
from tser_lightning.tasks.run_parts import check_machine
from tser_lightning.training import Machine, Recipe

WORDS = ["loss=ce", "teacher=none", "trainer.epochs=2", "data.batch_size=100", "student.widths=[4,8]"]
WORDS += ["student.timesteps=2", "logging.wandb.mode=disabled", "machine.accelerator=cpu", "machine.devices=1"]


@pytest.mark.slow
def test_two_machines_give_what_one_gives_and_one_of_them_writes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = ["-m", "tser_lightning", *WORDS]
    subprocess.run([sys.executable, *alone, "machine.runs_dir=one"], cwd=tmp_path, check=True, timeout=300)
    two = ["machine.runs_dir=two", "machine.num_nodes=2", "machine.strategy=ddp"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    torchrun += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    nodes = [subprocess.Popen([*torchrun, f"--node_rank={rank}", *alone, *two], cwd=tmp_path) for rank in (0, 1)]
    try:
        assert [node.wait(300) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    found = [next((tmp_path / folder).glob("digits-*")) for folder in ("one", "two")]
    assert found[0].name == found[1].name
    rows = [list(csv.DictReader((home / "metrics.csv").open())) for home in found]
    assert len(rows[0]) == len(rows[1]) == 2
    for row, row_2 in zip(*rows, strict=True):
        assert row.keys() == row_2.keys()
        for name in row.keys() - {"seconds"}:
            assert float(row_2[name]) == pytest.approx(float(row[name]), abs=1e-4), name
    results = [json.loads((home / "result.json").read_text()) for home in found]
    assert results[1]["test/acc"] == pytest.approx(results[0]["test/acc"], abs=1e-4)


def test_machines_that_nobody_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="nothing says where the other machines are"):
        check_machine(Recipe(), Machine(accelerator="cpu", devices=1, num_nodes=2))
