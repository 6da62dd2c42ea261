"""What a sweep ends with: its results by method, and the command for the report."""

import shlex
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tser_lightning.report.cells import Comparisons, compare_methods
from tser_lightning.report.claim import CLAIM, claim
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.labels import Label
from tser_lightning.report.table import seeds, spread

NUMBER = len("96.31 +- 0.22")


def show_results(folder: Path, console: Console | None = None) -> None:
    """Print the results of a sweep by method; nothing of one of which no run is finished.

    Args:
        folder: Folder of the sweep.
        console: Where; None for standard output.
    """
    console = console or Console()
    grid = make_grid(collect(folder))
    if not any(record.finished for records in grid.cells.values() for record in records):
        return
    compared = claim(grid) or [compare_methods(grid)]
    for column in compared[0].columns:
        console.print(_by_method(compared, column))
    console.print(
        f"mean +- standard deviation over seeds; tests, figures and files: "
        f"python -m tser_lightning task=report runs={shlex.quote(str(folder))}",
        soft_wrap=True,
        highlight=False,
    )


def _by_method(compared: list[Comparisons], column: Label) -> Table:
    first = compared[0]
    # Four means with their deviations have room on 80 columns where no line stands between them.
    table = Table(
        title=f"{column}: accuracy in %, spread in points",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("method", overflow="fold")  # the value of a long setting is at its end
    table.add_column("seeds", justify="right")
    for each in compared:
        table.add_column(CLAIM[each.measure.name], justify="right", min_width=NUMBER)
    for row in first.rows:
        if (row, column) in first.cells:
            cells = [each.cells[row, column] for each in compared]
            table.add_row(str(row), seeds(cells[-1]), *map(spread, cells))
    return table
