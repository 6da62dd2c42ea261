"""The jobs of a sweep as processes: as many at once as there are slots, each ending alone."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tser_lightning.atomic_io import first_process, telling
from tser_lightning.errors import BUSY
from tser_lightning.operating_system import WINDOWS
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.sweep_record import SWEEP_VARIABLE
from tser_lightning.report.collect import read_run
from tser_lightning.sweep.live import LiveTable
from tser_lightning.sweep.slots import Slot, give_back, slots_of, take

GRACE_SECONDS = 30
POLL_SECONDS = 0.1
TAIL = 3  # lines: what is wrong, why, what to type


@dataclass(frozen=True)
class Job:
    """One combination of a sweep.

    Attributes:
        number: From 1.
        total: How many the sweep has; None where the sweeper invents them as it goes.
        overrides: Its command.
        home: Its run directory, where the task has one.
        code: How it ended: its exit code, 128 + N if signal N killed it; None before.
    """

    number: int
    total: int | None
    overrides: tuple[str, ...]
    home: Path | None = None
    code: int | None = None

    def __str__(self) -> str:
        return " ".join(self.overrides)

    @property
    def place(self) -> str:
        """E.g. "3 of 15"."""
        return f"{self.number}" if self.total is None else f"{self.number} of {self.total}"

    def ended(self, code: int) -> "Job":
        """Give the same job with how it ended."""
        return replace(self, code=128 - code if code < 0 else code)


@dataclass
class Running:
    """A job that has a process."""

    job: Job
    process: "subprocess.Popen[bytes]"
    slot: Slot
    held: list[int]
    log: Path
    since: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """For how long it runs."""
        return time.monotonic() - self.since


@dataclass(frozen=True)
class Jobs:
    """Runs jobs as processes; a launcher of Hydra's calls it with one job, on whatever machine it starts it.

    Attributes:
        folder: For the output of the jobs.
        machine: The config group.
        homes: The run directories by the commands that are known beforehand.
        flags: Of every command.
    """

    folder: Path
    machine: Mapping[str, Any]
    homes: Mapping[tuple[str, ...], Path]
    flags: tuple[str, ...] = ()

    def __call__(self, _: DictConfig) -> Job:
        """Run the job that Hydra hands over."""
        given = HydraConfig.get()
        overrides = tuple(map(str, given.overrides.task))
        return self.run([Job(int(given.job.num) + 1, None, overrides, self.homes.get(overrides))])[0]

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Run jobs, as many at once as this machine has slots; one that fails takes no other along.

        Raises:
            KeyboardInterrupt: Ctrl-C, of which the terminal tells the jobs too: they have time to save.
            SystemExit: SIGTERM, handed on to the jobs.
        """
        free = slots_of(self.machine)
        table = LiveTable(jobs, len(free))
        with table.shown():
            return self._run(jobs, free, table)

    def _run(self, jobs: Sequence[Job], free: list[Slot], table: LiveTable) -> list[Job]:
        waiting, running, done = list(jobs), list[Running](), list[Job]()
        told = False
        try:
            while waiting or running:
                for ended in [each for each in running if each.process.poll() is not None]:
                    running.remove(ended)
                    free.append(ended.slot)
                    if ended.process.returncode == BUSY:  # another process has begun it in the meantime
                        _let_go(ended)
                        waiting.append(ended.job)
                    else:
                        done.append(self._close(ended))
                        if not done[-1].code:
                            table.ended(ended.seconds)
                started = self._next(waiting, free)
                if started is not None:
                    running.append(started)
                    continue
                if waiting and not running and not told:
                    told = True
                    say(f"waiting: another process works on {waiting[0]}, or has the GPU")
                table.update([(each.job, each.seconds) for each in running], done)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            _end(running, patience=GRACE_SECONDS)
            raise
        except BaseException:
            _end(running, patience=0)
            raise
        return done

    def _next(self, waiting: list[Job], free: list[Slot]) -> Running | None:
        """Start the next job whose slot and run directory no other process holds."""
        for slot in free if waiting else []:
            held = take(slot.locks if first_process() else [])
            if held is None:
                continue
            for job in waiting:
                claimed = self._claimed(job)
                if claimed is not None:
                    waiting.remove(job)
                    free.remove(slot)
                    return self._start(job, slot, [*held, *claimed])
            give_back(held)
        return None

    def _claimed(self, job: Job) -> list[int] | None:
        """Lock a run against other sweeps; None if another process works on it."""
        if job.home is None or not first_process():
            return []
        return None if RunDirectory(job.home).busy() else take([job.home.parent / ".sweeps" / "claims" / job.home.name])

    def _start(self, job: Job, slot: Slot, held: list[int]) -> Running:
        # A task of Slurm's beside the first trains along: what the first one holds is its own too.
        log = self.folder / f"{job.number}.log" if first_process() else Path(os.devnull)
        with telling(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        say(f"{job.place} started: {job}")
        command = [sys.executable, "-m", "tser_lightning.cli.job", *self.flags, *job.overrides]
        with telling(log):
            output = log.open("wb")
        with output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    SWEEP_VARIABLE: os.path.abspath(self.folder),
                    **slot.environment,
                },
                pass_fds=() if WINDOWS else held,  # there the sweep itself holds them
            )
        return Running(job, process, slot, held, log)

    def _close(self, ended: Running) -> Job:
        _let_go(ended)
        job = ended.job.ended(ended.process.returncode)
        minutes, seconds = divmod(round(ended.seconds), 60)
        if job.code:
            say(f"{job.place} FAILED with exit code {job.code}: {job}", *_tail(ended.log), f"all it said: {ended.log}")
        else:
            say(f"{job.place} done in {minutes}:{seconds:02}: {job}{_outcome(job.home)}")
            if job.home is None:  # what it says is what it was asked for
                print(ended.log.read_text(errors="replace"), end="", flush=True)
        return job


def say(first: str, *more: str) -> None:
    """Tell the user of the sweep, at once."""
    print(f"tser: {first}", *(f"  {line}" for line in more), sep="\n", file=sys.stderr, flush=True)


def _let_go(ended: Running) -> None:
    assert ended.process.stdin is not None
    ended.process.stdin.close()
    give_back(ended.held)


def _tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-TAIL:]


def _outcome(home: Path | None) -> str:
    if home is None or not home.is_dir():
        return ""
    found = read_run(home)
    return f", test/acc {found.numbers['test/acc']:.2f} %" if found.finished else f", {found.reason}"


def _end(running: Sequence[Running], patience: float) -> None:
    processes = [each.process for each in running]
    for stop, seconds in (
        (lambda process: process.terminate(), patience),
        (lambda process: process.kill(), GRACE_SECONDS),
    ):
        limit = time.monotonic() + seconds
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
        for process in processes:
            if process.poll() is None:
                stop(process)
    for process in processes:
        process.wait()
