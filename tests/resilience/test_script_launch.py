"""Two processes of one command: the second is started by Lightning as the same script again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.records.run_directory import RunDirectory

pytestmark = pytest.mark.slow

SMALL = [
    *("student.widths=[4,8]", "teacher.widths=[4,8]", "teacher.weights=null", "student.timesteps=2"),
    *("trainer.epochs=3", "data.batch_size=160", "norm._target_=torch.nn.InstanceNorm2d"),
    *("machine.accelerator=cpu", "machine.threads=1", "logging.wandb.mode=offline"),
]
TWO = ["machine.devices=2", "machine.strategy=ddp"]
MOST_SECONDS = 600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tser_lightning", *SMALL, *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said = process.communicate(timeout=MOST_SECONDS)[1]
    return process.returncode, said


def homes(folder: Path, runs: str = "runs") -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"{runs}/digits-*/run.json"))


def companions(first: int) -> Iterator[int]:
    """Find the processes that a process has started to train along."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == first and b"LOCAL_RANK=1" in (place / "environ").read_bytes():
                yield int(place.name)
        except (OSError, ValueError):
            continue


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(true: Callable[[], Any]) -> Any:
    limit = time.monotonic() + MOST_SECONDS
    while not (found := true()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


def in_training(folder: Path, process: "subprocess.Popen[str]") -> Path:
    """Wait for the first epoch's checkpoint."""
    files: list[Path] = until(lambda: list(folder.glob("runs/digits-*/checkpoints/last.ckpt")) or process.poll())
    assert process.poll() is None, ended(process)
    return files[0].parent.parent


def test_one_command_two_processes_one_writer_and_the_numbers_of_one_process(folder: Path) -> None:
    code, said = ended(started(*TWO))
    assert code == 0, said
    assert ended(started("machine.runs_dir=alone"))[0] == 0
    (together,), (alone,) = homes(folder), homes(folder, "alone")
    assert together.name == alone.name
    assert len(list(folder.glob("runs/wandb/offline-run-*"))) == 1
    rows = [RunDirectory(home).metrics() for home in (together, alone)]
    for row, expected in zip(*rows, strict=True):
        assert float(row.pop("seconds")) > 0 < float(expected.pop("seconds"))
        assert list(map(float, row.values())) == pytest.approx(list(map(float, expected.values())), abs=1e-5)
    assert (together / "log.txt").read_text().count("the teacher is untrained") <= 1


def test_jobs_of_a_sweep_are_two_processes_each(folder: Path) -> None:
    code, said = ended(started("-m", "seed=1,2", *TWO))
    assert code == 0, said
    done = [json.loads((home / "result.json").read_text())["seed"] for home in homes(folder)]
    assert sorted(done) == [1, 2]
    assert len(list(folder.glob("runs/wandb/offline-run-*"))) == 2


@pytest.mark.parametrize("whom", ["the first", "the other"])
def test_one_that_is_killed_ends_the_other(folder: Path, whom: str) -> None:
    process = started(*TWO, "trainer.epochs=500")
    in_training(folder, process)
    (other,) = companions(process.pid)
    os.kill(process.pid if whom == "the first" else other, signal.SIGKILL)
    killed = time.monotonic()
    code, said = ended(process)
    until(lambda: is_gone(other))
    assert time.monotonic() - killed < 60
    assert code == (-signal.SIGKILL if whom == "the first" else 1), said
    assert "one of the processes that train together has died" in said
    assert "Traceback" not in said


def test_a_signal_to_the_command_saves_and_the_same_command_goes_on(folder: Path) -> None:
    process = started(*TWO, "trainer.epochs=500", "machine.checkpoint_every=null")
    home = in_training(folder, process)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert time.monotonic() - told < 30
    assert code == 143, said
    assert json.loads((home / "run.json").read_text())["status"] == "terminated"
    assert not list(companions(process.pid))
    epochs = len((home / "metrics.csv").read_text().splitlines())
    process = started(*TWO, "trainer.epochs=500", "machine.checkpoint_every=null")
    until(lambda: len((home / "metrics.csv").read_text().splitlines()) > epochs or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 143, said
    assert "resuming from" in said
