"""Results as files: CSV, Markdown, LaTeX."""

import csv
import io
from collections.abc import Callable, Iterable

from tser_lightning.records.measures import measured
from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.labels import Label
from tser_lightning.report.table import interval, p_value, printed, seeds, spread, unfinished

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def results_csv(records: Iterable[RunRecord]) -> str:
    """Write every run as a line, with everything that it says of itself; measures under their names."""
    lines = [
        {
            "run": record.name,
            "status": record.status,
            "reason": record.reason,
            **{key: value for key, value in record.settings.items() if value is not None},
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
    notes = [f"- {note.replace('+-', PLUS_MINUS)}" for note in comparisons.notes]
    gaps = ["", "Not finished:", "", *(f"- {gap}" for gap in _gaps(comparisons))] if _gaps(comparisons) else []
    return "\n".join([*table, "", *notes, *gaps]) + "\n"


def table_tex(comparisons: Comparisons) -> str:
    r"""Write the comparison as a LaTeX tabular; it needs \usepackage{booktabs}."""
    spans: list[str] = []
    rules: list[str] = []
    names: list[str] = []
    for column in comparisons.columns:
        fields = fields_of(comparisons, column)
        rules.append(rf"\cmidrule(lr){{{len(names) + 2}-{len(names) + 1 + len(fields)}}}")
        spans.append(rf"\multicolumn{{{len(fields)}}}{{c}}{{{escape_tex(str(column))}}}")
        names += [escape_tex(comparisons.measure.heading if name == "value" else name) for name in fields]
    body = [[escape_tex(str(row)), *_escaped(_line(comparisons, row, "\1TEXT\2"))] for row in comparisons.rows]
    lines = [
        r"% needs \usepackage{booktabs}",
        *(f"% {' '.join(note.split())}" for note in [*comparisons.notes, *_gaps(comparisons)]),
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["", *spans]) + r" \\",
        "".join(rules),
        " & ".join(["method", *names]) + r" \\",
        r"\midrule",
        *(" & ".join(words) + r" \\" for words in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(words: Iterable[str]) -> Iterable[str]:
    # The marks of bold text stand for braces that must not be escaped.
    for word in words:
        text = escape_tex(word).replace(PLUS_MINUS, r"$\pm$")
        yield text.replace("\1", r"\textbf{").replace("\2", "}")


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
_TEX |= {">": r"\textgreater{}"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def escape_tex(text: str) -> str:
    """Write text so that LaTeX prints it as it is."""
    return "".join(_TEX.get(letter, letter) for letter in text)
