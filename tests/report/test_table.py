import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tser_lightning.records.measures import measure
from tser_lightning.records.sweep_record import AskedRun, write_sweep
from tser_lightning.report.cells import Cell, compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.statistics import summarise
from tser_lightning.report.table import interval, steps_table, summary_tables

Build = Callable[..., Path]

RESULT = {
    "loss": "tser",
    "data": "digits",
    "student": "resnet_small",
    "teacher": "resnet_small",
    "seed": 1,
    "teacher/acc": 98.5,
    "test/acc": 97.0,
    "test/acc_t1": 90.25,
    "test/acc_t2": 97.0,
    "test/acc_step1": 90.25,
    "test/acc_step2": 95.5,
    "test/agreement": 97.75,
    "test/firing_rate": 12.5,
}


def test_every_number_stands_under_its_name() -> None:
    console = Console(width=80, record=True)
    console.print(steps_table([RESULT, {**RESULT, "loss": "ce", "test/agreement": None}]))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [
        ["test accuracy at t=1", "90.25", "90.25"],
        ["test accuracy at t=2", "97.00", "97.00"],
        ["test accuracy, step 2 alone", "95.50", "95.50"],
        ["agreement with the teacher", "97.75", "not measured"],
        ["firing rate", "12.50", "12.50"],
    ]
    head = next(line for line in text.splitlines() if "┃" in line)
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == ["", "tser", "ce"]
    assert "98.50" in text


def text_of(runs: Path, width: int = 140) -> str:
    console = Console(width=width, record=True)
    console.print(*summary_tables(compare_methods(make_grid(collect(runs / "*")))))
    return console.export_text()


def test_the_comparison_has_a_row_per_method(runs: Path) -> None:
    text = text_of(runs)
    assert "digits resnet_small T=4: test accuracy in % (teacher resnet_small 98.50)" in text
    tser = next(line for line in text.splitlines() if line.startswith("\N{BOX DRAWINGS LIGHT VERTICAL} tser"))
    cells = [word.strip() for word in tser.split("\N{BOX DRAWINGS LIGHT VERTICAL}")[1:-1]]
    assert re.fullmatch(r"9\d\.\d\d \+- \d\.\d\d", cells[1])
    assert cells[2] == "3"  # seeds: not all methods have as many
    assert re.fullmatch(r"\[9\d\.\d\d, 9\d\.\d\d\]", cells[3])
    assert re.fullmatch(r"\+\d\.\d\d", cells[4])
    assert re.fullmatch(r"0\.\d{3}", cells[5])
    assert "vanilla_kd (baseline)" in text
    assert "best validation accuracy" in " ".join(text.split())


def test_failed_and_killed_runs_are_rows_that_say_so(runs: Path) -> None:
    text = text_of(runs)
    assert re.search(r"ts_ce .* 3 .* failed .* the loss is nan at epoch 3", text)
    assert re.search(r"ts_kl .* 2 .* killed .* killed at epoch 4 of 30", text)


def test_a_hole_in_the_grid_is_a_row_only_where_a_sweep_asked_for_it(build: Build, tmp_path: Path) -> None:
    for loss, seed in (("vanilla_kd", 1), ("vanilla_kd", 2), ("tser", 1)):
        path = build(loss, seed)
    assert "missing" not in text_of(tmp_path / "runs")
    settings = json.loads((path / "run.json").read_text())["settings"] | {"seed": 2}
    write_sweep(tmp_path / "runs" / ".sweeps" / "now", [AskedRun("digits-tser-seed_2-00000000", (), settings)])
    text = text_of(tmp_path / "runs")
    assert re.search(r"tser .* 2 .* missing .* it never began", text)


def test_a_method_without_a_finished_run_says_so(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1)
    build("tser", 1, status="failed", error="out of memory")
    assert re.search(r"tser +\S +failed", text_of(tmp_path / "runs"))


def test_settings_stand_side_by_side(build: Build, tmp_path: Path) -> None:
    for steps in (2, 4):
        for loss in ("vanilla_kd", "tser"):
            build(loss, 1, steps=steps)
    build("ce", 1)
    lines = text_of(tmp_path / "runs").splitlines()
    head = next(line for line in lines if "T=2" in line)
    assert head.index("T=2") < head.index("T=4")
    assert len(re.findall(r"9\d\.\d\d", next(line for line in lines if " tser " in line))) == 2
    assert len(re.findall(r"9\d\.\d\d", next(line for line in lines if " ce " in line))) == 1


def test_an_interval_ends_where_accuracies_do() -> None:
    cell = Cell(measure("test/acc"), summary=summarise([98.0, 99.0, 100.0]))
    assert cell.summary is not None
    assert cell.summary.interval == pytest.approx((99 - 4.3027 / 3**0.5, 99 + 4.3027 / 3**0.5), abs=1e-3)  # t, 2 d.o.f.
    assert interval(cell) == "[96.52, 100.00]"
