import json
from collections.abc import Callable
from pathlib import Path

import yaml

from tser_lightning.report.collect import collect
from tser_lightning.report.grid import Grid, make_grid

Build = Callable[..., Path]


def grid_of(folder: Path) -> Grid:
    return make_grid(collect(folder / "runs" / "*"))


def test_where_a_student_starts_from_is_of_its_method(build: Build, tmp_path: Path) -> None:
    build("ce", 1)
    build("ce", 1, neuron="qcfs", **{"student.weights": "teacher"})
    build("tser", 1)
    grid = make_grid(collect(tmp_path / "runs" / "*"))
    assert len(grid.columns) == 1
    assert [str(row) for row in grid.rows] == ["ce neuron=lif", "ce neuron=qcfs", "tser neuron=lif"]


def test_losses_are_rows_in_their_usual_order_and_the_setting_is_the_column(runs: Path, tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    assert [str(row) for row in grid.rows] == ["vanilla_kd", "ts_ce", "ts_kl", "ts", "tser"]
    assert [str(column) for column in grid.columns] == ["digits resnet_small T=4"]
    assert {str(row): len(records) for (row, _), records in grid.cells.items()} == dict.fromkeys(map(str, grid.rows), 3)


def test_time_steps_and_data_make_columns(build: Build, tmp_path: Path) -> None:
    for steps in (4, 2, 10):
        build("tser", 1, steps=steps)
    build("tser", 1, data="fashion_mnist", experiment="fashion_mnist", **{"trainer.epochs": 20})
    names = [str(column) for column in grid_of(tmp_path).columns]
    small = [f"digits resnet_small T={steps}" for steps in (2, 4, 10)]
    assert names == [*small, "fashion_mnist resnet_small T=4"]
    assert [str(row) for row in grid_of(tmp_path).rows] == ["tser"]  # the epochs go with the data


def test_a_default_that_no_result_names_is_read_from_the_config(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1)
    build("tser", 1)
    for lam in (0.1, 0.001):
        build("tser", 1, **{"loss.lam": lam})
    assert [str(row) for row in grid_of(tmp_path).rows] == [
        "vanilla_kd",
        "tser lam=0.001",
        "tser lam=0.01",
        "tser lam=0.1",
    ]
    assert [row.get("loss.lam") for row in grid_of(tmp_path).rows] == [None, 0.001, 0.01, 0.1]


def test_a_teacher_that_only_some_losses_need_splits_nothing(build: Build, tmp_path: Path) -> None:
    build("ce", 1, teacher="none")
    build("tser", 1)
    assert [str(row) for row in grid_of(tmp_path).rows] == ["ce", "tser"]
    assert len(grid_of(tmp_path).columns) == 1


def test_the_neuron_is_named_where_it_differs(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    build("tser", 1, neuron="plif")
    assert [str(row) for row in grid_of(tmp_path).rows] == ["tser neuron=lif", "tser neuron=plif"]


def test_an_unfair_difference_is_said(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1, **{"optim.lr": 0.1})
    build("tser", 1, **{"optim.lr": 0.05})
    said = "not the same for all methods: optim.lr is 0.05 for tser; 0.1 for vanilla_kd"
    assert grid_of(tmp_path).notes == [said]


def test_other_epochs_and_debug_runs_stand_apart(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1, **{"trainer.epochs": 10})
    build("tser", 1)
    build("tser", 2, debug="step")
    assert [str(column) for column in grid_of(tmp_path).columns] == [
        "digits resnet_small T=4 trainer.epochs=10",
        "digits resnet_small T=4 trainer.epochs=30",
        "digits resnet_small T=4 trainer.epochs=30 debug=step",
    ]


def test_runs_that_differ_in_what_no_result_names_are_told_apart(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    other = build("tser", 1)
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(config | {"norm": {"_target_": "tser_lightning.models.TEBN"}}))
    assert [str(row) for row in grid_of(tmp_path).rows] == ["tser", "tser norm=TEBN"]


def test_the_same_run_in_two_folders_counts_once(build: Build, tmp_path: Path) -> None:
    path = build("tser", 1)
    copy = tmp_path / "more" / path.name
    copy.mkdir(parents=True)
    (copy / "run.json").write_text(json.dumps({"status": "running", "settings": {"loss": "tser", "seed": 1}}))
    grid = make_grid(collect([tmp_path / "runs" / "*", tmp_path / "more" / "*"]))
    assert [[record.status for record in records] for records in grid.cells.values()] == [["finished"]]


def test_a_run_that_does_not_say_what_it_was_is_kept_aside(build: Build, tmp_path: Path) -> None:
    path = build("tser", 1, status="running")
    (path / "run.json").write_text("{")
    assert [record.status for record in grid_of(tmp_path).unplaced] == ["damaged"]


def test_protocols_never_share_a_column(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    build("tser", 1, data="cifar10", selection="paper")
    names = [str(column) for column in grid_of(tmp_path).columns]
    assert names == ["cifar10 resnet_small T=4 selection=paper", "digits resnet_small T=4 selection=val"]
