"""What figures are made of: numbers over seeds, the methods to show, and how a panel is begun."""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tser_lightning.records.measures import Measure
from tser_lightning.report.cells import Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.grid import Grid, latest
from tser_lightning.report.labels import Label
from tser_lightning.report.names import written

MOST_METHODS = 12
TITLE_LETTERS = 42  # of 8 points, above a panel of `style.COLUMN` inches


@dataclass(frozen=True)
class Figure:
    """A figure that is not written yet.

    Attributes:
        name: Of its files, without an ending.
        title: What it is, in a few words.
        caption: How to read it.
        canvas: The matplotlib figure.
    """

    name: str
    title: str
    caption: str
    canvas: Any


@dataclass(frozen=True)
class Point:
    """A number over seeds: mean and standard deviation (0 for one seed)."""

    mean: float
    std: float
    n: int


def point(records: Sequence[RunRecord], value: Callable[[RunRecord], float | None]) -> Point | None:
    """Average a number over the seeds of a cell; None if no run has it."""
    numbers = [number for number in latest(records, value).values() if math.isfinite(number)]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    spread = sum((number - mean) ** 2 for number in numbers) / max(1, len(numbers) - 1)
    return Point(mean, math.sqrt(spread), len(numbers))


def main_rows(grid: Grid) -> list[Label]:
    """Choose the methods that a figure can show: of a sweep over a loss's settings its default, or its largest part."""
    kin: dict[tuple[Any, ...], list[Label]] = {}
    for row in grid.rows:
        others = [pair for pair in zip(row.keys, row.values, strict=True) if not pair[0].startswith("loss.")]
        kin.setdefault(tuple(others), []).append(row)
    return [min(rows, key=lambda row: _unusual(grid, row)) for rows in kin.values()][:MOST_METHODS]


def _unusual(grid: Grid, row: Label) -> tuple[int, int]:
    records = grid.of_row[row]
    changed = {key for key in records[0].settings if key.startswith("loss.")}
    return len(changed), -len(records)


def shown(comparisons: Comparisons, column: Label) -> dict[Label, list[RunRecord]]:
    """Give the finished runs of a setting by method, of the methods that a figure can show."""
    rows = set(main_rows(comparisons.grid))
    return {row: records for row, records in comparisons.grid.of_column(column).items() if row in rows}


def in_order(comparisons: Comparisons, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the entries of a legend as the table has its rows, named as in papers; what is no method comes last."""
    names = {str(row): paper_name(comparisons, row) for row in comparisons.rows if str(row) in entries}
    return {names.get(name, name): entries[name] for name in [*names, *(name for name in entries if name not in names)]}


def paper_name(comparisons: Comparisons, label: Label) -> str:
    """Say a row or column as a paper does, for a figure."""
    return ", ".join(written(label, comparisons.names))


def panel_title(comparisons: Comparisons, column: Label) -> str:
    """Say a setting above its panel, in lines that a panel as wide as a column of a paper has room for."""
    return "\n".join(textwrap.wrap(paper_name(comparisons, column), TITLE_LETTERS, break_long_words=False))


def left_out(comparisons: Comparisons, *columns: Label) -> str:
    """Say which methods of some settings a figure does not show; empty if it shows all."""
    rows = [row for column in columns for row in comparisons.grid.of_column(column)]
    hidden = Counter(str(row.get("loss")) for row in set(rows) - set(main_rows(comparisons.grid)))
    return "".join(f" Not shown here: {count} other settings of {loss}." for loss, count in sorted(hidden.items()))


def reader(what: Measure) -> Callable[..., float | None]:
    """Make a function that reads a measure of a run as it is printed, wherever on an axis it is asked for."""

    def read(record: RunRecord, _: float = 0.0) -> float | None:
        value = record.value(what)
        return None if value is None else what.factor * value

    return read


def line_over(
    axes: Any,
    line: Mapping[float, Sequence[RunRecord]],
    value: Callable[[RunRecord, float], float | None],
    style: Mapping[str, Any],
) -> Any:
    """Draw a number over seeds as a line with bars of one standard deviation.

    Args:
        axes: The axes to draw on.
        line: The runs of every place.
        value: The number of a run at a place.
        style: Colour and marker, from `look`.
    """
    points = {x: point(records, partial(_at, value, x)) for x, records in sorted(line.items())}
    there = {x: p for x, p in points.items() if p is not None}
    errors = [p.std for p in there.values()]
    return axes.errorbar(list(there), [p.mean for p in there.values()], errors, ms=3.5, lw=1.1, capsize=1.5, **style)


def _at(value: Callable[[RunRecord, float], float | None], x: float, record: RunRecord) -> float | None:
    return value(record, x)


def seeds_of(cells: Iterable[Sequence[RunRecord]]) -> str:
    """Say over how many seeds a figure averages: "3 seeds", "1 to 3 seeds"."""
    counts = sorted({len({record.seed for record in records}) for records in cells})
    most = "" if counts[0] == counts[-1] else f" to {counts[-1]}"
    return f"{counts[0]}{most} seed{'s' if counts[-1] > 1 else ''}"


def slug(column: Label) -> str:
    """Make a file name of a setting."""
    return re.sub(r"[^A-Za-z0-9]+", "_", str(column)).strip("_")
