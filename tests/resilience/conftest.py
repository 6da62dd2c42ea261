import dataclasses
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.cli.main import guarded
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.tasks.run_task import run_task
from tser_lightning.termination import terminable

SMALL = [
    *("student.widths=[4,8]", "teacher.widths=[4,8]", "teacher.weights=null", "student.timesteps=2"),
    *("trainer.epochs=3", "data.batch_size=160", "machine.accelerator=cpu", "machine.checkpoint_every=1"),
    *("machine.workers=0", "logging.wandb.mode=disabled"),
]
# Draws its masks from torch's generator, mixes the images, steps every second batch and averages the weights.
HARD = ["loss=bkdsnn", "data.mixup.alpha=0.4", "data.mixup.smoothing=0.1", "trainer.accumulate=2", "trainer.ema=0.9"]
OWN_TIME = ("train/seconds", "train/seconds_per_step", "train/peak_memory_mb")

Sabotage = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Child:
    """A command in a process of its own that starts warm, as a copy of this one."""

    run: Run

    @property
    def home(self) -> RunDirectory:
        return RunDirectory(Path(self.run.config["machine"]["runs_dir"], self.run.name))

    def start(self, sabotage: Sabotage = lambda: None) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                log = os.open(self.home.path.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background too
                sabotage()
                with terminable():
                    code = guarded(lambda: 0 if run_task(self.run) else 1)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        return pid

    def end(self, pid: int) -> int:
        """Give the exit code, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def __call__(self, sabotage: Sabotage = lambda: None) -> int:
        return self.end(self.start(sabotage))

    def ends(self) -> tuple[bytes, str, dict[str, Any]]:
        """What must be the same however often a run was killed."""
        home = self.home.path
        result = json.loads((home / "result.json").read_text())
        kept = {key: value for key, value in result.items() if key not in OWN_TIME}
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in self.home.metrics()]
        return (home / "student.safetensors").read_bytes(), json.dumps(rows), kept

    def said(self) -> str:
        return (self.home.path.parent / "said.txt").read_text()


@pytest.fixture
def hard() -> list[str]:
    """Settings that draw random numbers in every step, mix the images, step every second batch, average the weights."""
    return HARD


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: these tests flush hundreds of files to the disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def command(memory: Path, configs: Configs) -> Callable[..., Child]:
    """Give a command on small networks, in a folder of its own."""
    made = iter(range(10_000))

    def give(*overrides: str) -> Child:
        folder = memory / f"runs{next(made)}"
        folder.mkdir()
        return Child(compose_run([*SMALL, f"machine.runs_dir={folder}", *overrides], configs=configs))

    return give


@pytest.fixture
def told_at() -> Callable[[Any, str, int, int], Sabotage]:
    """Give a sabotage that sends this process a signal where a function is called for the n-th time, and goes on."""

    def give(owner: Any, name: str, call: int, number: int) -> Sabotage:
        def sabotage() -> None:
            whole, calls = getattr(owner, name), 0

            def telling(*arguments: Any, **settings: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == call:
                    os.kill(os.getpid(), number)
                return whole(*arguments, **settings)

            setattr(owner, name, telling)

        return sabotage

    return give


@pytest.fixture(scope="session")
def references() -> dict[str, Any]:
    return {}


@pytest.fixture
def left_alone(command: Callable[..., Child], references: dict[str, Any]) -> Callable[..., Any]:
    """Give the end of a run that nobody disturbs."""

    def end(*overrides: str) -> Any:
        key = " ".join(overrides)
        if key not in references:
            child = command(*overrides)
            assert child() == 0, child.said()
            references[key] = child.ends()
        return references[key]

    return end
