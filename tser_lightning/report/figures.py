"""Figures of accuracy: per step (Fig. 2), at any T, against energy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import EngFormatter

from tser_lightning.records.measures import Measure, measure
from tser_lightning.report.cells import ACCURACY, Comparisons, compare_methods
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import (
    Figure,
    Point,
    in_order,
    left_out,
    line_over,
    main_rows,
    panel_title,
    paper_name,
    point,
    reader,
    seeds_of,
    shown,
    slug,
)
from tser_lightning.report.grid import make_grid
from tser_lightning.report.labels import Label
from tser_lightning.report.style import COLUMN, FAINT, INK, PAGE, legend, look, panels, save, styled

Result = Mapping[str, Any]
MOST_BARS = 20  # that a column of a paper has room for


def accuracy_per_step(results: Sequence[Result], path: Path) -> None:
    """Draw Fig. 2 of the TSER paper of results with the same number of time steps.

    Args:
        results: Contents of result.json files.
        path: PNG to write; an SVG is written beside it.
    """
    records = [
        RunRecord(
            Path(f"{index}"),
            "finished",
            settings={key: value for key, value in result.items() if "/" not in key},
            numbers={key: float(value) for key, value in result.items() if "/" in key and value is not None},
        )
        for index, result in enumerate(results)
    ]
    figure = next(iter(steps(compare_methods(make_grid(records)))))
    save(figure.canvas, path.parent, path.stem)


@styled
def steps(comparisons: Comparisons) -> list[Figure]:
    """Draw Fig. 2 for every setting: each step alone, the mean of all steps, the teacher; of ECE and the like too."""
    return [
        figure
        for column in comparisons.columns
        if (figure := _steps_of(comparisons, column, shown(comparisons, column)))
    ]


def _steps_of(comparisons: Comparisons, column: Label, found: dict[Label, list[RunRecord]]) -> Figure | None:
    whole = _with_steps(comparisons.measure)
    total = max((len(r.numbered(f"{whole.name}_step")) for records in found.values() for r in records), default=0)
    if total < 2:
        return None
    figure, (axes,) = panels(1, width=COLUMN if total * len(found) <= MOST_BARS else PAGE)
    entries, width, lows = {}, 0.8 / len(found), list[float]()
    for index, (row, records) in enumerate(found.items()):
        shift = width * (index - (len(found) - 1) / 2)
        color = look(row, main_rows(comparisons.grid))["color"]
        alone = [measure(f"{whole.name}_step{step}") for step in range(1, total + 1)]
        points = [point(records, reader(step)) for step in alone]
        mean = point(records, reader(whole))
        if mean is not None:
            axes.axhline(mean.mean, color=color, lw=1, zorder=1)
        places = [place + shift for place in range(1, total + 1)]
        said = _numbers(records, whole) if mean else ""
        entries[f"{paper_name(comparisons, row)}{said}"] = _bars(axes, places, points, width, color)
        lows += [p.mean - p.std for p in points if p is not None]
    is_accuracy = whole.name == ACCURACY
    entries |= _teacher_line(axes, found) if is_accuracy else {}
    axes.set_xticks(range(1, total + 1))
    axes.set(xlabel="time step", ylabel=whole.heading, title=panel_title(comparisons, column))
    if is_accuracy:
        axes.set_ylim(max(0.0, min(lows) - 0.15 * (100 - min(lows)) - 0.5), min(100.5, axes.get_ylim()[1]))
    legend(
        figure, entries, "all steps (line) / mean of single steps / their spread" if is_accuracy else "line: all steps"
    )
    return Figure(
        f"fig2_steps_{slug(column)}",
        f"{whole.title[0].upper()}{whole.title[1:]} of each time step: {', '.join(column.parts)}",
        f"{'As Fig. 2 of the paper. ' if is_accuracy else ''}Bars: {whole.title} of each step's own logits, with one "
        f"standard deviation over {seeds_of(found.values())}; lines: that of the mean of all steps."
        f"{' The axis does not begin at 0.' if axes.get_ylim()[0] > 0 else ''}{left_out(comparisons, column)}",
        figure,
    )


def _numbers(records: Sequence[RunRecord], whole: Measure) -> str:
    """Print what the line and the bars of a method stand for, as the legend of the paper's Fig. 2 does."""
    names = [whole.name, *(("test/acc_step_mean", "test/acc_step_std") if whole.name == ACCURACY else ())]
    points = [point(records, reader(measure(name))) for name in names]
    return ": " + " / ".join(f"{p.mean:.{whole.digits}f}" for p in points if p is not None)


def _with_steps(what: Measure) -> Measure:
    """Give a measure that is taken of single steps too: the one that is compared, or else the accuracy."""
    return what if measure(f"{what.name}_step1").source else measure(ACCURACY)


