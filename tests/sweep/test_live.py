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
    assert "1 of 2 done, 1 failed" in text


def test_many_jobs_leave_out_those_that_wait() -> None:
    jobs = [Job((f"seed={seed}",)) for seed in range(200)]
    table = LiveTable(jobs, slots=2)
    text = drawn(table, [(jobs[150], 1.0)], [])
    assert "seed=150" in text
    assert text.count("waiting") < 200
