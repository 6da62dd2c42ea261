"""A job of a scheduler that is warned of its end saves, is put into the queue again, and goes on in the same folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

pytestmark = pytest.mark.slow

WORDS = ["trainer.epochs=60", "machine.checkpoint_every=null", "logging.wandb.mode=offline"]
MOST_SECONDS = 600


def job_of(word: str) -> Iterator[tuple[int, int]]:
    """Find the process of a job by a word of its command, and the launcher's that has started it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if word.encode() in words and b"tser_lightning.cli.job" in words:
                yield int(place.name), int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue


def until(true: Callable[[], Any]) -> Any:
    limit = time.monotonic() + MOST_SECONDS
    while not (found := true()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


def test_a_warned_job_is_requeued_and_ends_as_one_left_alone(command: Callable[..., Any], memory: Path) -> None:
    alone, child = command(*WORDS), command(*WORDS)
    assert alone() == 0, alone.said()
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60"]
    with subprocess.Popen(
        [sys.executable, "-m", "tser_lightning", "-m", *child.run.overrides, *launcher],
        cwd=memory,
        stderr=subprocess.PIPE,
        text=True,
    ) as sweep:
        last = child.home.checkpoints / "last.ckpt"
        until(lambda: last.exists() or sweep.poll() is not None)
        assert sweep.poll() is None, sweep.communicate()
        (job,) = job_of(f"machine.runs_dir={child.home.path.parent}")
        for process in job:  # Slurm sends it to all
            os.kill(process, signal.SIGUSR2)
        said = sweep.communicate(timeout=MOST_SECONDS)[1]
    assert sweep.returncode == 0, said
    assert "1 of 1 jobs done" in said
    log = (child.home.path / "log.txt").read_text()
    assert log.count("resuming from") == 1
    assert len([path for path in child.home.path.parent.iterdir() if path.name.startswith("digits")]) == 1
    assert child.ends() == alone.ends()
