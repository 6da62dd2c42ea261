import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.sweep.jobs import Job, Jobs
from tser_lightning.sweep.slots import give_back, gpus, listed, slots_of, take

WHOLE = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-7e5c1b2a)
"""
DIVIDED = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 3g.71gb     Device  0: (UUID: MIG-1111)
  MIG 3g.71gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
"""


def machine(**settings: Any) -> dict[str, Any]:
    return {"accelerator": "auto", "devices": "auto", "threads": "auto", "slots": "auto"} | settings


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_the_list_of_gpus_is_read_with_the_parts_of_a_divided_one() -> None:
    assert listed(WHOLE) == ["0", "1"]
    assert listed(DIVIDED) == ["MIG-1111", "MIG-2222", "1"]
    assert listed("No devices found.") == []


def test_only_the_gpus_that_the_user_leaves_visible_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus() == []


@pytest.mark.parametrize(
    ("settings", "count", "threads"),
    [
        ({}, 1, "4"),
        ({"threads": 1}, 4, "1"),
        ({"threads": 3}, 1, "3"),
        ({"slots": 2}, 2, "2"),
        ({"threads": 9}, 1, "9"),
    ],
)
def test_jobs_on_a_cpu_share_its_cores(settings: dict[str, Any], count: int, threads: str) -> None:
    slots = slots_of(machine(**settings))
    assert len(slots) == count
    assert {slot.environment["OMP_NUM_THREADS"] for slot in slots} == {threads}
    assert not any("CUDA_VISIBLE_DEVICES" in slot.environment for slot in slots)


def visible(**settings: Any) -> list[str]:
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots_of(machine(**settings))]


def test_each_job_has_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert visible() == ["0", "1", "2", "3", "4"]
    assert visible(devices=2) == ["0,1", "2,3"]
    assert visible(slots=7) == ["0", "1", "2", "3", "4", "0", "1"]
    assert visible(devices=8) == ["0,1,2,3,4"]  # too few: the job says so
    locks = [lock for slot in slots_of(machine(slots=7)) for lock in slot.locks]
    assert len(set(locks)) == 7
    assert "CUDA_VISIBLE_DEVICES" not in slots_of(machine(accelerator="cpu"))[0].environment
    assert "CUDA_VISIBLE_DEVICES" not in slots_of(machine(devices=[1, 3]))[0].environment


def test_a_lock_is_held_until_the_last_process_that_has_it_ends(tmp_path: Path) -> None:
    first, second = tmp_path / "locks" / "a", tmp_path / "locks" / "b"
    held = take([first])
    assert held is not None
    assert take([second, first]) is None
    again = take([second])  # what could not be had whole was let go
    assert again is not None
    give_back(again)
    heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held)
    give_back(held)
    assert take([first]) is None
    heir.communicate(b"\n")
    last = take([first])
    assert last is not None
    give_back(last)


def test_tasks_of_slurm_that_train_together_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "records" / "digits-x"
    held = take([home.parent / ".sweeps" / "claims" / home.name])  # by the first task
    assert held is not None
    monkeypatch.setenv("SLURM_PROCID", "1")
    jobs = Jobs(tmp_path / "said", machine(accelerator="cpu"), {})
    (ended,) = jobs.run([Job(1, 1, ("--version",), home)])
    assert ended.code == 0
    give_back(held)
