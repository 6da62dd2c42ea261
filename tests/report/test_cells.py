import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from tser_lightning.errors import UsageError
from tser_lightning.report.cells import Cell, Comparisons, compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.statistics import summarise
from tser_lightning.report.table import interval, spread, unfinished

Build = Callable[..., Path]


def comparisons_of(folder: Path, baseline: str | None = None) -> Comparisons:
    return compare_methods(make_grid(collect(folder / "runs" / "*")), baseline)


def cells_by_row(comparisons: Comparisons) -> dict[str, Cell]:
    return {str(row): cell for (row, _), cell in comparisons.cells.items()}


def test_every_cell_holds_its_seeds_and_only_the_best_is_best(runs: Path, tmp_path: Path) -> None:
    cells = cells_by_row(comparisons_of(tmp_path))
    assert {name: list(cell.values) for name, cell in cells.items()} == {
        "vanilla_kd": [1, 2, 3],
        "ts_ce": [1, 2],
        "ts_kl": [1, 3],
        "ts": [1, 2, 3],
        "tser": [1, 2, 3],
    }
    assert [name for name, cell in cells.items() if cell.best] == ["tser"]
    assert [record.status for record in cells["ts_ce"].failed] == ["failed"]


def test_p_values_are_paired_with_the_baseline_by_seed(runs: Path, tmp_path: Path) -> None:
    cells = cells_by_row(comparisons_of(tmp_path))
    assert cells["vanilla_kd"].comparison is None
    ours, base = cells["ts_kl"].values, cells["vanilla_kd"].values
    found = cells["ts_kl"].comparison
    assert found is not None
    assert found.p == pytest.approx(float(stats.ttest_rel([ours[1], ours[3]], [base[1], base[3]]).pvalue))
    assert "against vanilla_kd" in " ".join(comparisons_of(tmp_path).notes)


def test_another_baseline_can_be_named_and_a_wrong_one_is_refused(runs: Path, tmp_path: Path) -> None:
    cells = cells_by_row(comparisons_of(tmp_path, "ts"))
    assert cells["ts"].comparison is None
    assert cells["vanilla_kd"].comparison is not None
    with pytest.raises(UsageError, match="no method is called 'tsr'"):
        comparisons_of(tmp_path, "tsr")


def test_runs_are_compared_by_any_measure_with_its_own_direction(runs: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(runs.glob("*/result.json"))):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"test/ece": 0.3 * index**1.5 + (20 if result["loss"] == "ts" else 0)}))
    comparisons = compare_methods(make_grid(collect(runs / "*")), name="test/ece")
    cells = cells_by_row(comparisons)
    whole = {name: sum(cell.values.values()) / 3 for name, cell in cells.items() if len(cell.values) == 3}
    lowest = min(whole, key=lambda name: whole[name])
    assert [name for name, cell in cells.items() if cell.best] == [lowest]
    ours, base = cells["ts"].values, cells["vanilla_kd"].values
    found = cells["ts"].comparison
    assert found is not None
    assert found.p == pytest.approx(float(stats.ttest_rel(list(ours.values()), list(base.values())).pvalue))
    assert "the lowest mean" in " ".join(comparisons.notes)
    assert interval(replace(cells["ts"], summary=summarise([0.5, 9.0, 1.0]))).startswith("[0.00, ")  # no error below 0


def test_a_measure_that_no_run_has_is_refused_with_the_one_that_was_meant(runs: Path) -> None:
    with pytest.raises(UsageError, match="was measured in none of the runs") as refused:
        compare_methods(make_grid(collect(runs / "*")), name="test/eec")
    assert "report.measure=test/ece" in str(refused.value.args) + refused.value.fix


def test_with_several_neurons_each_method_meets_the_baseline_of_its_own(build: Build, tmp_path: Path) -> None:
    for neuron in ("lif", "plif"):
        for loss in ("vanilla_kd", "tser"):
            build(loss, 1, neuron=neuron)
    found = {str(row): str(base) for row, base in comparisons_of(tmp_path).baseline.items()}
    assert found["tser neuron=plif"] == "vanilla_kd neuron=plif"
    assert found["tser neuron=lif"] == "vanilla_kd neuron=lif"


def test_the_published_number_stands_beside_ours(build: Build, tmp_path: Path) -> None:
    same = {"steps": 2, "student": "resnet18", "data": "cifar100", "teacher": "resnet34", "selection": "paper"}
    for neuron in ("lif", "glif"):
        build("tser", 60, neuron=neuron, **same)
    cells = cells_by_row(comparisons_of(tmp_path))
    printed = cells["tser neuron=lif"].published
    assert printed is not None
    assert (printed.mean, printed.std) == (78.30, 0.08)
    assert "78.13" in printed.doubt
    assert cells["tser neuron=glif"].published is None  # the paper's students have plain LIF neurons


