"""The record of a sweep: `sweep.json` with the runs that it is to do, so that one that never began is noticed."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tser_lightning import operating_system
from tser_lightning.atomic_io import write_json

FOLDER = ".sweeps"
LOCK = ".lock"
SWEEP_VARIABLE = "TSER_SWEEP"  # tells the processes of its jobs the folder of a sweep


@dataclass(frozen=True)
class AskedRun:
    """A run that a sweep was asked for.

    Attributes:
        run: The name of its directory.
        overrides: Its command.
        settings: What it is, as result.json will say it.
        log: The file of the sweep's folder that holds what its process says; empty where it was finished before.
    """

    run: str
    overrides: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as its sweep.json records it.

    Attributes:
        folder: Holds sweep.json and the logs.
        runs: What was asked for, in the order of the jobs.
    """

    folder: Path
    runs: Sequence[AskedRun]

    @property
    def name(self) -> str:
        """When it began, e.g. "2026-11-02_10-00-00"."""
        return self.folder.name

    @property
    def runs_dir(self) -> Path:
        """Where its runs lie."""
        return self.folder.parent.parent


@contextlib.contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Hold a lock in a sweep's folder, by which others see that it has not ended."""
    with (folder / LOCK).open("w") as held:
        operating_system.lock(held)
        yield


def has_ended(sweep: SweepRecord) -> bool:
    """Tell whether a sweep has ended, by its lock; not for the process that holds it."""
    try:
        with (sweep.folder / LOCK).open() as held:
            return operating_system.lock(held, shared=True)
    except OSError:
        return True  # nobody was there, or it is not ours to look into


def write_sweep(folder: Path, runs: Iterable[AskedRun]) -> None:
    """Write sweep.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sweep.json", {"runs": [asdict(run) for run in runs]})


def read_sweeps(runs_dir: Path) -> list[SweepRecord]:
    """Read the sweeps over a folder of runs, the last first; one without a sweep.json that can be read is left out."""
    files = sorted((runs_dir / FOLDER).glob("*/sweep.json"), reverse=True)
    return [sweep for sweep in (sweep_of(file.parent) for file in files) if sweep]


def sweep_of(folder: Path) -> SweepRecord | None:
    """Read the sweep whose folder it is; None if it is none."""
    if folder.parent.name != FOLDER:
        return None
    try:
        asked = [AskedRun(**each) for each in json.loads((folder / "sweep.json").read_text())["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return SweepRecord(folder, asked)


def asked_by(sweep: SweepRecord) -> list[Path]:
    """Give the directories of the runs that a sweep asked for, whether or not they are there."""
    return [sweep.runs_dir / each.run for each in sweep.runs]
