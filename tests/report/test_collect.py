import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.sweep_record import AskedRun, write_sweep
from tser_lightning.report.collect import RunRecord, Unchanged, collect, read_run
from tser_lightning.report.status import progress_of

WorkedOn = Callable[[Path], AbstractContextManager[None]]

Build = Callable[..., Path]


def by_loss_and_seed(records: list[RunRecord]) -> dict[tuple[str, int | None], RunRecord]:
    return {(record.settings["loss"], record.seed): record for record in records}


def test_finished_failed_and_killed_runs_all_become_records(runs: Path) -> None:
    records = collect(str(runs / "digits-*"))
    assert len(records) == 15
    found = by_loss_and_seed(records)
    assert found["tser", 1].finished
    assert found["tser", 1].timesteps == 4
    failed, killed = found["ts_ce", 3], found["ts_kl", 2]
    assert (failed.status, failed.finished) == ("failed", False)
    assert "its term kl is the cause" in failed.reason
    assert (killed.status, killed.reason) == ("killed", "killed at epoch 4 of 30")


def test_what_the_run_directory_writes_is_what_is_read(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "digits-loss_ce-0123abcd")
    with home.opened({"loss": {"tau": 4.0}, "seed": 7}, {"settings": {"loss": "ce", "seed": 7}}):
        home.record({"epoch": 0, "val/acc": 12.5})
        home.record({"epoch": 1})
        during = read_run(home.path)
        home.finish({"loss": "ce", "seed": 7, "test/acc": 90.0, "test/acc_t1": 80, "test/acc_t2": 90.0})
    record = read_run(home.path)
    assert during.seed == 7
    assert (record.status, record.seed, record.timesteps) == ("finished", 7, 2)
    assert record.numbered("test/acc_t") == {1: 80.0, 2: 90.0}
    assert record.config["loss.tau"] == 4.0
    assert record.metrics["epoch"] == [0.0, 1.0]
    assert record.metrics["val/acc"][0] == 12.5
    assert math.isnan(record.metrics["val/acc"][1])


def test_damaged_files_are_said_and_stop_nothing(build: Build, tmp_path: Path) -> None:
    cut, wrong, poor, quiet = (build("tser", seed) for seed in (1, 2, 3, 4))
    (cut / "result.json").write_text('{"loss": "tser", "test/acc": 9')
    (wrong / "run.json").write_text("[]")
    (poor / "result.json").write_text('{"loss": "tser", "seed": 3}')
    for file in quiet.iterdir():
        file.unlink()
    reasons = [(record.status, record.reason) for record in collect(tmp_path / "runs" / "*")]
    assert [status for status, _ in reasons] == ["damaged", "damaged", "damaged", "killed"]
    assert "result.json is not JSON" in reasons[0][1]
    assert "run.json holds no mapping" in reasons[1][1]
    assert "result.json has no test/acc" in reasons[2][1]
    assert reasons[3][1] == "killed at epoch 1 of ?"