def test_the_protocol_is_named(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    notes = " ".join(comparisons_of(tmp_path).notes)
    assert "best validation accuracy" in notes
    assert "one run says nothing about the spread" in notes
    assert "BEST TEST EPOCH" not in notes
    build("tser", 1, selection="paper")
    both = comparisons_of(tmp_path)
    assert [column.get("selection") for column in both.columns] == ["paper", "val"]
    assert "BEST TEST EPOCH" in " ".join(both.notes)


@pytest.mark.parametrize("first", ["vanilla_kd", "tser"])
def test_a_run_with_a_nan_is_named_and_the_others_are_compared_without_it(
    build: Build, tmp_path: Path, first: str
) -> None:
    for loss in ("vanilla_kd", "ts", "tser"):
        for seed in (1, 2, 3):
            build(loss, seed, quality=float("nan") if (loss, seed) == (first, 1) else None)
    for seed in (1, 2, 3):
        build("ce", seed, quality=float("nan"))
    comparisons = comparisons_of(tmp_path)
    cells = cells_by_row(comparisons)
    assert list(cells[first].values) == [2, 3]
    assert [record.seed for record in cells[first].failed] == [1]
    assert {record.status for record in cells["ce"].failed} == {"not finite"}
    assert spread(cells["ce"]) == "not finite"
    assert [name for name, cell in cells.items() if cell.best] == ["ts" if first == "tser" else "tser"]
    assert cells["tser"].comparison is not None
    assert cells["tser"].comparison.n == 2


def test_one_lucky_seed_is_not_best_beside_three(build: Build, tmp_path: Path) -> None:
    for loss in ("vanilla_kd", "ts"):
        for seed in (1, 2, 3):
            build(loss, seed)
    build("tser", 1, quality=99.0)
    comparisons = comparisons_of(tmp_path)
    assert [name for name, cell in cells_by_row(comparisons).items() if cell.best] == ["ts"]
    assert "among the methods with the most seeds" in " ".join(comparisons.notes)


@pytest.mark.parametrize(
    ("changed", "here"),
    [
        ({}, ()),
        ({"teacher": "vgg16"}, None),
        ({"norm": "tebn"}, None),
        ({"neuron": "plif"}, None),
        ({"student.attention": "pfa"}, None),
        ({"selection": "val"}, ("selection=val",)),
        ({"trainer.epochs": 5, "optim": "adamw"}, ("optim=adamw", "trainer.epochs=5")),
        ({"loss.tau": 2.0}, ("tau=2.0",)),
    ],
)
def test_a_published_number_needs_what_was_published_and_names_the_rest(
    build: Build, tmp_path: Path, changed: dict[str, object], here: tuple[str, ...] | None
) -> None:
    same = {"student": "resnet18", "data": "cifar100", "teacher": "resnet34", "selection": "paper"}
    build("tser", 60, steps=2, **{**same, **changed})
    (cell,) = comparisons_of(tmp_path).cells.values()
    assert (cell.published.here if cell.published else None) == here


def test_published_numbers_of_neurons_and_attention_stand_beside_runs_without_a_teacher(
    build: Build, tmp_path: Path
) -> None:
    same = {"student": "resnet19", "data": "cifar100", "selection": "paper"}
    for changed in ({"neuron": "glif"}, {"neuron": "mpbn"}, {"student.attention": "pfa"}):
        build("ce", 60, steps=2, **same, **changed)
    found = {cell.published.mean for cell in comparisons_of(tmp_path).cells.values() if cell.published}
    assert found == {75.48, 79.51, 76.70}


def test_the_form_of_a_network_that_a_method_was_published_with_is_what_was_published(
    build: Build, tmp_path: Path
) -> None:
    same = {"student": "resnet19", "data": "cifar100", "selection": "paper", "student.variant": "glif"}
    build("ce", 60, steps=2, **same, neuron="glif")
    build("ce", 60, steps=2, **same, neuron="mpbn")
    found = [cell.published.mean for cell in comparisons_of(tmp_path).cells.values() if cell.published]
    assert found == [75.48]


def test_a_setting_without_a_finished_run_is_no_column(build: Build, tmp_path: Path) -> None:
    for steps in (2, 4):
        build("tser", 1, steps=steps, status="finished" if steps == 4 else "failed", error="out of memory")
    build("ce", 1, steps=2, status="failed", error="out of memory")
    compared = compare_methods(make_grid(collect(tmp_path / "runs" / "*")))
    assert [str(column) for column in compared.columns] == ["digits resnet_small T=4"]
    assert [str(row) for row in compared.rows] == ["tser"]
    assert [(method, setting) for method, setting, *_ in unfinished(compared)] == [
        ("ce", "digits resnet_small T=2"),
        ("tser", "digits resnet_small T=2"),
    ]
