"""Figures of training: what metrics.csv says, with bands over seeds."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tser_lightning.records.measures import measure
from tser_lightning.report.cells import Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import Figure, in_order, left_out, main_rows, seeds_of, shown, slug
from tser_lightning.report.labels import Label
from tser_lightning.report.style import legend, look, panels, styled

MOST_PANELS = 6
FIRST = ("val/acc", "test/acc", "train/loss", "train/ce", "train/kl", "train/entropy")


@styled
def training_curves(comparisons: Comparisons) -> list[Figure]:
    """Draw accuracy and every term of the loss over epochs, a figure per setting."""
    drawn = [_curves_of(comparisons, column, shown(comparisons, column)) for column in comparisons.columns]
    return [figure for figure in drawn if figure is not None]


def _curves_of(comparisons: Comparisons, column: Label, found: dict[Label, list[RunRecord]]) -> Figure | None:
    there = {name for records in found.values() for record in records for name in record.metrics}
    names = [*(name for name in FIRST if name in there)]
    names += sorted(name for name in there - set(names) if name.startswith("train/"))
    if not names:
        return None
    figure, places = panels(len(names[:MOST_PANELS]))
    entries: dict[str, Any] = {}
    for axes, name in zip(places, names, strict=False):
        for row, records in found.items():
            color = look(row, main_rows(comparisons.grid))["color"]
            line = _band(axes, [record for record in records if name in record.metrics], name, color)
            if line is not None:
                entries[str(row)] = line
        axes.set(xlabel="epoch", title=measure(name).heading)
        if name.endswith("/acc"):
            _magnify_the_end(axes)
    legend(figure, in_order(comparisons, entries))
    return Figure(
        f"training_{slug(column)}",
        f"Training: {', '.join(column.parts)}",
        f"Mean over {seeds_of(found.values())}, the band is one standard deviation. Terms of the loss are shown "
        f"without their weights; methods have different terms, so their losses are not to be compared. The axis of "
        f"accuracies begins where the slowest method was after a quarter of its epochs."
        f"{left_out(comparisons, column)}",
        figure,
    )


def _magnify_the_end(axes: Any) -> None:
    """Begin the axis at the accuracy of the first quarter: it is the end that tells methods apart."""
    quarters = [line.get_ydata()[len(line.get_ydata()) // 4] for line in axes.lines if len(line.get_ydata())]
    if quarters:
        axes.set_ylim(bottom=min(quarters), top=min(100.5, axes.get_ylim()[1]))


def _band(axes: Any, records: Sequence[RunRecord], name: str, color: str) -> Any:
    if not records:
        return None
    epochs, mean, std = over_seeds([record.metrics for record in records], name)
    measured = ~np.isnan(mean)  # an accuracy need not be measured at every epoch
    (line,) = axes.plot(epochs[measured], mean[measured], color=color, lw=1)
    if len(records) > 1:
        low, high = (mean - std)[measured], (mean + std)[measured]
        axes.fill_between(epochs[measured], low, high, color=color, alpha=0.18, lw=0)
    return line


Numbers = NDArray[np.float64]


def over_seeds(metrics: Sequence[dict[str, list[float]]], name: str) -> tuple[Numbers, Numbers, Numbers]:
    """Average a column of several metrics.csv, epoch by epoch.

    Args:
        metrics: The columns of each.
        name: Name of the column.

    Returns:
        Epochs (the first is 1), mean, standard deviation (0 where one run alone got so far); NaN where nothing was
        measured.
    """
    longest = max(len(columns["epoch"]) for columns in metrics)
    values = np.full((len(metrics), longest), np.nan)
    for line, columns in zip(values, metrics, strict=True):
        line[: len(columns[name])] = columns[name]
    values[np.isinf(values)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an epoch at which nobody measured is NaN, as it should be
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
    return np.arange(1.0, longest + 1), mean, np.nan_to_num(std)
