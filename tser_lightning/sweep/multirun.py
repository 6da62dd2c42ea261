"""Sweeps: every job is checked before the first one starts, and runs in a fresh process of its own.

So nothing leaks from job to job (DDP, W&B, seeds), a job that is killed takes no other along, and the same command does
what is missing when it is given again: finished runs are known by their names, before any process is started.
"""

import contextlib
import glob
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tser_lightning.config.hydra_loader import PRIMARY, Configs, with_hydra
from tser_lightning.config.run import Run, compose_run
from tser_lightning.config.usage_errors import UsageErrors, refuse
from tser_lightning.errors import UsageError
from tser_lightning.records.decisions import stop_of
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.sweep_record import AskedRun, begun, write_sweep
from tser_lightning.records.trackio_log import trackio_folder, where
from tser_lightning.records.weights_and_biases import offline_folder, short_name
from tser_lightning.registry.trust import untrusted_targets
from tser_lightning.report.results import show_results
from tser_lightning.sweep.combinations import for_hydra, hydra_settings, is_basic, jobs_of
from tser_lightning.sweep.jobs import Job, Jobs, say
from tser_lightning.sweep.launchers import check_launcher, launched
from tser_lightning.tasks.evaluate import hashes_of_data, is_still_true


def multirun(overrides: Sequence[str], configs: Configs) -> int:
    """Run a sweep.

    Args:
        overrides: With sweeps, e.g. ["loss=ce,tser", "seed=1,2,3"]; `hydra/launcher=...` and `hydra/sweeper=...` too.
        configs: The config files to choose from.

    Returns:
        0 if every job ended well, else 1.

    Raises:
        UsageErrors: All that is wrong with any job, before one has started.
    """
    texts = for_hydra(overrides, configs)
    laid_out = jobs_of(overrides, configs)
    runs = _checked(laid_out, configs)
    settings = hydra_settings(texts, configs)
    check_launcher(settings["launcher"])
    _check_callbacks(settings, runs[0].config["trusted_modules"])
    jobs = _jobs(runs, configs)
    texts = [f"hydra.sweep.dir='{jobs.folder}'", *texts, "hydra.mode=MULTIRUN"]
    if not is_basic(settings["sweeper"]):
        refuse([_without_others(run) for run in runs if run.config["prune"].get("_target_")])
        say("the sweeper chooses the jobs, one process each")
        return _summary(_by_hydra(configs, lambda hydra: hydra.multirun(PRIMARY, jobs, texts, True)))
    missing = _missing(runs)
    write_sweep(jobs.folder, _asked(runs, missing))
    _say_where_trackio_is(runs[0].config)
    if not missing:
        show_results(jobs.folder)
        return 0
    with begun(jobs.folder):
        if is_basic(settings["launcher"]):
            ended = _by_ourselves(jobs, missing)
        else:
            say(f"the launcher runs the jobs; how far they are: task=status runs={jobs.folder}")
            ended = _by_hydra(configs, lambda hydra: [launched(hydra, jobs, texts, missing)])
    return _summary(ended, jobs.folder)


def _checked(laid_out: Sequence[Sequence[str]], configs: Configs) -> list[Run]:
    mistakes: list[UsageError] = []
    runs = []
    for overrides in laid_out:
        try:
            runs.append(compose_run(overrides, configs=configs))
        except UsageErrors as wrong:
            mistakes += wrong.mistakes
    refuse(mistakes)
    return runs


def _check_callbacks(settings: Mapping[str, Any], more: list[str]) -> None:
    """Refuse callbacks of Hydra's that a config file names: they would run code around the jobs."""
    callbacks = settings.get("callbacks")
    if isinstance(callbacks, DictConfig):
        asked = {"callbacks": OmegaConf.to_container(callbacks), "trusted_modules": more}
        refuse(untrusted_targets(asked, {"trusted_modules": more}))


def _home(run: Run) -> Path | None:
    return run.home if run.config["task"] == "distill" else None


def _finished(run: Run, hashes: Callable[[str], dict[str, str]]) -> bool:
    home = _home(run)
    if home is None or run.config["force"]:
        return False
    try:
        if RunDirectory(home).result() is None:
            return False
        true = is_still_true(RunDirectory(home), run, hashes)
    except (UsageError, OSError):
        return False  # its own process says so
    return true and (run.config["measure"] != "full" or (home / "measures.json").exists())