def test_a_run_whose_lock_is_held_is_running_and_one_that_was_stopped_says_where(build: Build, tmp_path: Path) -> None:
    held, stopped = build("tser", 1, status="running"), build("tser", 2, status="interrupted")
    take = f"import fcntl, time; f = open({str(held / '.lock')!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
    script = f"{take}; print(flush=True)"
    holder = subprocess.Popen([sys.executable, "-c", f"{script}; time.sleep(60)"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    during = read_run(held)
    holder.kill()
    holder.wait()
    assert (during.status, during.reason) == ("running", "running at epoch 4 of 30")
    assert (read_run(held).status, read_run(held).reason) == ("killed", "killed at epoch 4 of 30")
    assert read_run(stopped).reason == "interrupted at epoch 4 of 30"


def test_a_run_that_a_sweep_asked_for_is_missed_and_no_other(build: Build, tmp_path: Path) -> None:
    for seed in (1, 2):
        build("tser", seed)
    there = build("ce", 1)
    asked = AskedRun("digits-loss_ce-seed_2-0badcafe", ("loss=ce", "seed=2"), {"loss": "ce", "seed": 2}, "2.log")
    write_sweep(tmp_path / "runs" / ".sweeps" / "2026-11-02_10-00-00", [AskedRun(there.name), asked])
    write_sweep(tmp_path / "runs" / ".sweeps" / "2026-11-01_10-00-00", [asked, AskedRun("fashion-loss_ce-00000000")])
    missing = [record for record in collect(tmp_path / "runs" / "digits-*") if not record.finished]
    assert [(record.name, record.status, record.seed) for record in missing] == [(asked.run, "missing", 2)]
    assert missing[0].reason == "the sweep of 2026-11-02_10-00-00 asked for it, and it never began"


def test_a_run_that_a_sweep_has_still_to_begin_waits(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    folder = tmp_path / "runs" / ".sweeps" / "now"
    write_sweep(folder, [AskedRun("digits-loss_ce-0badcafe", (), {"loss": "ce", "seed": 2})])
    code = "import sys, pathlib; from tser_lightning.records.sweep_record import begun\n"
    code += "with begun(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sweep:
        assert sweep.stdout is not None
        sweep.stdout.readline()
        (waiting,) = (record for record in collect(tmp_path / "runs" / "digits-*") if not record.finished)
        sweep.kill()
    (missing,) = (record for record in collect(tmp_path / "runs" / "digits-*") if not record.finished)
    assert (waiting.status, missing.status) == ("waiting", "missing")
    assert waiting.reason == "the sweep of now asked for it, and it has not begun yet"


def test_what_has_not_changed_is_not_read_again(build: Build, tmp_path: Path, opened: list[str]) -> None:
    homes = [build(loss, seed) for loss in ("tser", "ce") for seed in (1, 2, 3)]
    unchanged = Unchanged()

    def looked_at() -> list[float | None]:
        opened.clear()
        return [progress_of(record).accuracy for record in collect(tmp_path / "runs" / "*", unchanged.read)]

    first = looked_at()
    assert sorted(opened) == sorted(["run.json", "result.json", "metrics.csv", "config.yaml"] * 6)
    assert looked_at() == first
    assert opened == []
    result = json.loads((homes[0] / "result.json").read_text()) | {"test/acc": 12.5}
    (homes[0] / "result.json").write_text(json.dumps(result))
    assert set(looked_at()) - set(first) == {12.5}
    assert len(opened) == 4


def test_a_run_whose_process_is_gone_is_dead_at_the_next_look(build: Build, worked_on: WorkedOn) -> None:
    home, unchanged = build("tser", 1, status="running"), Unchanged()
    with worked_on(home):
        assert unchanged.read(home).status == "running"
    assert unchanged.read(home).status == "killed"


def test_teachers_wandb_and_files_are_no_runs_and_nothing_comes_twice(runs: Path, build: Build) -> None:
    shutil.copytree(build("ce", 1), runs / "teachers" / "resnet-digits-0a1b2c3d")
    (runs / "wandb" / "offline-run-1").mkdir(parents=True)
    (runs / ".sweeps" / "2026").mkdir(parents=True)
    (runs / "notes.txt").touch()
    (runs / "other").mkdir()
    patterns = [runs / "*", runs / "teachers" / "*", runs / "wandb" / "*", runs / ".sweeps" / "*", runs / "digits-*"]
    assert len(collect(patterns)) == 16
    assert collect(runs / "nothing-*") == []


def test_folders_with_brackets_and_quotes_in_their_names_stand_for_themselves(tmp_path: Path) -> None:
    for folder in ("runs [1]", 'it\'s "a" *'):
        path = tmp_path / folder / "digits-00000001"
        path.mkdir(parents=True)
        (path / "result.json").write_text('{"loss": "tser", "test/acc": 90.0}')
        assert [record.path for record in collect(tmp_path / folder / "*")] == [path]
        assert [record.path for record in collect(path)] == [path]


@pytest.mark.parametrize("accuracy", ["NaN", "Infinity", "-Infinity"])
def test_an_accuracy_that_is_no_number_is_a_status_of_its_own(tmp_path: Path, accuracy: str) -> None:
    (tmp_path / "result.json").write_text(f'{{"loss": "tser", "test/acc": {accuracy}}}')
    record = read_run(tmp_path)
    assert (record.status, record.finished) == ("not finite", False)
    assert "its test accuracy is" in record.reason
