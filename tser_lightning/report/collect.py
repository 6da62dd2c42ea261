"""Find run directories and read what they say of themselves, finished or not."""

import csv
import glob
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tser_lightning.plain_yaml import load
from tser_lightning.records.measures import Measure
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.sweep_record import SweepRecord, asked_by, has_ended, read_sweeps, sweep_of

SKIPPED = {"teachers", "wandb", "trackio", ".sweeps"}
RECORDS = ("result.json", "run.json", "config.yaml", "metrics.csv")
ENDED_EARLY = {"failed", "interrupted", "terminated", "pruned"}
FINISHED = "finished"
BY_LOCK = {"running", "killed"}


class DamageError(ValueError):
    """A file of a run directory that does not hold what it should."""


@dataclass(frozen=True)
class RunRecord:
    """One run as its directory tells it.

    Attributes:
        path: Its directory.
        status: "finished", "running", "failed", "interrupted", "terminated", "pruned" (its sweep ended it early),
            "killed" (nobody holds its lock, and it said nothing), "missing" (a sweep asked for it, and it never began),
            "waiting" (the sweep has not come to it yet), "damaged", or "not finite" (it ended, with an accuracy that is
            NaN or infinite).
        reason: Why it is not finished; empty if it is.
        settings: What was run: the names and dotted settings of result.json, e.g. {"loss": "tser", "loss.lam": 0.1}.
            For a run without a result, those of run.json; empty if it has none either.
        numbers: What came out: the `split/name` entries of result.json.
        info: The content of run.json.
    """

    path: Path
    status: str
    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether its numbers can be used."""
        return self.status == FINISHED

    @property
    def seed(self) -> int | None:
        """The student's seed."""
        return self.settings.get("seed")

    @cached_property
    def timesteps(self) -> int | None:
        """T: how many steps were measured; the setting, if nothing was."""
        steps = len(self.numbered("test/acc_t"))
        return steps or self.settings.get("student.timesteps") or self.config.get("student.timesteps")

    @cached_property
    def config(self) -> dict[str, Any]:
        """All settings of config.yaml by dotted name; empty without a readable one."""
        try:
            content = load((self.path / "config.yaml").read_text())
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return dict(_leaves(content)) if isinstance(content, Mapping) else {}

    @cached_property
    def metrics(self) -> dict[str, list[float]]:
        """The columns of metrics.csv, a number per epoch; NaN where nothing was measured."""
        try:
            with (self.path / "metrics.csv").open(newline="") as lines:
                rows = list(csv.DictReader(lines))
        except (OSError, ValueError, csv.Error):
            return {}
        return {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else {}) if name}

    @cached_property
    def epochs(self) -> int | None:
        """How many epochs it is to have; its config.yaml is ours, so that no parser has to read all of it."""
        try:
            found = re.search(r"^trainer:\n(?: .*\n)*?  epochs: (\d+)$", (self.path / "config.yaml").read_text(), re.M)
        except (OSError, ValueError):
            return None
        return int(found[1]) if found else None

    @cached_property
    def measures(self) -> dict[str, Any]:
        """The content of measures.json (`measure=full`); empty without a readable one."""
        try:
            return _mapping(self.path / "measures.json")
        except (OSError, DamageError):
            return {}

    def value(self, measure: Measure) -> float | None:
        """Give one of its numbers, also one that is worked out of others; None if it was not measured."""
        return measure.of(self.numbers)

    def numbered(self, prefix: str) -> dict[int, float]:
        """Give the numbers named `prefix` and a number, e.g. {1: 90.2, 2: 95.1} for "test/acc_t"."""
        found = {key.removeprefix(prefix): value for key, value in self.numbers.items() if key.startswith(prefix)}
        return {int(tail): found[tail] for tail in sorted(filter(str.isdigit, found), key=int)}


def collect(
    patterns: str | Path | Iterable[str | Path], read: Callable[[Path], RunRecord] | None = None
) -> list[RunRecord]:
    """Read all run directories that match.

    Args:
        patterns: One glob or several, e.g. "runs/digits-*"; the folder of a sweep stands for its runs. Trained
            teachers, W&B's folder and Hydra's are passed over.
        read: What reads a directory; None for `read_run`.

    Returns:
        A record per directory, by name; each directory once, however many globs match it. What a sweep asked for and
        never began has a record too, where its name matches.
    """
    many = [patterns] if isinstance(patterns, str | Path) else list(patterns)
    found = {Path(match).absolute() for pattern in many for match in _matches(str(pattern))}
    sweeps = [sweep for path in sorted(found) if (sweep := sweep_of(path))]
    found |= {path for sweep in sweeps for path in asked_by(sweep) if path.exists()}
    there = [(read or read_run)(path) for path in sorted(found) if _is_run(path)]
    return sorted([*there, *_never_begun(found, many, sweeps)], key=lambda record: record.path)


