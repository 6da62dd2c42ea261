import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tser_lightning.sweep.live import LiveTable


@dataclass(frozen=True)
class Job:
    overrides: tuple[str, ...]
    home: Path | None = None
    code: int | None = None


def drawn(table: LiveTable, running: list[tuple[Job, float]], done: list[Job]) -> str:
    console = Console(width=80, record=True)
    console.print(table._group(running, done))
    return console.export_text()


def test_jobs_stand_with_what_differs_their_state_and_the_time_that_is_left() -> None:
    jobs = [Job(("experiment=digits", f"loss={loss}", f"seed={seed}")) for loss in ("ce", "tser") for seed in (1, 2)]
    table = LiveTable(jobs, slots=1)
    table.ended(60.0)
    text = drawn(table, [(jobs[1], 20.0)], [Job(jobs[0].overrides, code=0)])
    rows = [[word.strip() for word in line.split("│")[1:3]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["ce seed=1", "finished"],
        ["ce seed=2", "running"],
        ["tser seed=1", "waiting"],
        ["tser seed=2", "waiting"],
    ]
    assert "1 of 4 done, 1 running" in text
    assert "about 0:02:40 left" in text  # 40 s of the running one, 60 s for each that waits


def test_a_job_that_failed_says_so() -> None:
    jobs = [Job(("loss=ce",)), Job(("loss=tser",))]
    text = drawn(LiveTable(jobs, slots=1), [], [Job(("loss=tser",), code=1)])
    assert "failed (1)" in text
    assert "0 of 2 done, 1 failed" in text


def test_the_time_that_is_left_is_what_the_longest_running_job_says(
    tmp_path: Path, worked_on: Callable[[Path], AbstractContextManager[None]]
) -> None:
    (tmp_path / "config.yaml").write_text("trainer:\n  epochs: 100\n")
    (tmp_path / "run.json").write_text('{"settings": {}}')
    (tmp_path / "metrics.csv").write_text("epoch,val/acc,seconds\n" + "".join(f"{e},50,2\n" for e in range(40)))
    jobs = [Job(("loss=ce",)), Job(("loss=tser",), home=tmp_path)]
    table = LiveTable(jobs, slots=2)
    with worked_on(tmp_path):
        text = drawn(table, [(jobs[1], 80.0)], [Job(("loss=ce",), code=1)])
    found = re.search(r"about 0:0(\d):(\d\d) left", text)
    assert found is not None
    assert 110 <= 60 * int(found[1]) + int(found[2]) <= 120  # 60 epochs of 2 s, less what has passed of the next


def test_many_jobs_leave_out_those_that_wait() -> None:
    jobs = [Job((f"seed={seed}",)) for seed in range(200)]
    table = LiveTable(jobs, slots=2)
    text = drawn(table, [(jobs[150], 1.0)], [])
    assert "seed=150" in text
    assert text.count("waiting") < 200
