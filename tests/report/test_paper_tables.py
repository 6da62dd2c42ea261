from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.report.cells import Comparisons, compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.paper_tables import NOT_RUN, ablation, accuracies, costs

Build = Callable[..., Path]


def comparisons_of(runs: Path) -> Comparisons:
    return compare_methods(make_grid(collect(runs / "*")))


def test_table_3_shows_what_each_loss_switches_on(runs: Path) -> None:
    table = ablation(comparisons_of(runs))
    assert table is not None
    on = {line[0]: [bool(word) for word in line[1:4]] for line in table.lines}
    assert on == {
        "vanilla_kd": [False, False, False],
        "ts_ce": [True, False, False],
        "ts_kl": [False, True, False],
        "ts": [True, True, False],
        "tser": [True, True, True],
    }
    assert {len(line) for line in table.lines} == {len(table.head)}


def test_table_3_needs_three_of_its_losses(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1)
    build("tser", 1)
    assert ablation(comparisons_of(tmp_path / "runs")) is None


def test_table_4_lists_operations_and_energy_with_the_teacher_last(runs: Path) -> None:
    comparisons = comparisons_of(runs)
    table = costs(comparisons, comparisons.columns[0])
    assert table is not None
    lines = {line[0]: dict(zip(table.head, line, strict=True)) for line in table.lines}
    assert lines["tser"]["OPs in M"] == "20.00"
    assert lines["tser"]["ACs in M"] == "2.40"
    assert lines["tser"]["time per step in s"] == "0.1250"
    assert lines["tser"]["energy in mJ"] == "0.00800"
    assert lines["tser"]["firing rate in %"] == "12.20 \N{PLUS-MINUS SIGN} 0.10"
    assert list(lines)[-1] == "teacher (ANN)"
    assert lines["teacher (ANN)"]["energy in mJ"] == "0.02300"


def test_table_4_names_the_printed_cost_where_there_is_one(build: Build, tmp_path: Path) -> None:
    build("tser", 1, student="resnet18", data="cifar100")
    comparisons = comparisons_of(tmp_path / "runs")
    table = costs(comparisons, comparisons.columns[0])
    assert table is not None
    assert "2230 M OPs, 12.2 M MACs" in " ".join(table.notes)
    assert "2.39 to 2.84 s per batch, tser 2.7 (unit and batch size are not clear)" in " ".join(table.notes)


@pytest.mark.parametrize("name", ["test/energy_mj"])
def test_without_energy_there_is_no_table_4(build: Build, tmp_path: Path, name: str) -> None:
    path = build("tser", 1)
    (path / "result.json").write_text((path / "result.json").read_text().replace(name, "test/other"))
    comparisons = comparisons_of(tmp_path / "runs")
    assert costs(comparisons, comparisons.columns[0]) is None


def test_tables_1_and_2_have_the_published_rows_of_what_was_not_run_here_marked_so(
    build: Build, tmp_path: Path
) -> None:
    build("tser", 1, student="resnet18", teacher="resnet34", data="cifar100", steps=2, selection="paper")
    build("kdsnn", 1, student="resnet18", teacher="resnet19", data="cifar100", steps=2)  # not the published teacher
    comparisons = comparisons_of(tmp_path / "runs")
    table = accuracies(comparisons, comparisons.columns[0])
    assert table is not None
    lines = {line[0]: list(line[1:]) for line in table.lines}
    assert lines["TSER"][0] == "78.30 \N{PLUS-MINUS SIGN} 0.08?"
    assert 90 < float(lines["TSER"][1]) < 100
    assert lines["KDSNN"] == ["77.16", NOT_RUN, ""]
    assert lines["GLIF"] == ["74.60", NOT_RUN, ""]
    assert [line[0] for line in table.lines][:4] == ["TSER", "KDSNN", "LaSNN", "BKDSNN"]
    assert "? tser: Table 3 prints 78.13 for the same cell." in table.notes


def test_where_the_paper_prints_nothing_there_is_no_such_table(runs: Path) -> None:
    comparisons = comparisons_of(runs)
    assert accuracies(comparisons, comparisons.columns[0]) is None
