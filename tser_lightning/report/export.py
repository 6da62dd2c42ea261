"""Results as files: CSV and Markdown."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from tser_lightning.records.measures import measured
from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.claim import CLAIM, comparison_rows
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.grid import Values
from tser_lightning.report.labels import Label
from tser_lightning.report.table import interval, p_value, printed, seeds, spread, tested, unfinished

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def results_csv(records: Iterable[RunRecord]) -> str:
    """Write every run as a line, with everything that it says of itself.

    A setting in which runs differ stands in every line, also where it has its default; measures have their names.
    """
    records, values = list(records), Values()
    named = dict.fromkeys(key for record in records for key in record.settings)
    lines = [
        {
            "run": record.name,
            "status": record.status,
            "reason": record.reason,
            **{key: value for key in named if (value := values(record, key)) is not None},
            **{what.name: record.value(what) for what in measured(record.numbers)},
            **provenance_of(record),
        }
        for record in records
    ]
    columns = dict.fromkeys(("run", "status", "reason")) | dict.fromkeys(key for line in lines for key in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def provenance_of(record: RunRecord) -> dict[str, str]:
    """Say where a run's numbers come from: code, versions, hardware, times."""
    git, hardware = record.info.get("git") or {}, record.info.get("hardware") or {}
    versions = record.info.get("versions") or {}
    commit = str(git.get("commit", "not from a checkout"))
    machine = ", ".join(hardware.get("gpus") or []) or f"{hardware.get('cores', '?')} cores"
    return {
        "commit": commit + (" with changes" if git.get("changed") else ""),
        **{f"version {name}": str(version) for name, version in versions.items()},
        "hardware": f"{machine}, {hardware.get('processor', '?')}, {hardware.get('memory_gb', '?')} GiB",
        "started": str(record.info.get("started", "")),
        "ended": str(record.info.get("ended", "")),
        "path": str(record.path),
    }


FIELDS: dict[str, Callable[[Cell], str]] = {
    "value": lambda cell: spread(cell, PLUS_MINUS),
    "seeds": seeds,
    "95 % interval": interval,
    "p": p_value,
    "published": lambda cell: printed(cell, PLUS_MINUS),
}


def fields_of(comparisons: Comparisons, column: Label) -> list[str]:
    """Name what there is to show of a setting: its value, and the rest where any method has it."""
    cells = [cell for (_, other), cell in comparisons.cells.items() if other == column]
    names = [name for name, say in FIELDS.items() if name == "value" or any(map(say, cells))]
    return [name for name in names if name != "seeds" or comparisons.uneven]


def _line(comparisons: Comparisons, row: Label, bold: str) -> list[str]:
    words = []
    for column in comparisons.columns:
        cell = comparisons.cell(row, column)
        for name in fields_of(comparisons, column):
            text = FIELDS[name](cell)
            words.append(bold.replace("TEXT", text) if cell.best and name == "value" else text)
    return words


def _gaps(comparisons: Comparisons) -> list[str]:
    return [
        f"{name}, {setting}, seed {seed}: {status} ({reason})"
        for name, setting, seed, status, reason in unfinished(comparisons)
    ]


def table_md(comparisons: Comparisons) -> str:
    """Write the comparison as Markdown."""
    fields = [(column, name) for column in comparisons.columns for name in fields_of(comparisons, column)]
    heading = comparisons.measure.heading
    head = ["method", *(f"{column}: {heading}" if name == "value" else name for column, name in fields)]
    rows = [head, ["---", *("---:" for _ in fields)]]
    rows += [[str(row), *_line(comparisons, row, "**TEXT**")] for row in comparisons.rows]
    table = ["| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in rows]
    warnings = [f"> {note}" for note in comparisons.warnings]
    notes = [f"- {note.replace('+-', PLUS_MINUS)}" for note in comparisons.notes]
    gaps = ["", "Not finished:", "", *(f"- {gap}" for gap in _gaps(comparisons))] if _gaps(comparisons) else []
    return "\n".join([*warnings, *([""] if warnings else []), *table, "", *notes, *gaps]) + "\n"


def claim_md(compared: Sequence[Comparisons]) -> str:
    """Write the claim's table as Markdown, a table per setting: means, below them interval, difference and p."""
    first, blocks = compared[0], []
    for column in first.columns:
        head = [str(column), *(CLAIM[each.measure.name] for each in compared)]
        rows = [head, ["---", *("---:" for _ in compared)]]
        for row in first.rows:
            if (row, column) in first.cells:
                rows.append([str(row), *(_claimed(each.cell(row, column)) for each in compared)])
        blocks.append("\n".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in rows))
    return "\n\n".join(["Accuracy in %, spread in points", *blocks]) + "\n"


def _claimed(cell: Cell) -> str:
    value = f"**{spread(cell, PLUS_MINUS)}**" if cell.best else spread(cell, PLUS_MINUS)
    return "<br>".join([value, *tested(cell)])


def comparison_csv(compared: Sequence[Comparisons]) -> str:
    """Write what was compared as a line per measure, setting and method: n, mean, std, interval, difference, p."""
    rows = comparison_rows(compared)
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