def _pruned(run: Run) -> bool:
    """Tell whether the same rule has ended a run before; so the same command gives the same again."""
    home, rule = _home(run), run.config["prune"]
    return home is not None and not run.config["force"] and stop_of(home, rule) is not None


def _without_others(run: Run) -> UsageError:
    return UsageError(
        what=f"prune={run.choices['prune']} compares the jobs of a sweep, and this sweeper chooses them as it goes",
        why="what a job is compared with has to be known before it begins",
        fix="prune=none, or the values of the sweep in the command, e.g. loss.lam=0.001,0.01,0.1",
    )


def _missing(runs: Sequence[Run]) -> list[Run]:
    """Leave out what is finished or pruned, and what is another job's run under other words."""
    once = {_home(run) or index: run for index, run in reversed(list(enumerate(runs)))}
    hashes = cache(hashes_of_data)
    left = [run for run in reversed(once.values()) if not _finished(run, hashes)]
    missing = [run for run in left if not _pruned(run)]
    more = len(runs) - len(once)
    same = f", {more} more {'is the same run' if more == 1 else 'are the same runs'} in other words" if more else ""
    pruned = f", {len(left) - len(missing)} pruned before (prune=none goes on)" if len(missing) < len(left) else ""
    done = len(once) - len(left)
    jobs = f"{len(once)} job{'s' if len(once) != 1 else ''}{same}"
    say(f"{jobs}, {done} finished before{pruned}, {len(missing)} to do, one process each")
    return missing


def _asked(runs: Sequence[Run], missing: Sequence[Run]) -> list[AskedRun]:
    """Write sweep.json: the runs of all jobs, with the logs of those that are to be done."""
    logs = {_home(run): f"{number}.log" for number, run in enumerate(missing, 1)}
    homes = {home: run for run in runs if (home := _home(run)) is not None}
    return [AskedRun(home.name, run.overrides, _settings(run), logs.get(home, "")) for home, run in homes.items()]


def _settings(run: Run) -> dict[str, Any]:
    """Give the settings of a run for sweep.json, T among them: a run that never began has no measures to tell T by."""
    return {**run.settings, "student.timesteps": run.config["student"]["timesteps"]}


def _jobs(runs: Sequence[Run], configs: Configs) -> Jobs:
    machine = runs[0].config["machine"]
    return Jobs(
        folder=Path(machine["runs_dir"], ".sweeps", time.strftime("%Y-%m-%d_%H-%M-%S")),
        machine=machine,
        homes={tuple(run.overrides): home for run in runs if (home := _home(run)) is not None},
        flags=("--config-dir", os.path.abspath(configs.config_dir)) if configs.config_dir else (),
    )


def _by_ourselves(jobs: Jobs, missing: Sequence[Run]) -> list[Job]:
    with _terminable():
        return jobs.run(
            [Job(number, len(missing), tuple(run.overrides), _home(run)) for number, run in enumerate(missing, 1)]
        )


def _by_hydra(configs: Configs, work: Any) -> list[Job]:
    with _terminable():
        batches = with_hydra(configs, work) or []
    ended = [getattr(returned, "return_value", None) for batch in batches for returned in batch]
    return [job for job in ended if isinstance(job, Job)]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Raise SystemExit at SIGTERM, so that running jobs end before the sweep does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summary(jobs: Sequence[Job], folder: Path | None = None) -> int:
    failed = [job for job in jobs if job.code]
    lines = [f"exit code {job.code}: {job}" for job in failed]
    say(
        f"{len(jobs) - len(failed)} of {len(jobs)} jobs done",
        *lines,
        *["the same command does what is missing"][: len(failed)],
    )
    if folder is not None and (folder / "sweep.json").exists():
        show_results(folder)
    _say_where_wandb_is(jobs)
    return 1 if failed else 0


def _say_where_trackio_is(config: Mapping[str, Any]) -> None:
    project = config["logging"]["trackio"]
    if project is not None:
        say(where(trackio_folder(Path(config["machine"]["runs_dir"])), project))


def _say_where_wandb_is(jobs: Sequence[Job]) -> None:
    """Print once where W&B's offline runs lie and what uploads them, which each job has in its log."""
    offline = dict.fromkeys(
        found.parent
        for job in jobs
        if job.home is not None
        for found in offline_folder(job.home.parent).glob(f"offline-run-*-{glob.escape(short_name(job.home.name))}")
    )
    for place in offline:
        say(f"W&B: logged offline in {place}; `wandb sync {shlex.quote(str(place))}/offline-run-*` sends it")
