"""Sweeps: every job is checked before the first one starts, and runs in a fresh process of its own.

So nothing leaks from job to job (DDP, W&B, seeds), a job that is killed takes no other along, and the same command does
what is missing when it is given again, because finished runs are skipped by their name.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.cli.command import parse, words
from tser_lightning.cli.config import PRIMARY, Configs
from tser_lightning.cli.mistakes import Mistakes, refuse
from tser_lightning.cli.run import compose_run
from tser_lightning.cli.show import with_hydra
from tser_lightning.mistake import Mistake

GRACE_SECONDS = 30


@dataclass(frozen=True)
class Job:
    """How one job ended.

    Attributes:
        overrides: Its command.
        code: Its exit code; 128 + N if signal N killed it.
    """

    overrides: tuple[str, ...]
    code: int


def multirun(overrides: Sequence[str], configs: Configs) -> int:
    """Run a sweep.

    Args:
        overrides: With sweeps, e.g. ["loss=ce,tser", "seed=1,2,3"]; `hydra/launcher=...` and `hydra/sweeper=...` too.
        configs: The config files to choose from.

    Returns:
        0 if every job ended well, else 1.

    Raises:
        Mistakes: All that is wrong with any job, before one has started.
    """
    texts = _for_hydra(overrides, configs)
    jobs = jobs_of(overrides, configs)
    _check(jobs, configs)
    print(f"tser: {len(jobs)} jobs, one process each", file=sys.stderr)
    work = partial(run_job, config_dir=configs.config_dir, total=len(jobs))
    with _terminable():
        returned = with_hydra(
            configs, lambda hydra: hydra.multirun(PRIMARY, work, [*texts, "hydra.mode=MULTIRUN"], True)
        )
    return _summary([job for batch in returned or [] for job in map(_ended, batch) if job is not None])


def _for_hydra(overrides: Sequence[str], configs: Configs) -> list[str]:
    """Write overrides so that Hydra takes what we take: a + before something that exists already does no harm."""
    mistakes: list[Mistake] = []
    texts = []
    for text in words(overrides, mistakes):
        try:
            override = parse(text, configs)
        except Mistake as mistake:
            mistakes.append(mistake)
            continue
        bare = text.lstrip("+")
        if bare == text or override.is_hydra_override():
            texts.append(text)
        else:
            texts.append(bare if configs.options(override.key_or_group) else f"++{bare}")
    refuse(mistakes)
    return texts


def jobs_of(overrides: Sequence[str], configs: Configs) -> list[list[str]]:
    """List the overrides of every job; for a sweeper that invents its own values, of the one job that it varies.

    Raises:
        Mistakes: Overrides that do not follow Hydra's grammar.
    """
    texts = _for_hydra(overrides, configs)
    parsed = [parse(text, configs) for text in texts]
    sweeper = _sweeper(texts, parsed, configs)
    own = [override for override in parsed if not override.is_hydra_override()]
    if not sweeper.get("_target_", "").endswith("BasicSweeper"):
        return [[str(override.input_line) for override in own if not override.is_sweep_override()]]
    params = [parse(f"{key}={value}", configs) for key, value in (sweeper.get("params") or {}).items()]
    try:
        return [list(job) for batch in BasicSweeper.split_arguments([*params, *own], None) for job in batch]
    except HydraException as error:
        raise Mistake("this sweep cannot be laid out", str(error), "key=1,2,3 or key='range(1,4)'") from error


def _sweeper(texts: Sequence[str], parsed: Sequence[Override], configs: Configs) -> dict[str, Any]:
    fixed = [text for text, override in zip(texts, parsed, strict=True) if _chooses(override, configs)]
    try:
        return dict(configs.compose(fixed, sweep=True).hydra.sweeper)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError):  # a wrong option: the check of the jobs names it
        return {"_target_": "BasicSweeper"}


def _chooses(override: Override, configs: Configs) -> bool:
    of_group = override.is_hydra_override() or bool(configs.options(override.key_or_group))
    return of_group and not override.is_sweep_override()


def _check(jobs: Sequence[Sequence[str]], configs: Configs) -> None:
    found: list[Mistake] = []
    for job in jobs:
        try:
            compose_run(job, configs=configs)
        except Mistakes as wrong:
            found += wrong.mistakes
    refuse(found)


def run_job(_: DictConfig, config_dir: str | None, total: int) -> Job:
    """Run one job, given to Hydra as its task: the same program in a process of its own."""
    hydra = HydraConfig.get()
    overrides = tuple(map(str, hydra.overrides.task))
    print(f"tser: job {int(hydra.job.num) + 1} of {total}: {' '.join(overrides)}", file=sys.stderr, flush=True)
    flags = ["--config-dir", os.path.abspath(config_dir)] if config_dir else []
    process = subprocess.Popen([sys.executable, "-m", "tser_lightning", *flags, *overrides])
    return Job(overrides, _wait(process))


def _wait(process: "subprocess.Popen[bytes]") -> int:
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal has told the job too: let it keep what it has done
        _end(process, after=GRACE_SECONDS)
        raise
    except BaseException:
        _end(process, after=0)
        raise
    return 128 - code if code < 0 else code


def _end(process: "subprocess.Popen[bytes]", after: float) -> None:
    for stop, patience in ((process.terminate, after), (process.kill, GRACE_SECONDS)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
        stop()
    process.wait()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the running job before it ends the sweep."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(returned: Any) -> Job | None:
    value = getattr(returned, "return_value", None)
    return value if isinstance(value, Job) else None


def _summary(jobs: Sequence[Job]) -> int:
    failed = [job for job in jobs if job.code]
    print(f"tser: {len(jobs) - len(failed)} of {len(jobs)} jobs done", file=sys.stderr)
    for job in failed:
        print(f"  exit code {job.code}: {' '.join(job.overrides)}", file=sys.stderr)
    if failed:
        print("  the same command does what is missing", file=sys.stderr)
    return 1 if failed else 0
