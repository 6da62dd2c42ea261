import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.config.run import compose_run
from tser_lightning.errors import UsageError
from tser_lightning.tasks.run_task import run_task

WorkedOn = Callable[[Path], AbstractContextManager[None]]

CHECKPOINTS = {"last.ckpt", "last.previous.ckpt", "best.ckpt"}


def a_run(path: Path, *, finished: bool) -> Path:
    """A run directory with three checkpoints of ours of 1.5 MB each, and one that a callback wrote."""
    (path / "checkpoints").mkdir(parents=True)
    for name in (*CHECKPOINTS, "mine.ckpt"):
        (path / "checkpoints" / name).write_bytes(bytes(1_500_000))
    (path / "run.json").write_text(json.dumps({"status": "finished" if finished else "interrupted"}))
    (path / "student.safetensors").write_bytes(b"weights")
    if finished:
        (path / "result.json").write_text(json.dumps({"loss": "tser", "seed": 1, "test/acc": 90.0}))
    return path


def clean(*overrides: str) -> dict[str, Any]:
    return run_task(compose_run(["task=clean", "machine.runs_dir=records", "runs=records/*", *overrides]))


def kept(path: Path) -> set[str]:
    return {file.name for file in (path / "checkpoints").iterdir()}


def test_what_would_go_is_listed_and_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = a_run(folder / "records" / "digits-00000001", finished=True)
    assert clean() == {"runs": 1, "mb": 4.5}
    assert kept(home) == {*CHECKPOINTS, "mine.ckpt"}
    assert "last.ckpt" in capsys.readouterr().out


@pytest.mark.parametrize(("keep", "left"), [("weights", set()), ("last", {"last.ckpt"}), ("all", CHECKPOINTS)])
def test_only_the_checkpoints_of_finished_runs_are_deleted(folder: Path, keep: str, left: set[str]) -> None:
    done, begun = (a_run(folder / "records" / f"digits-0000000{n}", finished=n == 1) for n in (1, 2))
    without_weights = a_run(folder / "records" / "digits-00000003", finished=True)
    (without_weights / "student.safetensors").unlink()
    clean("clean.delete=true", f"clean.keep={keep}")
    assert kept(done) == {*left, "mine.ckpt"}
    assert kept(begun) == kept(without_weights) == {*CHECKPOINTS, "mine.ckpt"}
    assert {file.name for file in done.iterdir()} >= {"result.json", "run.json", "student.safetensors"}


def test_a_run_that_a_process_works_on_keeps_all(folder: Path, worked_on: WorkedOn) -> None:
    home = a_run(folder / "records" / "digits-00000001", finished=True)
    with worked_on(home):
        assert clean("clean.delete=true") == {"runs": 0, "mb": 0.0}
    assert kept(home) == {*CHECKPOINTS, "mine.ckpt"}


def test_nothing_outside_of_the_folder_of_runs_is_touched(folder: Path) -> None:
    elsewhere = a_run(folder / "other" / "digits-00000001", finished=True)
    (folder / "records").mkdir()
    (folder / "records" / "digits-00000001").symlink_to(elsewhere)
    for runs in ("other/*", "records/*"):
        with pytest.raises(UsageError, match="does not lie in"):
            clean("clean.delete=true", f"runs={runs}")
    (folder / "records" / "digits-00000001").unlink()
    home = a_run(folder / "records" / "digits-00000002", finished=True)
    for file in (home / "checkpoints").iterdir():
        file.unlink()
    (home / "checkpoints").rmdir()
    (home / "checkpoints").symlink_to(elsewhere / "checkpoints")
    assert clean("clean.delete=true") == {"runs": 0, "mb": 0.0}
    assert kept(elsewhere) == {*CHECKPOINTS, "mine.ckpt"}
