"""Other systems, by taking away what they lack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tser_lightning import operating_system

LIBRARIES = "import lightning.pytorch, wandb"  # they look at what there is for themselves
WITHOUT = """
import os, subprocess, sys, types
held = set()
def locking(descriptor, mode, size):
    place = os.fstat(descriptor).st_ino
    if place in held and mode == 2:
        raise OSError("locked")
    held.add(place)
msvcrt = types.SimpleNamespace(locking=locking, LK_LOCK=1, LK_NBLCK=2)
sys.modules.update({"fcntl": None, "resource": None, "msvcrt": msvcrt})
os.environ["USERNAME"] = "somebody"
del os.sched_getaffinity, os.getuid
from tser_lightning import operating_system
operating_system.WINDOWS = True
"""
RUN = """
from tser_lightning.cli.main import main
sys.exit(main(["debug=step", "loss=ce", "teacher=none", "logging.wandb.mode=disabled"]))
"""


def test_this_systems_own_answers() -> None:
    assert operating_system.cores() == len(os.sched_getaffinity(0))
    assert operating_system.process_lives(os.getpid())
    assert not operating_system.process_lives(2**22 + 1)  # above Linux' largest
    peak = operating_system.peak_resident_mib()
    status = Path("/proc/self/status").read_text()
    now = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak == pytest.approx(now, rel=0.05)


def test_a_lock_is_seen_by_another_process(tmp_path: Path) -> None:
    other = "import sys; from tser_lightning.operating_system import lock; sys.exit(lock(open(sys.argv[1], 'a')))"
    with (tmp_path / "lock").open("w") as file:
        assert operating_system.lock(file)
        assert subprocess.run([sys.executable, "-c", other, tmp_path / "lock"]).returncode == 0
    assert subprocess.run([sys.executable, "-c", other, tmp_path / "lock"]).returncode == 1


def test_memory_is_counted_in_bytes_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    here = operating_system.peak_resident_mib()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert here is not None
    assert operating_system.peak_resident_mib() == pytest.approx(here / 1024, rel=0.05)


def test_a_run_needs_nothing_that_windows_lacks(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARIES + WITHOUT + RUN], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("runs/*/result.json"))


def test_a_second_run_finds_the_first_one_at_work_without_fcntl(tmp_path: Path) -> None:
    lock = """
with open(sys.argv[1], "w") as one, open(sys.argv[1], "w") as other:
    print(operating_system.lock(one), operating_system.lock(other), operating_system.cores(), operating_system.user())
import signal
del signal.SIGUSR1, signal.SIGUSR2
operating_system.ignore_user_signals()
"""
    told = subprocess.run([sys.executable, "-c", WITHOUT + lock, tmp_path / "lock"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["True", "False", str(os.cpu_count()), "somebody"]
