import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.cli.config import Configs
from tser_lightning.cli.multirun import jobs_of

Told = Callable[..., list[tuple[str, str, str]]]

MINE = """
class Fine:
    name = "fine"
    def __init__(self, **settings): pass
    def prepare(self): print("prepared by", __import__("os").getpid())

class Broken(Fine):
    def prepare(self): raise RuntimeError("no")
"""


def test_a_sweep_is_every_combination(configs: Configs) -> None:
    assert jobs_of(["loss=ce,tser", "seed=1,2", "trainer.epochs=3"], configs) == [
        ["loss=ce", "seed=1", "trainer.epochs=3"],
        ["loss=ce", "seed=2", "trainer.epochs=3"],
        ["loss=tser", "seed=1", "trainer.epochs=3"],
        ["loss=tser", "seed=2", "trainer.epochs=3"],
    ]


def test_a_named_sweep_brings_its_own_values_and_the_command_wins(configs: Configs) -> None:
    named = jobs_of(["sweep=table3", "seed=1"], configs)
    assert [job[0] for job in named] == [f"loss={name}" for name in ("vanilla_kd", "ts_ce", "ts_kl", "ts", "tser")]
    assert len(jobs_of(["sweep=table3", "loss=ce", "seed=1,2"], configs)) == 2


def test_a_plus_before_what_exists_does_no_harm(configs: Configs) -> None:
    assert jobs_of(["+experiment=digits", "+seed=1,2"], configs) == [
        ["experiment=digits", "++seed=1"],
        ["experiment=digits", "++seed=2"],
    ]


def test_a_wrong_job_leaves_no_trace(told: Told, folder: Path) -> None:
    told("-m", "seed=1,2", "loss.tau=1,0")
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_one_process_per_job_and_a_failed_job_takes_no_other_along(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    words = ["-m", "task=prepare", "data._target_=mine.Broken,mine.Fine", "seed=1,2", "machine.runs_dir=records"]
    ended = subprocess.run(
        [sys.executable, "-m", "tser_lightning", *words], capture_output=True, text=True, check=False
    )
    processes = [line for line in ended.stdout.splitlines() if line.startswith("prepared by")]
    assert len(processes) == len(set(processes)) == 2
    assert ended.returncode == 1
    assert "tser: 2 of 4 jobs done" in ended.stderr
    assert ended.stderr.count("  exit code 1: task=prepare data._target_=mine.Broken seed=") == 2
    assert [path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"] == ["records"]
