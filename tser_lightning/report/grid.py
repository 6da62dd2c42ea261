"""Which runs stand side by side: methods in rows, settings in columns, seeds inside a cell."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tser_lightning.records.identity import matters
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.labels import Key, Label, in_usual_order

CHOICES = ("experiment", "loss", "student", "teacher", "neuron", "norm", "data")
COLUMN = ("data", "student", "student.timesteps")
APART = ("selection", "trainer.epochs", "debug")  # runs that differ in them are not compared as alike
START = "student.weights"  # where a method starts from, not what it is compared on
OWN = ("loss", "teacher")  # what methods differ in by their nature


@dataclass
class Grid:
    """Runs in rows and columns.

    Attributes:
        rows: Methods.
        columns: Settings.
        cells: The runs of every row and column that has any, finished or not.
        unplaced: Runs that do not even say what they were.
        notes: In what the methods of a column differ besides.
    """

    rows: list[Label]
    columns: list[Label]
    cells: dict[tuple[Label, Label], list[RunRecord]]
    unplaced: list[RunRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def of_row(self) -> dict[Label, list[RunRecord]]:
        """The runs of every row, finished or not, of all columns."""
        found: dict[Label, list[RunRecord]] = {row: [] for row in self.rows}
        for (row, _), records in self.cells.items():
            found[row] += records
        return found

    def of_column(self, column: Label) -> dict[Label, list[RunRecord]]:
        """Give the finished runs of a column, by row."""
        found = {row: [r for r in self.cells.get((row, column), []) if r.finished] for row in self.rows}
        return {row: records for row, records in found.items() if records}


class Values:
    """The settings of runs, with the defaults that result.json leaves out.

    A setting that result.json does not name has the default of its option's file, so it is read from one config.yaml
    for all runs of the same options.
    """

    def __init__(self) -> None:
        self._defaults: dict[tuple[Key, str], Any] = {}
        self.unrecorded: set[str] = set()

    def __call__(self, record: RunRecord, key: str) -> Any:
        """Give the value of a setting in a run; None if the run has no such setting."""
        if key == "student.timesteps":
            return record.timesteps
        if key in record.settings:
            return _hashable(record.settings[key])
        if key in self.unrecorded:
            return _hashable(record.config.get(key))
        if "." not in key:
            return None
        choice = (tuple(record.settings.get(name) for name in CHOICES), key)
        if choice not in self._defaults:
            self._defaults[choice] = _hashable(record.config.get(key))
        return self._defaults[choice]


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return str(value) if isinstance(value, dict) else value


def make_grid(records: Iterable[RunRecord]) -> Grid:
    """Lay runs out so that what differs between them is told by the fewest settings."""
    unique = {record.name: record for record in sorted(records, key=lambda r: r.finished)}
    placed = sorted((r for r in unique.values() if r.settings.get("loss")), key=lambda r: r.name)
    values = Values()
    grid = _laid_out(placed, values)
    hidden = _differences_inside(grid)
    if hidden:  # options that result.json does not name, e.g. of the norm
        values.unrecorded |= hidden
        grid = _laid_out(placed, values)
    grid.unplaced = sorted((r for r in unique.values() if not r.settings.get("loss")), key=lambda r: r.name)
    return grid


def _laid_out(records: Sequence[RunRecord], values: Values) -> Grid:
    keys = {key for record in records for key in record.settings if matters(key)} | values.unrecorded
    keys -= {"seed", *APART, *COLUMN}
    protocols = {record.settings.get("selection") for record in records}
    apart = {"selection"} if len(protocols) > 1 else set()  # numbers of different protocols do not compare anywhere
    apart |= set(_telling(records, COLUMN, APART, values))
    always = [*COLUMN, *(key for key in APART if key in apart)]
    aside = ["experiment", *sorted(key for key in keys if key.startswith(("data.", "student.")) and key != START)]
    column_keys = [*always, *_telling(records, always, aside, values)]
    candidates = sorted(keys - {"loss", *aside}, key=lambda key: (not key.startswith("loss."), "." in key, key))
    kept = _telling(records, (*column_keys, "loss"), candidates, values)
    row_keys = ["loss", *kept]
    cells: dict[tuple[Label, Label], list[RunRecord]] = defaultdict(list)
    for record in records:
        row = Label(tuple(row_keys), tuple(values(record, key) for key in row_keys))
        column = Label(tuple(column_keys), tuple(values(record, key) for key in column_keys))
        cells[row, column].append(record)
    rows = sorted({row for row, _ in cells}, key=lambda row: in_usual_order(row.values))
    columns = sorted({column for _, column in cells}, key=lambda column: in_usual_order(column.values))
    notes = [_confounded(records, column_keys, key, values) for key in candidates if key not in kept]
    return Grid(rows, columns, dict(cells), notes=[note for note in notes if note])


def _telling(records: Sequence[RunRecord], known: Sequence[str], keys: Iterable[str], values: Values) -> list[str]:
    """Choose the settings that tell runs apart which the known ones do not."""
    kept: list[str] = []
    told = [tuple(values(record, key) for key in known) for record in records]
    for key in keys:
        finer = [(*one, values(record, key)) for one, record in zip(told, records, strict=True)]
        if len(set(finer)) > len(set(told)):
            kept.append(key)
            told = finer
    return kept


def _confounded(records: Sequence[RunRecord], column_keys: Sequence[str], key: str, values: Values) -> str:
    """Say that methods of the same column differ in a setting that is none of their own."""
    if key.partition(".")[0] in OWN:
        return ""
    seen: dict[Key, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        value = values(record, key)
        if value is not None:
            column = tuple(values(record, name) for name in column_keys)
            seen[column][value].add(str(record.settings["loss"]))
    unequal = next((by_value for by_value in seen.values() if len(by_value) > 1), None)
    if unequal is None:
        return ""
    ordered = sorted(unequal.items(), key=lambda item: in_usual_order((item[0],)))
    said = "; ".join(f"{value} for {', '.join(sorted(losses))}" for value, losses in ordered)
    return f"not the same for all methods: {key} is {said}"


def _differences_inside(grid: Grid) -> set[str]:
    """Find the settings in which runs of one cell and seed differ."""
    found: set[str] = set()
    for records in grid.cells.values():
        by_seed: dict[Any, list[RunRecord]] = defaultdict(list)
        for record in records:
            by_seed[record.seed].append(record)
        for same in by_seed.values():
            if len(same) > 1:
                first = same[0].config
                for other in same[1:]:
                    keys = {
                        key for key in first.keys() | other.config.keys() if first.get(key) != other.config.get(key)
                    }
                    found |= set(filter(matters, keys))
    return found


def latest(records: Iterable[RunRecord], value: Callable[[RunRecord], float | None]) -> dict[int, float]:
    """Give a number by seed; of runs with the same settings and seed the one that ended last."""
    by_seed = {record.seed or 0: record for record in sorted(records, key=lambda r: str(r.info.get("ended", "")))}
    numbers = {seed: value(by_seed[seed]) for seed in sorted(by_seed)}
    return {seed: number for seed, number in numbers.items() if number is not None}