def _never_begun(
    found: Iterable[Path], patterns: Iterable[str | Path], sweeps: Sequence[SweepRecord]
) -> Iterable[RunRecord]:
    """Give the runs without a directory of some sweeps, and of those beside what was found if their names match."""
    whole = [str(Path(pattern).absolute()) for pattern in patterns]
    beside = [sweep for folder in sorted({path.parent for path in found}) for sweep in read_sweeps(folder)]
    seen = set[Path]()
    for sweep in [*sweeps, *beside]:
        ended = None
        for asked, path in zip(sweep.runs, asked_by(sweep), strict=True):
            wanted = sweep in sweeps or any(fnmatch(str(path), pattern) for pattern in whole)
            if wanted and path not in seen and not path.exists():
                seen.add(path)
                ended = has_ended(sweep) if ended is None else ended
                status, said = ("missing", "it never began") if ended else ("waiting", "it has not begun yet")
                reason = f"the sweep of {sweep.name} asked for it, and {said}"
                yield RunRecord(path, status, reason, dict(asked.settings))


def _matches(pattern: str) -> list[str]:
    """Expand a glob; the leading folders that exist as they are written stand for themselves, e.g. "runs [1]/*"."""
    names = Path(pattern).parts
    literal, known = "", 0
    for name in names:
        if not os.path.exists(os.path.join(literal, name)):
            break
        literal, known = os.path.join(literal, name), known + 1
    return glob.glob(os.path.join(glob.escape(literal), *names[known:]), recursive=True)


def _is_run(path: Path) -> bool:
    if SKIPPED & set(path.parts[-2:]) or not os.path.isdir(path):
        return False
    return bool(re.search(r"-[0-9a-f]{8}$", path.name)) or any(os.path.isfile(path / name) for name in RECORDS)


def read_run(path: Path) -> RunRecord:
    """Read one run directory; whatever is wrong with it stands in the record."""
    info: dict[str, Any] = {}
    try:
        info = _mapping(path / "run.json")
    except FileNotFoundError:
        pass
    except DamageError as damage:
        return RunRecord(path, "damaged", str(damage))
    try:
        result = _mapping(path / "result.json")
    except FileNotFoundError:
        return _without_result(path, info)
    except DamageError as damage:
        return RunRecord(path, "damaged", str(damage), _settings(info), info=info)
    return _with_result(path, result, info)


class Unchanged:
    """Reads run directories again and again, and those alone whose files have changed since."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[list[tuple[int, int] | None], RunRecord]] = {}

    def read(self, path: Path) -> RunRecord:
        """Read a run directory as `read_run` does; what the lock alone tells, each time."""
        stamps = [_stamp(path / name) for name in RECORDS]
        before, record = self._known.get(path, ([], None))
        if record is None or before != stamps or record.status in BY_LOCK:
            record = read_run(path)
            self._known[path] = (stamps, record)
        return record


def _stamp(file: Path) -> tuple[int, int] | None:
    """Tell one content of a file from another without reading it; None if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _with_result(path: Path, result: dict[str, Any], info: dict[str, Any]) -> RunRecord:
    settings = {key: value for key, value in result.items() if "/" not in key}
    numbers = {key: float(value) for key, value in result.items() if "/" in key and isinstance(value, int | float)}
    if "test/acc" not in numbers or "loss" not in settings:
        missing = "test/acc" if "test/acc" not in numbers else "loss"
        return RunRecord(path, "damaged", f"result.json has no {missing}", settings, numbers, info)
    if not math.isfinite(numbers["test/acc"]):
        reason = f"its test accuracy is {numbers['test/acc']}: no mean and no test can use it"
        return RunRecord(path, "not finite", reason, settings, numbers, info)
    return RunRecord(path, FINISHED, "", settings, numbers, info)


def _without_result(path: Path, info: dict[str, Any]) -> RunRecord:
    status = info.get("status")
    if status in ENDED_EARLY:
        said = " ".join(map(str, info.get("error") or []))
        where = f"{status} {_progress(path, is_whole=status == 'pruned')}"
        reason = said if status == "failed" and said else f"{where}: {said}" if said else where
        return RunRecord(path, str(status), reason, _settings(info), info=info)
    now = "running" if RunDirectory(path).busy() else "killed"
    return RunRecord(path, now, f"{now} {_progress(path)}", _settings(info), info=info)


def _progress(path: Path, is_whole: bool = False) -> str:
    """Say how far a run got: "at epoch 13 of 40", or "after epoch 12 of 40" if it ended with a whole epoch."""
    record = RunRecord(path, "")
    epochs, total = len(record.metrics.get("epoch", [])), record.epochs
    if is_whole or epochs == total:
        return f"after epoch {epochs} of {'?' if total is None else total}"
    return f"at epoch {epochs + 1} of {'?' if total is None else total}"


def _settings(info: Mapping[str, Any]) -> dict[str, Any]:
    settings = info.get("settings")
    return dict(settings) if isinstance(settings, Mapping) else {}


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise DamageError(f"{file.name} is not JSON: {error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:  # another user's
        raise DamageError(f"{file.name} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise DamageError(f"{file.name} holds no mapping")
    return content


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
