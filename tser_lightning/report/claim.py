"""The claim of the TSER paper in numbers: what the first step, the single steps and all steps together reach."""

from collections.abc import Mapping, Sequence
from typing import Any

from tser_lightning.report.cells import Comparisons, compare_methods
from tser_lightning.report.grid import Grid

# The measures of the claim, and what its table calls them.
CLAIM = {
    "test/acc_t1": "t = 1",
    "test/acc_step_mean": "mean of single steps",
    "test/acc_step_std": "spread over steps",
    "test/acc": "all T steps",
}


def claim(grid: Grid, baseline: str | None = None, names: Mapping[str, str] | None = None) -> list[Comparisons]:
    """Compare runs by every measure of the claim; nothing where no student has more than one time step."""
    records = [record for found in grid.cells.values() for record in found if record.finished]
    if not any("test/acc_step2" in record.numbers for record in records):
        return []
    return [compare_methods(grid, baseline, name, names) for name in CLAIM]


def comparison_rows(compared: Sequence[Comparisons]) -> list[dict[str, Any]]:
    """Lay comparisons out as tidy rows, one per measure, setting and method: for CSV and pandas."""
    rows = []
    for comparisons in {each.measure.name: each for each in compared}.values():
        for (row, column), cell in comparisons.cells.items():
            if cell.summary is None:
                continue
            low, high = cell.summary.interval or (None, None)
            test = cell.comparison
            rows.append(
                {
                    "measure": comparisons.measure.name,
                    "setting": str(column),
                    "method": str(row),
                    **dict(zip(row.keys, row.values, strict=True)),
                    **dict(zip(column.keys, column.values, strict=True)),
                    "n": cell.summary.n,
                    "mean": cell.summary.mean,
                    "std": cell.summary.std,
                    "low": low,
                    "high": high,
                    "baseline": str(comparisons.baseline.get(row, "")) if test else None,
                    "difference": test.difference if test else None,
                    "p": test.p if test else None,
                    "unlike": ", ".join(cell.unlike),
                    "best": cell.best,
                }
            )
    return rows
