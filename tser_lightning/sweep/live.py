"""The live table of a running sweep on a terminal; in a pipe the lines of its jobs stand alone."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tser_lightning.report.collect import Unchanged
from tser_lightning.report.status import STYLES, Progress, duration, progress_of, what_differs

REFRESH_SECONDS = 1.0
LEAST_ROWS = 4


class Shown(Protocol):
    """What the table needs of a job."""

    @property
    def overrides(self) -> Sequence[str]:
        """Its overrides."""

    @property
    def home(self) -> Path | None:
        """Its run directory."""

    @property
    def code(self) -> int | None:
        """Its exit code; None before it ended."""


class LiveTable:
    """The table of a sweep, on standard error.

    Args:
        jobs: All of them, in their order.
        slots: How many run at once.
    """

    def __init__(self, jobs: Sequence[Shown], slots: int) -> None:
        self._jobs, self._slots = list(jobs), slots
        self._began = time.monotonic()
        self._drawn = -REFRESH_SECONDS
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._spent: list[float] = []
        self._unchanged = Unchanged()
        self._words = what_differs([dict(text.partition("=")[::2] for text in job.overrides) for job in self._jobs])

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while the block runs, on a terminal; what is printed meanwhile stands above it."""
        if not sys.stderr.isatty():
            yield
            return
        with self._live:
            yield

    def ended(self, seconds: float) -> None:
        """Note the seconds of a job that ended well, from which the time left is estimated."""
        self._spent.append(seconds)

    def update(self, running: Iterable[tuple[Shown, float]], done: Iterable[Shown]) -> None:
        """Redraw the table, at most once a second.

        Args:
            running: The jobs that have a process, and for how many seconds.
            done: Jobs that have ended.
        """
        now = time.monotonic()
        if not self._live.is_started or now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        self._live.update(self._group(list(running), list(done)), refresh=True)

    def _group(self, running: Sequence[tuple[Shown, float]], done: Sequence[Shown]) -> Group:
        by_command = {tuple(job.overrides): job for job in done}
        since = {tuple(job.overrides): seconds for job, seconds in running}
        rows = [self._row(job, words, by_command, since) for job, words in zip(self._jobs, self._words, strict=True)]
        table = Table("job", "state", "epoch", "acc %", "left", expand=False)
        for row in self._most_telling(rows):
            table.add_row(*row)
        return Group(table, Text(self._line(running, done)))

    def _most_telling(self, rows: Sequence[tuple[Text, ...]]) -> Sequence[tuple[Text, ...]]:
        """Choose the rows for which the terminal has room: waiting jobs are dropped first, then finished ones."""
        room = max(LEAST_ROWS, self._live.console.size.height - 6)
        ranks = {"running": 0, "waiting": 2, "finished": 1}
        order = sorted(range(len(rows)), key=lambda place: ranks.get(rows[place][1].plain, 0))
        kept = sorted(order[:room])
        return [rows[place] for place in kept]

    def _row(
        self, job: Shown, words: str, done: dict[tuple[str, ...], Shown], since: dict[tuple[str, ...], float]
    ) -> tuple[Text, ...]:
        key = tuple(job.overrides)
        progress = self._progress(job)
        ended = done.get(key)
        state = "running" if key in since else "waiting"
        if ended is not None:
            state = f"failed ({ended.code})" if ended.code else _ended(progress)
        epoch = f"{progress.epoch}/{progress.epochs or '?'}" if progress and progress.epoch else ""
        accuracy = "" if progress is None or progress.accuracy is None else f"{progress.accuracy:.2f}"
        name = Text(words or " ".join(job.overrides))
        if ended is not None and progress is not None and (ended.code or state == "pruned"):
            name.append(f"\n{progress.record.reason}", style=STYLES.get(state, "red"))
        left = duration(progress.left) if progress and key in since else ""
        return name, Text(state, style=STYLES.get(state, "red")), Text(epoch), Text(accuracy), Text(left)

    def _progress(self, job: Shown) -> Progress | None:
        if job.home is None or not job.home.is_dir():
            return None
        return progress_of(self._unchanged.read(job.home))

    def _line(self, running: Sequence[tuple[Shown, float]], done: Sequence[Shown]) -> str:
        failed = sum(bool(job.code) for job in done)
        said = f"{len(done) - failed} of {len(self._jobs)} done" + (f", {failed} failed" if failed else "")
        left = self._left(running, len(done))
        passed = duration(time.monotonic() - self._began)
        more = f", about {duration(left)} left" if left is not None else ""
        return f"{said}, {len(running)} running; {passed} passed{more}"

    def _left(self, running: Sequence[tuple[Shown, float]], done: int) -> float | None:
        """Estimate the seconds until the sweep ends, from its running jobs' own estimates and earlier jobs' times."""
        said = [(seconds, progress.left if (progress := self._progress(job)) else None) for job, seconds in running]
        whole = [*self._spent, *(seconds + left for seconds, left in said if left is not None)]
        if not whole:
            return None
        mean = sum(whole) / len(whole)
        waiting = len(self._jobs) - done - len(running)
        rest = [max(0.0, mean - seconds) if left is None else left for seconds, left in said]
        shared = (sum(rest) + waiting * mean) / max(1, min(self._slots, len(running) + waiting))
        return max(shared, *rest, 0.0)


def _ended(progress: Progress | None) -> str:
    """Name the status of a job that ended without an error."""
    return "pruned" if progress is not None and progress.record.status == "pruned" else "finished"
