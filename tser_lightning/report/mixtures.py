"""What runs in one report differ in besides what is compared: code, versions, epochs, debug runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tser_lightning.report.collect import RunRecord
from tser_lightning.report.grid import APART, OWN, Grid
from tser_lightning.report.labels import Label, word_for

UNLIKE = "\N{DAGGER}"
SHOWN = 3


def origin(record: RunRecord) -> Mapping[str, str]:
    """Say which code and which versions a run comes from."""
    git, versions = record.info.get("git") or {}, record.info.get("versions") or {}
    commit = str(git.get("commit", ""))[:10] + (" with changes" if git.get("changed") else "")
    return {"commit": commit, **{f"version of {name}": str(version) for name, version in versions.items()}}


def unlike(records: Iterable[RunRecord], others: Iterable[RunRecord]) -> tuple[str, ...]:
    """Name what of the origin of two sets of runs is not the same for all of them, e.g. ("commit",)."""
    found = _values([*records, *others])
    return tuple(name for name, counts in found.items() if len(counts) > 1)


def _values(records: Iterable[RunRecord]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for record in records:
        for name, value in origin(record).items():
            found.setdefault(name, Counter())[value] += 1
    return found


def warnings(grid: Grid, baselines: Mapping[Label, Label]) -> list[str]:
    """Say what is mixed in a report, for its top.

    Args:
        grid: The runs.
        baselines: By row, the row that it is compared with.
    """
    records = [record for found in grid.cells.values() for record in found if record.finished]
    mixed = [*_apart(grid), *_debug(records), *_origins(records), *_baselines(baselines)]
    return [*mixed, *(_sentence(note) for note in grid.notes)]


def _baselines(baselines: Mapping[Label, Label]) -> list[str]:
    """Say where a method is compared with one of another loss that differs from it besides."""
    said = []
    for row, base in baselines.items():
        keys = [key for key in row.keys if key.partition(".")[0] not in OWN and row.get(key) != base.get(key)]
        if keys and row.get("loss") != base.get("loss"):
            words = ", ".join(f"{key} is {row.get(key)}, there {base.get(key)}" for key in keys)
            said.append(f"{row} is compared with {base}, which differs in more than the loss: {words}.")
    return said[:SHOWN] + ([f"So do {len(said) - SHOWN} more."] if len(said) > SHOWN else [])


def _apart(grid: Grid) -> list[str]:
    said = []
    for key in APART:
        values = list(dict.fromkeys(column.get(key) for column in grid.columns if key in column.keys))
        if len(values) > 1:
            words = ", ".join(word_for(key, value) or f"{key} not set" for value in values)
            said.append(f"Runs that differ in {key} ({words}) stand apart and are not compared with each other.")
    return said


def _debug(records: Sequence[RunRecord]) -> list[str]:
    cut = [record for record in records if record.settings.get("debug")]
    return [f"{len(cut)} of {len(records)} runs are debug runs, cut short: their numbers mean nothing."] if cut else []


def _origins(records: Sequence[RunRecord]) -> list[str]:
    said = [
        f"Runs of more than one {name}: {_counted(counts)}; {UNLIKE} marks a difference from a baseline of another."
        for name, counts in _values(records).items()
        if len(counts) > 1
    ]
    changed = sum(origin(record)["commit"].endswith("with changes") for record in records)
    return [*said, *([f"{changed} runs are of code with changes that no commit holds."] if changed else [])]


def _counted(counts: Counter[str]) -> str:
    most = counts.most_common(SHOWN)
    more = f", {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{value or 'unknown'} ({count})" for value, count in most) + more


def _sentence(note: Any) -> str:
    return f"{note[0].upper()}{note[1:]}."
