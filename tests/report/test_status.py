import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tser_lightning.records.sweep_record import AskedRun, write_sweep
from tser_lightning.report.collect import RunRecord, collect, read_run
from tser_lightning.report.results import show_results
from tser_lightning.report.status import counted, duration, progress_of, status_table, what_differs

Build = Callable[..., Path]


def test_the_time_left_is_that_of_the_last_epochs_for_those_that_remain(build: Build) -> None:
    path = build("tser", 1, status="running")
    (path / "metrics.csv").write_text("epoch,val/acc,seconds\n" + "".join(f"{e},{50 + e},{10}\n" for e in range(12)))
    os.utime(path / "metrics.csv", (1000, 1000))
    record = read_run(path)
    running = RunRecord(path, "running", settings=record.settings, info=record.info)
    found = progress_of(running, now=1004)
    assert (found.epoch, found.epochs, found.accuracy) == (12, 30, 61.0)
    assert found.left == pytest.approx(18 * 10 - 4)
    assert progress_of(record, now=1004).left is None  # nobody holds its lock
    assert duration(found.left) == "0:02:56"


def test_runs_are_told_apart_by_what_differs_alone() -> None:
    settings = [{"loss": "tser", "loss.lam": lam, "seed": 1, "data": "digits"} for lam in (0.1, 0.2)]
    assert what_differs(settings) == ["lam=0.1", "lam=0.2"]
    assert what_differs(settings[:1]) == ["tser seed=1"]
    without = {"loss": "ce", "seed": 1, "data": "digits"}
    assert what_differs([without, settings[0]]) == ["ce", "tser"]  # that ce has no lambda is no difference
    assert what_differs([without, *settings]) == ["ce", "tser lam=0.1", "tser lam=0.2"]


def test_the_table_has_a_row_per_run_and_the_sentence_of_one_that_failed(runs: Path) -> None:
    found = [progress_of(record) for record in collect(runs / "*")]
    console = Console(width=80, record=True)
    console.print(status_table(found))
    text = " ".join(console.export_text().split())
    assert "its term kl is the cause" in text
    assert "3 of 30" in text
    assert counted(found) == "15 runs: 1 failed, 13 finished, 1 killed"


def test_a_sweep_ends_with_its_own_results_and_the_command_for_the_report(build: Build, tmp_path: Path) -> None:
    paths = [build(loss, seed) for loss in ("vanilla_kd", "tser") for seed in (1, 2)]
    build("ce", 1)  # of another sweep
    folder = tmp_path / "runs" / ".sweeps" / "2026-11-02_10-00-00"
    write_sweep(folder, [AskedRun(path.name) for path in paths])
    console = Console(width=80, record=True)
    show_results(folder, console)
    text = console.export_text()
    assert re.search(r"vanilla_kd +2( +\d+\.\d\d \+- \d\.\d\d){4} *$", text, re.M)  # whole, on 80 columns
    assert "mean of single" in text
    assert " ce " not in text
    assert f"task=report runs={folder}" in text


def test_a_long_setting_is_whole_in_the_results_of_a_sweep(build: Build, tmp_path: Path) -> None:
    for through_time in (True, False):
        for seed in (1, 2):
            build("tser", seed, **{"trainer.through_time": through_time})
    console = Console(width=80, record=True)
    show_results(tmp_path / "runs" / "*", console)
    text = "".join(line.split()[0] for line in console.export_text().splitlines() if line.strip())
    assert "trainer.through_time=false" in text
    assert "trainer.through_time=true" in text
