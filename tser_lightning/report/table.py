"""Results as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tser_lightning.records.measures import MEASURES, Measure, measure
from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.claim import CLAIM
from tser_lightning.report.labels import Label
from tser_lightning.report.mixtures import UNLIKE

Result = Mapping[str, Any]


def _number(result: Result, what: Measure) -> str:
    value = what.of(result)
    return "not measured" if value is None else what.printed(value)


def steps_table(results: Sequence[Result]) -> Table:
    """Accuracy of the mean of the first t steps and of each step alone, agreement and firing rate: a column per run.

    Args:
        results: Contents of result.json files.
    """
    steps = max(t for t in range(1, 1000) if any(f"test/acc_t{t}" in result for result in results))
    first = results[0]
    table = Table(
        title=f"{first['data']}: {first['student']} taught by {first['teacher']} "
        f"({_number(first, measure('teacher/acc'))} %); test split, in %",
        title_justify="left",
    )
    table.add_column("")
    for result in results:
        table.add_column(str(result["loss"]), justify="right", no_wrap=True)
    for what in _brief(results, steps):
        table.add_row(what.title if what.unit == "%" else what.heading, *(_number(result, what) for result in results))
    return table


def _brief(results: Sequence[Result], steps: int) -> list[Measure]:
    """Choose the measures of the short table: accuracies, and what is declared to be in it, measured or not."""
    names = [f"test/acc_t{t}" for t in range(1, steps + 1)] + [f"test/acc_step{t}" for t in range(2, steps + 1)]
    return [*map(measure, names), *(each for each in MEASURES if each.brief)]


def spread(cell: Cell, plus_minus: str = "+-") -> str:
    """Say a number over seeds: "96.31 +- 0.22"; without numbers, why there are none."""
    if cell.summary is None:
        return ", ".join(sorted({record.status for record in cell.failed})) or "not measured"
    std = "" if cell.summary.std is None else f" {plus_minus} {cell.measure.printed(cell.summary.std)}"
    return f"{cell.measure.printed(cell.summary.mean)}{std}"


def seeds(cell: Cell) -> str:
    """Say how many seeds there are: "3"; empty where there is none."""
    return "" if cell.summary is None else str(cell.summary.n)


def interval(cell: Cell) -> str:
    """Say the 95 % interval of the mean: "[95.80, 96.90]"; empty where there is none."""
    bounds = cell.summary.interval if cell.summary else None
    if bounds is None:
        return ""
    # What is outside of what is possible holds no value, so that the interval covers as much without it.
    low, high = cell.measure.bounds
    return f"[{cell.measure.printed(max(bounds[0], low))}, {cell.measure.printed(min(bounds[1], high))}]"


def p_value(cell: Cell) -> str:
    """Say the p-value: "0.031"; empty where there is none."""
    p = cell.comparison.p if cell.comparison else None
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def named_p(cell: Cell) -> str:
    """Say the p-value with its name: "p = 0.031", "p <0.001"; empty where there is none."""
    p = p_value(cell)
    return f"p {p}" if p.startswith("<") else f"p = {p}" if p else ""


def tested(cell: Cell) -> list[str]:
    """Say interval, difference and p in a line each, as far as there are any."""
    return [line for line in (interval(cell), difference(cell), named_p(cell)) if line]


def difference(cell: Cell) -> str:
    """Say the mean difference from the baseline: "+1.02"; empty where there is none."""
    value = cell.comparison.difference if cell.comparison else None
    mark = UNLIKE if cell.unlike else ""
    return "" if value is None else f"{'' if value < 0 else '+'}{cell.measure.printed(value)}{mark}"


def printed(cell: Cell, plus_minus: str = "+-") -> str:
    """Say the published number, e.g. "78.30 +- 0.08? (here selection=val)"; empty where there is none."""
    found = cell.published
    if found is None:
        return ""
    std = "" if found.std is None else f" {plus_minus} {found.std:.2f}"
    here = f" (here {', '.join(found.here)})" if found.here else ""
    return f"{found.mean:.2f}{std}{'?' if found.doubt else ''}{here}"


def summary_tables(comparisons: Comparisons, claimed: Sequence[Comparisons] = ()) -> list[Table | Text]:
    """Draw what is mixed, the claim, the comparison (a row per method, a column per setting), and what is missing."""
    single = len(comparisons.columns) == 1
    table = _single(comparisons, comparisons.columns[0]) if single else _side_by_side(comparisons)
    drawn: list[Table | Text] = [Text(f"! {warning}", style="yellow") for warning in comparisons.warnings]
    drawn += [*claim_tables(claimed), table]
    table.caption, table.caption_justify = Text("\n".join(comparisons.notes)), "left"
    missing = unfinished(comparisons)
    if missing:
        gaps = Table("method", "setting", "seed", "status", "reason", title="Not finished")
        for name, setting, seed, status, reason in missing:
            gaps.add_row(Text(name), Text(setting), seed, Text(status, style="red"), Text(reason))
        drawn.append(gaps)
    return drawn


def claim_tables(compared: Sequence[Comparisons]) -> list[Table]:
    """Draw the claim, a table per setting: means in bold where best, below them interval, difference and p."""
    tables = []
    for column in compared[0].columns if compared else ():
        table = Table(title=f"{column}: accuracy in %, spread in points", title_justify="left")
        table.add_column("method")
        for each in compared:
            table.add_column(CLAIM[each.measure.name], justify="right")
        for row in compared[0].rows:
            if (row, column) in compared[0].cells:
                cells = [each.cell(row, column) for each in compared]
                table.add_row(_named(compared[0], row), *map(_claimed, cells))
        tables.append(table)
    return tables


def _claimed(cell: Cell) -> Text:
    text = Text(spread(cell), style="bold" if cell.best else "")
    for line in tested(cell):
        text.append(f"\n{line}", style="not bold dim")
    return text


SINGLE = {
    "value": spread,
    "seeds": seeds,
    "95 % interval": interval,
    "to baseline": difference,
    "p": p_value,
    "published": printed,
}


def _single(comparisons: Comparisons, column: Label) -> Table:
    teacher = comparisons.teacher(column)
    what = comparisons.measure
    table = Table(title=f"{column}: {what.heading}{f' (teacher {teacher})' if teacher else ''}")
    cells = {row: comparisons.cell(row, column) for row in comparisons.rows}
    names = [name for name, say in SINGLE.items() if any(map(say, cells.values()))]
    names = [name for name in names if name != "seeds" or comparisons.uneven]
    table.add_column("method")
    for name in names:
        table.add_column(what.title if name == "value" else name, justify="right")
    for row, cell in cells.items():
        words = [SINGLE[name](cell) for name in names]
        table.add_row(
            _named(comparisons, row), Text(words[0], style="bold" if cell.best else ""), *map(Text, words[1:])
        )
    return table


def _side_by_side(comparisons: Comparisons) -> Table:
    heading = comparisons.measure.heading
    table = Table(title=f"{heading[0].upper()}{heading[1:]}")
    table.add_column("method")
    for column in comparisons.columns:
        teacher = comparisons.teacher(column)
        table.add_column("\n".join([*column.parts, *([f"teacher {teacher}"] if teacher else [])]), justify="right")
    for row in comparisons.rows:
        cells = [comparisons.cells.get((row, column)) for column in comparisons.columns]
        table.add_row(_named(comparisons, row), *(_stacked(cell, comparisons.uneven) if cell else "" for cell in cells))
    return table


def _named(comparisons: Comparisons, row: Label) -> Text:
    return Text(f"{row} (baseline)" if row in comparisons.baseline.values() else str(row))


def _stacked(cell: Cell, uneven: bool) -> Text:
    text = Text(spread(cell), style="bold" if cell.best else "")
    p, paper, n = named_p(cell), printed(cell), seeds(cell)
    lines = (f"n={n}" if n and uneven else "", p, f"published {paper}" if paper else "")
    for line in lines:
        if line:
            text.append(f"\n{line}", style="not bold dim")
    return text


def unfinished(comparisons: Comparisons) -> list[tuple[str, str, str, str, str]]:
    """List the runs without a result: method, setting, seed, status ("missing", "failed" ...) and the reason."""
    found = [
        (str(row), str(column), str(record.seed), record.status, record.reason)
        for (row, column), cell in comparisons.cells.items()
        for record in cell.failed
    ]
    unplaced = comparisons.grid.unplaced
    return [*sorted(found), *((record.name, "unknown", "?", record.status, record.reason) for record in unplaced)]
