"""Tables laid out as the paper's Tables 3 and 4."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import floor, log10

from tser_lightning.records.measures import HIGHER, LOWER, MEASURES, NEITHER, Measure, measure, measured
from tser_lightning.report.cells import ACCURACY, Cell, Comparisons, published_method
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import main_rows, point, reader, shown
from tser_lightning.report.labels import Label
from tser_lightning.report.published import paper, published, published_methods
from tser_lightning.report.table import difference, printed, spread

SWITCHES = {  # loss: separated CE, separated KL, entropy regulariser
    "vanilla_kd": (False, False, False),
    "ts_ce": (True, False, False),
    "ts_kl": (False, True, False),
    "ts": (True, True, False),
    "vanilla_kd_er": (False, False, True),
    "tser": (True, True, True),
}

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
CHECK = "\N{CHECK MARK}"
UP, DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"  # which way is better


@dataclass(frozen=True)
class PlainTable:
    """A table of words.

    Attributes:
        title: What it is.
        head: Names of the columns.
        lines: Its rows, as many words each.
        notes: What a reader has to know.
    """

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def ablation(comparisons: Comparisons) -> PlainTable | None:
    """Lay the losses out by their switches, as Table 3, where three or more were run; None if that is nowhere."""
    rows = [row for row in main_rows(comparisons.grid) if row.get("loss") in SWITCHES]
    columns = [
        column for column in comparisons.columns if len({row for row in rows if (row, column) in comparisons.cells}) > 2
    ]
    if not columns:
        return None
    cells = [[comparisons.cell(row, column) for column in columns] for row in rows]
    paper_has = [any(line[place].published for line in cells) for place in range(len(columns))]
    head = ["method", "CE separated", "KL separated", "entropy"]
    for column, has in zip(columns, paper_has, strict=True):
        head += [str(column), "to baseline", *(["published"] if has else [])]
    lines = []
    for row, line in zip(rows, cells, strict=True):
        words = [str(row), *(CHECK if on else "" for on in SWITCHES[str(row.get("loss"))])]
        for cell, has in zip(line, paper_has, strict=True):
            words += [
                spread(cell, PLUS_MINUS) if cell.values or cell.failed else "",
                difference(cell),
                *([printed(cell, PLUS_MINUS)] if has else []),
            ]
        lines.append(words)
    return PlainTable("Ablation of temporal separation and entropy (as Table 3)", head, lines)


NOT_RUN = "not run here"


def accuracies(comparisons: Comparisons, column: Label) -> PlainTable | None:
    """List what the paper prints in a setting, as Tables 1 and 2, beside what was run of it; None if it prints nothing.

    A run stands beside a printed number only where method, network and teacher are those published.
    """
    data, student, steps = (column.get(key) for key in ("data", "student", "student.timesteps"))
    methods = published_methods(str(data), str(student), steps)
    if not methods or comparisons.measure.name != ACCURACY:
        return None
    cells = _cells_by_method(comparisons, column)
    lines, notes = [], []
    for method in methods:
        number = published(str(data), str(student), steps, method)
        assert number is not None
        cell = cells.get(method)
        std = "" if number.std is None else f" {PLUS_MINUS} {number.std:.2f}"
        here = ", ".join(cell.published.here) if cell and cell.published else ""
        lines.append(
            [
                comparisons.names.get(method, method),
                f"{number.mean:.2f}{std}{'?' if number.doubt else ''}",
                spread(cell, PLUS_MINUS) if cell else NOT_RUN,
                here,
            ]
        )
        notes += [f"? {method}: {number.doubt}."] if number.doubt else []
    title = f"Published and run: {', '.join(column.parts)} (as Table {2 if data == 'imagenet' else 1}, and others')"
    return PlainTable(title, ["method", "published", "here", "otherwise here"], lines, notes)


def _cells_by_method(comparisons: Comparisons, column: Label) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for row in comparisons.rows:
        cell = comparisons.cell(row, column)
        if cell.published is not None:
            method = published_method(comparisons.grid.cells[row, column][0])
            found.setdefault(str(method), cell)
    return found


COST_TABLE_NOTES = (
    "Per image, over all time steps; mean and standard deviation over seeds. Energy at 45 nm, arithmetic alone: 0.9 pJ "
    "per AC, 4.6 pJ per MAC; by the paper's convention the stem is charged at every step and BatchNorm counts."
)


def costs(comparisons: Comparisons, column: Label) -> PlainTable | None:
    """List what a classification costs by method, as Table 4, with the ANN teacher last; None without such numbers."""
    found = shown(comparisons, column)
    records = [record for runs in found.values() for record in runs]
    head = [what for what in _priced() if any(record.value(what) is not None for record in records)]
    if not any("test/energy_mj" in record.numbers for record in records):
        return None
    exact = [replace(what, digits=_digits(found.values(), what)) for what in head]
    lines = [[str(row), *(_cost(runs, what) for what in exact)] for row, runs in found.items()]
    twins = [replace(measure(what.name.replace("test/", "teacher/")), digits=what.digits) for what in exact]
    lines.append(["teacher (ANN)", *(_cost(records, what) if _is(what, "teacher") else "" for what in twins)])
    title = f"Cost: {', '.join(column.parts)} (as Table 4)"
    return PlainTable(title, ["method", *(what.heading for what in head)], lines, _table_4(column))


def _priced() -> list[Measure]:
    costs = [each for each in MEASURES if each.kind == "cost" and not _is(each, "teacher")]
    return [measure("test/acc"), measure("test/firing_rate"), *costs]


def _is(what: Measure, split: str) -> bool:
    return what.name.startswith(f"{split}/")


def _digits(found: Iterable[Sequence[RunRecord]], what: Measure) -> int:
    """Give the decimals of a column: as many as show three figures of its smallest number, where that is below 1."""
    least = what.digits
    numbers = [point(records, reader(what)) for records in found]
    sizes = [number.mean for number in numbers if number is not None and number.mean > 0]
    return max(least, 2 - floor(log10(min(sizes)))) if least and sizes and min(sizes) < 1 else least


def _cost(records: Sequence[RunRecord], what: Measure) -> str:
    number, digits = point(records, reader(what)), what.digits
    if number is None:
        return ""
    shows = number.n > 1 and number.std > 0.5 * 10**-digits
    std = f" {PLUS_MINUS} {number.std:.{digits}f}" if shows else ""
    return f"{number.mean:.{digits}f}{std}"


def _table_4(column: Label) -> list[str]:
    printed_there = paper()["table4"].get(str(column.get("student")))
    if printed_there is None or column.get("data") != "cifar100" or column.get("student.timesteps") != 4:
        return []
    energies = ", ".join(f"{value:.2f}" for value in printed_there["energy_mj"])
    doubt = f" ({printed_there['doubt']})" if "doubt" in printed_there else ""
    batch = paper()["table4"]["seconds_per_batch"]
    ops, macs = printed_there["ops"] * 1e-6, printed_there["macs"] * 1e-6
    acs = ", ".join(f"{value * 1e-6:.0f}" for value in printed_there["acs"])
    return [
        f"The paper prints {ops:.0f} M OPs, {macs:.1f} M MACs and, by row, {energies} mJ{doubt}, which is {acs} M ACs; "
        f"{batch['range'][0]} to {batch['range'][1]} s per batch, tser {batch['tser'][str(column.get('student'))]} "
        f"({batch['doubt']})."
    ]


def step_numbers(comparisons: Comparisons, column: Label) -> PlainTable | None:
    """Print the numbers of Fig. 2: each step alone, their mean and spread, all steps; None where T is 1."""
    found = shown(comparisons, column)
    steps = max((len(r.numbered("test/acc_step")) for runs in found.values() for r in runs), default=0)
    if steps < 2:
        return None
    names = {f"step {t}": f"test/acc_step{t}" for t in range(1, steps + 1)}
    names |= {"mean": "test/acc_step_mean", "spread": "test/acc_step_std", "all steps": "test/acc"}
    lines = [[str(row), *(_cost(runs, measure(name)) for name in names.values())] for row, runs in found.items()]
    return PlainTable(
        f"Accuracy of each time step in %: {', '.join(column.parts)} (as Fig. 2)", ["method", *names], lines
    )


def every_measure(comparisons: Comparisons, column: Label) -> PlainTable:
    """List all that was measured in a setting, by method, but for what there is one of per time step."""
    found = shown(comparisons, column)
    names = dict.fromkeys(name for runs in found.values() for record in runs for name in record.numbers)
    lines = []
    for what in measured(names):
        if what in MEASURES or not what.source:  # no member of a family
            better = {HIGHER: UP, LOWER: DOWN, NEITHER: ""}[what.better]
            numbers = [_cost(runs, replace(what, digits=_digits(found.values(), what))) for runs in found.values()]
            lines.append([f"{what.heading} {better}".rstrip(), *numbers, what.meaning or "not declared", what.name])
    head = ["measure", *map(str, found), "what it is", "name in result.json"]
    return PlainTable(f"All measures: {', '.join(column.parts)}", head, lines)
