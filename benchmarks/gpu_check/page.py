"""What a person sees of the lines: a table on the terminal, and JSON and a page in a folder."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.gpu_check.lines import Line, State

COLUMNS = ("part", "what", "state", "figure", "goal", "note")
WIDTH = 180  # where there is no terminal
COLOURS: dict[State, str] = {
    "pass": "green",
    "fail": "bold red",
    "goal missed": "yellow",
    "measured": "default",
    "not measured": "dim",
}


def summary(lines: Sequence[Line]) -> str:
    """How many lines there are of each state, in words."""
    counts = Counter(line.state for line in lines)
    return ", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state]) or "nothing ran"


def table_of(lines: Sequence[Line]) -> Table:
    """Make the table."""
    table = Table(title="GPU check")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("figure", "goal") else "left")
    for line in lines:
        table.add_row(*asdict(line).values(), style=COLOURS[line.state])
    return table


def write(lines: Sequence[Line], conditions: dict[str, Any], folder: Path) -> None:
    """Print the table; write gpu_check.json, and the table as the page gpu_check.html.

    Args:
        lines: In the order of the table.
        conditions: Versions and hardware; see `benchmarks.rounds.conditions`.
        folder: Is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"summary": summary(lines), "lines": [asdict(line) for line in lines], "conditions": conditions}
    (folder / "gpu_check.json").write_text(json.dumps(content, indent=1) + "\n")
    shown = Console()
    shown.width = shown.width if shown.is_terminal else WIDTH
    shown.print(table_of(lines), summary(lines))
    paper = Console(record=True, width=WIDTH, file=io.StringIO())
    paper.print(table_of(lines), summary(lines))
    for name, value in conditions.items():
        paper.print(f"{name}: {value}", markup=False)
    (folder / "gpu_check.html").write_text(paper.export_html(), encoding="utf-8")