def _bars(axes: Any, places: Sequence[float], points: Sequence[Point | None], width: float, color: Any) -> Any:
    there = [(x, p) for x, p in zip(places, points, strict=True) if p is not None]
    return axes.bar(
        [x for x, _ in there],
        [p.mean for _, p in there],
        0.92 * width,
        yerr=[p.std for _, p in there] if any(p.n > 1 for _, p in there) else None,
        color=color,
        error_kw={"lw": 0.7, "capsize": 1, "ecolor": INK},
        zorder=2,
    )


def _teacher_line(axes: Any, found: Mapping[Label, Sequence[RunRecord]]) -> dict[str, Any]:
    accuracies = {r.numbers["teacher/acc"] for rs in found.values() for r in rs if "teacher/acc" in r.numbers}
    lines = [axes.axhline(accuracy, color=INK, ls="--", lw=1) for accuracy in sorted(accuracies)]
    return {"teacher": lines[0]} if lines else {}


@styled
def any_time(comparisons: Comparisons) -> list[Figure]:
    """Draw accuracy after any number of steps: T' = 1 .. 2T where it was measured, else the first t of T."""
    columns = [column for column in comparisons.columns if shown(comparisons, column)]
    columns = [column for column in columns if (column.get("student.timesteps") or 0) > 1]
    if not columns:
        return []
    figure, places = panels(len(columns))
    entries: dict[str, Any] = {}
    for axes, column in zip(places, columns, strict=True):
        found = shown(comparisons, column)
        for row, records in found.items():
            reach = {steps for record in records for steps in full_range(record)}
            line: dict[float, list[RunRecord]] = dict.fromkeys(sorted(reach), records)
            style = look(row, main_rows(comparisons.grid))
            entries[str(row)] = line_over(axes, line, lambda record, x: full_range(record).get(int(x)), style)
        axes.axvline(column.get("student.timesteps"), color=FAINT, ls=":", lw=0.9)
        entries |= _teacher_line(axes, found)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="time steps used $T'$", ylabel="test accuracy in %", title=panel_title(comparisons, column))
    legend(figure, in_order(comparisons, entries))
    caption = (
        "Accuracy of the mean of the logits of T' steps; the dotted line is the T of training. Beyond it only runs "
        f"with measure=full are drawn. Bars are one standard deviation over seeds.{left_out(comparisons, *columns)}"
    )
    return [Figure("any_time", "Accuracy at any number of time steps", caption, figure)]


def full_range(record: RunRecord) -> dict[int, float]:
    """Give accuracy by T': `full_range` of measures.json, or `test/acc_T1` .., or the first t steps of the run."""
    measured = {int(steps): float(value) for steps, value in (record.measures.get("full_range") or {}).items()}
    return measured or record.numbered("test/acc_T") or record.numbered("test/acc_t")


@styled
def energy(comparisons: Comparisons) -> list[Figure]:
    """Draw what is compared against energy, students and teacher."""
    name = "test/energy_mj"
    columns = [
        column
        for column in comparisons.columns
        if any(name in record.numbers for records in shown(comparisons, column).values() for record in records)
    ]
    if not columns:
        return []
    figure, places = panels(len(columns))
    entries: dict[str, Any] = {}
    for axes, column in zip(places, columns, strict=True):
        for row, records in shown(comparisons, column).items():
            cost = point(records, lambda record: joules(record.numbers.get(name)))
            value = point(records, reader(comparisons.measure))
            if cost and value:
                entries[str(row)] = axes.errorbar(
                    cost.mean,
                    value.mean,
                    value.std,
                    cost.std,
                    ls="none",
                    ms=4,
                    lw=0.8,
                    capsize=1.5,
                    **look(row, main_rows(comparisons.grid)),
                )
        if comparisons.measure.name == ACCURACY:
            entries |= _teacher_dot(axes, shown(comparisons, column))
        axes.margins(x=0.15, y=0.15)
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.xaxis.set_major_formatter(EngFormatter("J"))  # small nets take nanojoules, large ones millijoules
        axes.set(xlabel="energy per image", ylabel=comparisons.measure.heading, title=panel_title(comparisons, column))
    legend(figure, in_order(comparisons, entries))
    caption = (
        "Energy by the paper's convention (45 nm, 0.9 pJ per AC, 4.6 pJ per MAC, arithmetic alone); bars are one "
        f"standard deviation over seeds.{left_out(comparisons, *columns)}"
    )
    title = comparisons.measure.title
    return [Figure("energy", f"{title[0].upper()}{title[1:]} against energy", caption, figure)]


def joules(millijoules: float | None) -> float | None:
    """Turn the unit of result.json into that of the axis; None stays None."""
    return None if millijoules is None else millijoules * 1e-3


def _teacher_dot(axes: Any, found: Mapping[Label, Sequence[RunRecord]]) -> dict[str, Any]:
    records = [record for runs in found.values() for record in runs]
    pairs = {(joules(r.numbers.get("teacher/energy_mj")), r.numbers.get("teacher/acc")) for r in records}
    dots = [axes.plot(x, y, marker="*", ms=8, color=INK, ls="none")[0] for x, y in pairs if x and y]
    return {"teacher (ANN)": dots[0]} if dots else {}
