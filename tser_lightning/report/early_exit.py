"""Figure of early exit: accuracy against the steps that images need on average."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from tser_lightning.report.cells import Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import Figure, in_order, left_out, main_rows, panel_title, point, shown
from tser_lightning.report.style import legend, look, panels, styled

Line = list[tuple[float, float, float]]  # mean steps, accuracy, its standard deviation


@styled
def early_exit(comparisons: Comparisons) -> list[Figure]:
    """Draw accuracy against mean steps over the thresholds of the confidence, where it was measured."""
    found = {
        column: {row: line for row, records in shown(comparisons, column).items() if (line := exit_line(records))}
        for column in comparisons.columns
    }
    columns = [column for column, lines in found.items() if lines]
    if not columns:
        return []
    figure, places = panels(len(columns))
    entries: dict[str, Any] = {}
    for axes, column in zip(places, columns, strict=True):
        for row, line in found[column].items():
            steps, accuracy, spread = zip(*line, strict=True)
            style = look(row, main_rows(comparisons.grid))
            entries[str(row)] = axes.plot(steps, accuracy, lw=1.1, ms=3.5, markevery=[0, len(line) - 1], **style)[0]
            low, high = ([value + sign * std for value, std in zip(accuracy, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(steps, low, high, color=style["color"], alpha=0.18, lw=0)
        axes.set(
            xlabel="mean time steps of an image", ylabel="test accuracy in %", title=panel_title(comparisons, column)
        )
    legend(figure, in_order(comparisons, entries))
    caption = (
        "Each image stops at the first step at which the largest probability, softmax of the mean of the logits so "
        "far, reaches a threshold; a line goes over all thresholds, from one step for all images to all T. The higher "
        "on the left, the better. Mean over seeds, the band is a standard deviation. Drawn for runs with measure=full; "
        f"a threshold is fitted on validation images by task=predict.{left_out(comparisons, *columns)}"
    )
    return [Figure("early_exit", "Accuracy against mean steps, with early exit", caption, figure)]


def exit_line(records: Sequence[RunRecord]) -> Line:
    """Average the curves of some runs over seeds, threshold by threshold; empty if none was measured."""
    measured = [record for record in records if record.measures.get("early_exit")]
    line: Line = []
    for index in range(min((len(record.measures["early_exit"]) for record in measured), default=0)):
        steps, accuracy = (point(measured, partial(_at, index, key)) for key in ("mean_steps", "accuracy"))
        if steps and accuracy:
            line.append((steps.mean, accuracy.mean, accuracy.std))
    return line


def _at(index: int, key: str, record: RunRecord) -> float:
    return float(record.measures["early_exit"][index][key])
