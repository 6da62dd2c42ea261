"""Slots of a machine for the jobs of a sweep that run at once: a GPU each, or a share of the cores each."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tser_lightning.atomic_io import telling
from tser_lightning.operating_system import cores, lock_for_children, user


@dataclass(frozen=True)
class Slot:
    """Room for one job: its environment variables and locks.

    Attributes:
        environment: What the job's process is told: its GPUs, its threads.
        locks: Files that its job holds, so that sweeps started apart share the GPUs of a machine.
    """

    environment: Mapping[str, str]
    locks: tuple[Path, ...] = ()


def slots_of(machine: Mapping[str, Any]) -> list[Slot]:
    """Divide this machine into slots.

    Args:
        machine: The config group: accelerator, devices, threads, slots. With GPUs, a job has `devices` of them (auto:
            one) and `slots` above their number puts several jobs on each; without, `slots` is the number of jobs at
            once (auto: as many as have `threads` cores each; one if `threads` is auto too).
    """
    named = isinstance(machine["devices"], list)  # the user's own choice of GPUs: it is every job's
    found = gpus() if machine["accelerator"] in ("auto", "gpu", "cuda") and not named else []
    there, wanted = cores(), machine["slots"]
    if found:
        size = machine["devices"] if isinstance(machine["devices"], int) else 1
        groups = [found[first : first + size] for first in range(0, len(found) - size + 1, size)] or [found]
        count = len(groups) if wanted == "auto" else wanted
        return [
            _gpu_slot(groups[i % len(groups)], i // len(groups), _threads(machine, there, count)) for i in range(count)
        ]
    threads = machine["threads"]
    shares = max(1, there // threads) if isinstance(threads, int) and machine["accelerator"] in ("auto", "cpu") else 1
    count = shares if wanted == "auto" else wanted
    return [Slot(_threads(machine, there, count))] * count


def gpus() -> list[str]:
    """List the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return listed(told)


def listed(told: str) -> list[str]:
    """Parse the output of `nvidia-smi -L`; of a GPU in MIG mode its instances are listed."""
    names: list[str] = []
    for line in told.splitlines():
        if whole := re.match(r"GPU (\d+):", line):
            names.append(whole[1])
        elif part := re.search(r"MIG .*\(UUID: (MIG-[^)]+)\)", line):
            if names and names[-1].isdigit():
                names.pop()
            names.append(part[1])
    return names


def _threads(machine: Mapping[str, Any], cores: int, count: int) -> dict[str, str]:
    """Choose OMP_NUM_THREADS for a job: its share of the cores, unless the user has set it."""
    if isinstance(machine["threads"], int):
        return {"OMP_NUM_THREADS": str(machine["threads"])}
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))}


def _gpu_slot(names: Sequence[str], layer: int, threads: Mapping[str, str]) -> Slot:
    # Within one allocation of Slurm, GPU 0 is not that of another allocation on the same machine.
    owner = f"{user()}-{os.environ.get('SLURM_JOB_ID', '')}".rstrip("-")
    folder = Path(tempfile.gettempdir(), f"tser-gpus-{owner}")
    locks = tuple(folder / (name if layer == 0 else f"{name}.{layer}") for name in names)
    return Slot({**threads, "CUDA_VISIBLE_DEVICES": ",".join(names)}, locks)


def take(locks: Iterable[Path]) -> list[int] | None:
    """Lock all of some files, or none if another process holds one; children that inherit them hold them too."""
    held: list[int] = []
    for path in locks:
        with telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if not lock_for_children(held[-1]):
            give_back(held)
            return None
    return held


def give_back(held: Iterable[int]) -> None:
    """Release files that `take` has locked; they stay locked while a child has inherited them."""
    for descriptor in held:
        os.close(descriptor)
