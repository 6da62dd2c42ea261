"""The report as one HTML page that needs nothing else: no network, no other file."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.claim import CLAIM
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import Figure
from tser_lightning.report.export import provenance_of
from tser_lightning.report.labels import Label
from tser_lightning.report.paper_tables import COST_TABLE_NOTES, PLUS_MINUS, PlainTable
from tser_lightning.report.style import inline_svg
from tser_lightning.report.table import difference, interval, named_p, printed, spread, unfinished

SECTIONS = {"summary": "Summary", "figures": "Figures", "tables": "Ablation and cost", "measures": "All measures"}
LAST_SECTIONS = {"selection": "How the numbers were chosen", "provenance": "Provenance"}

RULES = {
    "val": "selection=val: a validation split is cut from the training data by a fixed rule; the epoch with the best "
    "validation accuracy is measured once on the test split. Nothing was chosen on the test split.",
    "last": "selection=last: the weights after the last epoch are measured on the test split; nothing was chosen.",
    "paper": "selection=paper: the epoch with the best accuracy on the test split itself is reported, the habit of the "
    "field. Such numbers are too high by some tenths and do not compare with those of the other protocols.",
}


EMPTY = {"value": "\N{EN DASH}", "best": False, "order": "", "empty": False, "lines": []}


def page(
    comparisons: Comparisons,
    claimed: Sequence[Comparisons],
    folder: Path,
    records: Sequence[RunRecord],
    tables: Sequence[PlainTable],
    measures: Sequence[PlainTable],
    drawn: Sequence[tuple[Figure, Path]],
) -> str:
    """Write the page.

    Args:
        comparisons: The summary table.
        claimed: The claim's table.
        folder: Where the page goes, for its links.
        records: All runs, finished or not.
        tables: Further tables.
        measures: All that was measured, by setting.
        drawn: Figures with their SVG files.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    there = {"summary": True, "tables": bool(tables), "figures": bool(drawn), "measures": bool(measures)}
    names = {key: name for key, name in SECTIONS.items() if there[key]} | LAST_SECTIONS
    return environment.get_template("page.html.j2").render(
        title=_title(comparisons),
        subtitle=_subtitle(records),
        sections=list(names.items()),
        columns=[{"parts": column.parts, "teacher": comparisons.teacher(column)} for column in comparisons.columns],
        heading=comparisons.measure.heading,
        rows=[_row(comparisons, row) for row in comparisons.rows],
        notes=[note.replace("+-", PLUS_MINUS) for note in [*comparisons.notes, *_doubts(comparisons)]],
        warnings=comparisons.warnings,
        claims=[_claim(claimed, column) for column in comparisons.columns] if claimed else [],
        unfinished=unfinished(comparisons),
        tables=tables,
        measures=measures,
        assumptions=COST_TABLE_NOTES,
        figures=[_figure(figure, file) for figure, file in drawn],
        selection=_selection(records),
        provenance=_provenance(records),
        places={record.name: _link(record.path, folder) for record in records},
    )


def _title(comparisons: Comparisons) -> str:
    data = dict.fromkeys(str(column.get("data")) for column in comparisons.columns)
    return f"Spiking students on {', '.join(data)}" if data else "Spiking students"


def _subtitle(records: Sequence[RunRecord]) -> str:
    counts = Counter(record.status for record in records)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1]))
    ends = sorted(str(record.info["ended"])[:16].replace("T", " ") for record in records if record.info.get("ended"))
    until = f" to {ends[-1]}" if ends and ends[-1] != ends[0] else ""
    when = f"; ended {ends[0]}{until} (UTC)" if ends else ""
    return f"{len(records)} runs: {said}{when}"


def _link(path: Path, folder: Path) -> str:
    """Address a run's folder from the page, so that both can be moved together."""
    return quote(os.fsencode(os.path.relpath(path, folder.absolute()))) + "/"


def _claim(claimed: Sequence[Comparisons], column: Label) -> dict[str, Any]:
    rows = [row for row in claimed[0].rows if (row, column) in claimed[0].cells]
    return {
        "title": f"{', '.join(column.parts)}: accuracy in %, spread in points",
        "head": [CLAIM[each.measure.name] for each in claimed],
        "rows": [
            {
                "name": str(row),
                "baseline": row in claimed[0].baseline.values(),
                "cells": [_cell(each.cell(row, column), each.uneven) for each in claimed],
            }
            for row in rows
        ],
    }


def _row(comparisons: Comparisons, row: Label) -> dict[str, Any]:
    cells = [comparisons.cells.get((row, column)) for column in comparisons.columns]
    return {
        "name": str(row),
        "baseline": row in comparisons.baseline.values(),
        "cells": [_cell(cell, comparisons.uneven) if cell else EMPTY for cell in cells],
    }


def _cell(cell: Cell, uneven: bool) -> dict[str, Any]:
    points, p, paper = difference(cell), named_p(cell), printed(cell, PLUS_MINUS)
    why = cell.comparison.reason if cell.comparison and not p else ""
    lines = [
        f"{cell.summary.n} seed{'s' if cell.summary.n > 1 else ''}" if cell.summary and uneven else "",
        f"95 %: {interval(cell)}" if interval(cell) else "",
        f"{points} to baseline" + (f", {p}" if p else "") if points else "",
        f"no p: {why}" if why else "",
        f"published {paper}" if paper else "",
    ]
    return {
        "value": spread(cell, PLUS_MINUS),
        "best": cell.best,
        "order": cell.summary.mean if cell.summary else "",
        "empty": cell.summary is None and bool(cell.failed),
        "lines": [line for line in lines if line],
    }


def _doubts(comparisons: Comparisons) -> list[str]:
    found = {
        f"{column}, {row.get('loss')}": cell.published.doubt
        for (row, column), cell in comparisons.cells.items()
        if cell.published and cell.published.doubt
    }
    return [f"? {where}: {doubt}." for where, doubt in found.items()]


def _figure(figure: Figure, file: Path) -> Mapping[str, Any]:
    svg = inline_svg(file)
    points = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    width = round(float(points[1]) / 72 * 9, 1) if points else 40
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "svg": Markup(svg),
        "width": width,
    }


def _selection(records: Sequence[RunRecord]) -> list[str]:
    finished = [record for record in records if record.finished]
    counts = Counter(str(record.settings.get("selection")) for record in finished)
    said = [f"{RULES.get(rule, f'selection={rule}')} ({count} runs)" for rule, count in sorted(counts.items())]
    if "paper" not in counts:
        said.append("The test split is measured once per run, with the weights chosen as above.")
    if any("full_range" in record.measures for record in finished):
        said.append("Accuracies at T' other than the T of training chose nothing.")
    return said


def _provenance(records: Sequence[RunRecord]) -> PlainTable:
    head = ["run", "status", "seed", "commit", "torch", "hardware", "started", "training in s", "memory in MiB"]
    lines = []
    for record in records:
        facts = provenance_of(record)
        commit, _, changed = facts["commit"].partition(" ")
        is_hash = bool(re.fullmatch(r"[0-9a-f]{40}", commit))
        lines.append(
            [
                record.name,
                record.status,
                str(record.seed if record.seed is not None else ""),
                f"{commit[:10]} {changed}".strip() if is_hash else facts["commit"],
                facts.get("version torch", ""),
                facts["hardware"],
                facts["started"][:16].replace("T", " "),
                _whole(record.numbers.get("train/seconds")),
                _whole(record.numbers.get("train/peak_memory_mb")),
            ]
        )
    return PlainTable(f"{len(lines)} runs", head, lines)


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
