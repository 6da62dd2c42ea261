import csv
import dataclasses
import io
import re
from pathlib import Path

from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.export import results_csv, table_md
from tser_lightning.report.grid import make_grid
from tser_lightning.report.latex import escape_tex, table_tex


def test_the_csv_has_every_run_and_every_number(runs: Path) -> None:
    records = collect(runs / "*")
    lines = list(csv.DictReader(io.StringIO(results_csv(records))))
    assert len(lines) == 15
    first = next(line for line in lines if line["loss"] == "tser" and line["seed"] == "2")
    record = next(r for r in records if r.settings["loss"] == "tser" and r.seed == 2)
    assert all(float(first[name]) == value for name, value in record.numbers.items())
    assert first["version torch"] == "2.15.0"
    assert first["commit"].startswith("0123456789abcdef")
    failed = next(line for line in lines if line["status"] == "failed")
    assert failed["test/acc"] == ""
    assert "its term kl" in failed["reason"]


def test_markdown_and_latex_hold_the_same_numbers(runs: Path) -> None:
    comparisons = compare_methods(make_grid(collect(runs / "*")))
    markdown, latex = table_md(comparisons), table_tex(comparisons)
    row = next(line for line in markdown.splitlines() if line.startswith("| tser"))
    cells = [word.strip() for word in row.strip("| ").split(" | ")]
    assert re.fullmatch(r"\*\*9\d\.\d\d \N{PLUS-MINUS SIGN} \d\.\d\d\*\*", cells[1])
    in_latex = next(line for line in latex.splitlines() if line.startswith("TSER"))
    words = [word.strip() for word in in_latex.removesuffix(r" \\").split(" & ")]
    number = cells[1].strip("*").replace("\N{PLUS-MINUS SIGN}", "+-")
    assert (words[1], words[2], words[3], words[5]) == (rf"\bfseries {number}", cells[2], cells[3], cells[4])
    assert "Vanilla KD" in latex
    assert latex.count("{") == latex.count("}")
    for table in (markdown, latex):
        assert "ts_ce" in table.replace("\\", "")
        assert "the loss is nan at epoch 3" in table
        assert "best validation accuracy" in table


def test_every_row_of_the_latex_table_has_as_many_cells_as_columns(runs: Path) -> None:
    lines = table_tex(compare_methods(make_grid(collect(runs / "*")))).splitlines()
    begin = next(line for line in lines if "begin{tabular}" in line).partition("{tabular}")[2]
    columns = re.sub(r"\[.*?\]", "", begin).strip("{}")
    assert re.fullmatch("l[Scr]+", columns)
    rows = [line for line in lines if line.endswith(r" \\") and "multicolumn" not in line]
    assert len(rows) == 6
    assert {line.count(" & ") + 1 for line in rows} == {len(columns)}


def test_latex_prints_what_it_is_given() -> None:
    assert escape_tex("a_b & 5% {x}\\ ~^ <0.1") == (
        r"a\_b \& 5\% \{x\}\textbackslash{} \textasciitilde{}\textasciicircum{} \textless{}0.1"
    )
    assert escape_tex("[1,2] a--b 'x'' |\" ?` 5$") == r"[1,2] a-{}-b 'x'{}' \textbar{}\char34{} ?{}` 5\$"


def test_the_values_of_runs_are_text_in_latex_whatever_they_hold(runs: Path) -> None:
    records = [
        dataclasses.replace(record, settings={**record.settings, "loss": r"[a]$\input{x}$"})
        for record in collect(runs / "*")
        if record.settings["loss"] == "tser"
    ]
    (line,) = [
        line
        for line in table_tex(compare_methods(make_grid(records))).splitlines()
        if "input" in line and line[0] != "%"
    ]
    assert line.startswith(r"{}[a]\$\textbackslash{}input\{x\}\$ & ")
