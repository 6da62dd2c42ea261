"""Tables laid out as the paper's Tables 3 and 4."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import main_rows, point, shown
from tser_lightning.report.labels import Label
from tser_lightning.report.published import paper
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
    cells = [[comparisons.cells.get((row, column), Cell()) for column in columns] for row in rows]
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


COSTS: dict[str, tuple[str, float, int]] = {  # heading: name in result.json, factor, digits
    "accuracy in %": ("test/acc", 1, 2),
    "firing rate in %": ("test/firing_rate", 1, 2),
    "OPs in M": ("test/ops", 1e-6, 2),
    "ACs in M": ("test/acs", 1e-6, 2),
    "MACs in M": ("test/macs", 1e-6, 2),
    "energy in mJ": ("test/energy_mj", 1, 4),
    "energy, BatchNorm folded": ("test/energy_folded_mj", 1, 4),
    "training in s": ("train/seconds", 1, 0),
    "peak memory in MiB": ("train/peak_memory_mb", 1, 0),
}
ASSUMPTIONS = (
    "Per image, over all time steps; mean and standard deviation over seeds. Energy at 45 nm, arithmetic alone: 0.9 pJ "
    "per AC, 4.6 pJ per MAC; by the paper's convention the stem is charged at every step and BatchNorm counts."
)
TEACHER = {
    "accuracy in %": "teacher/acc",
    "MACs in M": "teacher/macs",
    "OPs in M": "teacher/macs",
    "energy in mJ": "teacher/energy_mj",
    "energy, BatchNorm folded": "teacher/energy_folded_mj",
}


def costs(comparisons: Comparisons, column: Label) -> PlainTable | None:
    """List what a classification costs by method, as Table 4, with the ANN teacher last; None without such numbers."""
    found = shown(comparisons, column)
    records = [record for runs in found.values() for record in runs]
    head = [title for title, (name, _, _) in COSTS.items() if any(name in record.numbers for record in records)]
    if not any("test/energy_mj" in record.numbers for record in records):
        return None
    digits = {title: _digits(found.values(), title) for title in head}
    lines = [
        [str(row), *(_cost(runs, title, COSTS[title][0], digits[title]) for title in head)]
        for row, runs in found.items()
    ]
    teacher = [_cost(records, title, TEACHER.get(title, ""), digits[title]) for title in head]
    lines.append(["teacher (ANN)", *teacher])
    title = f"Cost: {', '.join(column.parts)} (as Table 4)"
    return PlainTable(title, ["method", *head], lines, _table_4(column))


def _digits(found: Iterable[Sequence[RunRecord]], title: str) -> int:
    """Give the decimals of a column: as many as show three figures of its smallest number, where that is below 1."""
    name, factor, least = COSTS[title]
    numbers = [point(records, _named(name)) for records in found]
    sizes = [factor * number.mean for number in numbers if number is not None and number.mean > 0]
    return max(least, 2 - floor(log10(min(sizes)))) if least and sizes and min(sizes) < 1 else least


def _cost(records: Sequence[RunRecord], title: str, name: str, digits: int) -> str:
    factor = COSTS[title][1]
    number = point(records, _named(name))
    if number is None:
        return ""
    shows = number.n > 1 and factor * number.std > 0.5 * 10**-digits
    std = f" {PLUS_MINUS} {factor * number.std:.{digits}f}" if shows else ""
    return f"{factor * number.mean:.{digits}f}{std}"


def _named(name: str) -> Callable[[RunRecord], float | None]:
    return lambda record: record.numbers.get(name)


def _table_4(column: Label) -> list[str]:
    printed_there = paper()["table4"].get(str(column.get("student")))
    if printed_there is None or column.get("data") != "cifar100" or column.get("student.timesteps") != 4:
        return []
    energies = ", ".join(f"{value:.2f}" for value in printed_there["energy_mj"])
    doubt = f" ({printed_there['doubt']})" if "doubt" in printed_there else ""
    ops, macs = printed_there["ops"] * 1e-6, printed_there["macs"] * 1e-6
    return [f"The paper prints {ops:.0f} M OPs, {macs:.1f} M MACs and, by row, {energies} mJ{doubt}."]
