"""Figures of sweeps: accuracy, or what is compared, against a setting of the loss (Figs. 3 and 4) or against T."""

from collections.abc import Iterable, Iterator
from typing import Any

from tser_lightning.report.cells import Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import Figure, line_over, main_rows, panel_title, paper_name, point, reader, seeds_of
from tser_lightning.report.labels import Label
from tser_lightning.report.style import legend, look, panels, styled

SWEEPS = {
    "loss.lam": ("fig3_lambda", "the weight of the entropy", r"$\lambda$"),
    "loss.tau": ("fig4_tau", "the temperature", r"$\tau$"),
    "loss.alpha": ("alpha", "the weight of the teacher", r"$\alpha$"),
    "student.timesteps": ("timesteps", "the number of time steps", "time steps $T$"),
}
REFERENCES = ("vanilla_kd", "ts")


Series = dict[Label, dict[Label, dict[float, list[RunRecord]]]]  # column, row, place


@styled
def sweeps(comparisons: Comparisons) -> list[Figure]:
    """Draw the measure against every setting of a loss that was swept with numbers, and against T."""
    keys = dict.fromkeys(key for row in comparisons.rows for key in row.keys if key.startswith("loss."))
    drawn = [_sweep(comparisons, key, _series(comparisons, key)) for key in [*keys, "student.timesteps"]]
    return [figure for figure in drawn if figure is not None]


def _series(comparisons: Comparisons, key: str) -> Series:
    series: Series = {}
    for (row, column), records in comparisons.grid.cells.items():
        value = column.get(key) if key in column.keys else row.get(key)
        finished = [record for record in records if record.finished]
        if finished and isinstance(value, int | float) and not isinstance(value, bool):
            lines = series.setdefault(_without(column, key), {})
            lines.setdefault(_without(row, key), {})[float(value)] = finished
    long = {column: {row: line for row, line in lines.items() if len(line) > 1} for column, lines in series.items()}
    return {column: lines for column, lines in long.items() if lines}


def _without(label: Label, key: str) -> Label:
    kept = [(name, value) for name, value in zip(label.keys, label.values, strict=True) if name != key]
    return Label(tuple(name for name, _ in kept), tuple(value for _, value in kept))


def _sweep(comparisons: Comparisons, key: str, series: Series) -> Figure | None:
    if not series:
        return None
    name, swept, symbol = SWEEPS.get(key, (f"sweep_{key.replace('.', '_')}", key, key))
    what = comparisons.measure
    rows = list(dict.fromkeys(row for lines in series.values() for row in lines))
    figure, places = panels(len(series))
    entries: dict[str, Any] = {}
    for axes, (column, lines) in zip(places, series.items(), strict=True):
        for row, line in lines.items():
            entries[paper_name(comparisons, row)] = line_over(axes, line, reader(what), look(row, rows))
        spots = sorted({x for line in lines.values() for x in line})
        if spots[0] > 0 and spots[-1] / spots[0] > 50:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(spots, [f"{spot:g}" for spot in spots])
        if key.startswith("loss."):
            entries |= _references(axes, comparisons, column, lines)
        axes.set(xlabel=symbol, ylabel=what.heading, title=panel_title(comparisons, column))
        axes.margins(y=0.15)
    legend(figure, entries)
    cells = [records for lines in series.values() for line in lines.values() for records in line.values()]
    caption = f"Mean and one standard deviation over {seeds_of(cells)}; the axis does not begin at 0."
    title = f"{what.title[0].upper()}{what.title[1:]} against {swept}"
    return Figure(name, title, caption, figure)


def _references(
    axes: Any, comparisons: Comparisons, column: Label, lines: Iterable[Label]
) -> Iterator[tuple[str, Any]]:
    """Draw what is compared with: methods that were not swept, as lines across."""
    swept = {row.get("loss") for row in lines}
    for row in main_rows(comparisons.grid):
        records = [r for r in comparisons.grid.cells.get((row, column), []) if r.finished]
        if row.get("loss") in REFERENCES and row.get("loss") not in swept and records:
            level = point(records, reader(comparisons.measure))
            if level is not None:
                color = look(row, main_rows(comparisons.grid))["color"]
                yield (
                    f"{paper_name(comparisons, row)} (not swept)",
                    axes.axhline(level.mean, color=color, ls="--", lw=0.9),
                )
