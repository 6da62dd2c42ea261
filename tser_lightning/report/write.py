"""The whole report: page, tables, figures."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tser_lightning.atomic_io import remove_parts, write_bytes
from tser_lightning.errors import UsageError
from tser_lightning.report.cells import ACCURACY, Comparisons, compare_methods
from tser_lightning.report.claim import claim
from tser_lightning.report.collect import collect
from tser_lightning.report.export import claim_md, comparison_csv, results_csv, table_md
from tser_lightning.report.grid import make_grid
from tser_lightning.report.latex import claim_tex, table_tex
from tser_lightning.report.table import summary_tables

if TYPE_CHECKING:
    from tser_lightning.report.drawing import Figure

log = logging.getLogger("tser_lightning")


def write_report(
    runs: str | Path | Iterable[str | Path],
    folder: str | Path,
    baseline: str | None = None,
    measure: str = ACCURACY,
    names: Mapping[str, str] | None = None,
) -> list[Path]:
    """Compare runs: print the table, write report.html, tables as CSV, Markdown and LaTeX, and figures/.

    Args:
        runs: One glob of run directories or several, e.g. "runs/digits-*".
        folder: Where to write; made if it is not there.
        baseline: What the p-values compare with: a loss, or the whole name of a row; None: vanilla_kd if it is there.
        measure: What runs are compared by, e.g. "test/ece": see `records.measures`.
        names: How the paper writes what the config calls otherwise, e.g. {"my_loss": "Mine"}, beside `names.NAMES`.

    Returns:
        The files, report.html first.

    Raises:
        UsageError: No run matches, or no method is called like the baseline, or none has the measure.
    """
    patterns = [runs] if isinstance(runs, str | Path) else list(runs)
    records = collect(patterns)
    if not records:
        raise UsageError(
            what=f"no run directory matches {', '.join(map(str, patterns))}",
            why="a report is made of runs that have been started",
            fix="runs='runs/*' (in quotes, so that the shell leaves it alone)",
        )
    grid = make_grid(records)
    comparisons = compare_methods(grid, baseline, measure, names)
    claimed = claim(grid, baseline, names)
    Console().print(*summary_tables(comparisons, claimed))
    from tser_lightning.report.page import page  # drawing is imported late: the table does not need it
    from tser_lightning.report.paper_tables import ablation, accuracies, costs, every_measure, step_numbers

    folder = Path(folder)
    remove_parts(folder / "figures")  # also of figures that are not drawn again
    drawn = _draw(comparisons, folder / "figures")
    tables = [ablation(comparisons)]
    for column in comparisons.columns:
        tables += [
            accuracies(comparisons, column),
            step_numbers(comparisons, column),
            costs(comparisons, column),
        ]
    texts = {
        "report.html": page(
            comparisons,
            claimed,
            folder,
            records,
            [table for table in tables if table is not None],
            [every_measure(comparisons, column) for column in comparisons.columns],
            [(figure, next(file for file in files if file.suffix == ".svg")) for figure, files in drawn],
        ),
        "results.csv": results_csv(records),
        "comparison.csv": comparison_csv([comparisons, *claimed]),
        "table.md": table_md(comparisons),
        "table.tex": table_tex(comparisons),
    }
    if claimed:
        texts |= {"claim.md": claim_md(claimed), "claim.tex": claim_tex(claimed)}
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="backslashreplace"))  # a folder's name need not be UTF-8
    return [*(folder / name for name in texts), *(file for _, files in drawn for file in files)]


def _draw(comparisons: Comparisons, folder: Path) -> "list[tuple[Figure, list[Path]]]":
    from tser_lightning.report import curves, early_exit, embedding, figures, layers, sweeps
    from tser_lightning.report.style import save

    parts: Sequence[Callable[[Comparisons], list[Figure]]] = (
        figures.steps,
        sweeps.sweeps,
        figures.any_time,
        early_exit.early_exit,
        figures.energy,
        layers.by_layer,
        layers.step_maps,
        embedding.embeddings,
        curves.training_curves,
    )
    drawn = []
    for part in parts:
        for figure in part(comparisons):
            drawn.append((figure, save(figure.canvas, folder, figure.name)))
            log.info("%s", drawn[-1][1][0])
    return drawn
