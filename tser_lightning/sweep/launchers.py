"""Hydra's launchers (joblib, submitit, ray), which start the jobs of a sweep elsewhere."""

import contextlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from tser_lightning.config.hydra_internal import Callbacks, Hydra
from tser_lightning.config.hydra_loader import PRIMARY
from tser_lightning.config.run import Run
from tser_lightning.errors import UsageError
from tser_lightning.sweep.jobs import Jobs, say

LOOK_SECONDS = 0.5
MOST_IDS = 8  # that a line lists
SUBMITTED = "_submitted.pkl"  # submitit leaves JOB_submitted.pkl for each job that was taken


def check_launcher(launcher: Mapping[str, Any]) -> None:
    """Refuse the launcher of Slurm where Slurm's commands are missing.

    Args:
        launcher: Hydra's settings of it.

    Raises:
        UsageError: It is Slurm's, and Slurm is not here.
    """
    if not str(launcher.get("_target_", "")).endswith(".SlurmLauncher"):
        return
    lacking = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
    if lacking:
        raise UsageError(
            what=f"hydra/launcher=submitit_slurm finds no Slurm here: no `{'`, no `'.join(lacking)}`",
            why="it gives the jobs to Slurm by these commands, which a login node has",
            fix="the same command there, or hydra/launcher=submitit_local to try it on this machine",
        )


def launched(hydra: Hydra, jobs: Jobs, texts: list[str], missing: Sequence[Run]) -> Sequence[Any]:
    """Submit the jobs to a launcher of Hydra's, such as joblib or submitit, and wait for them."""
    config = hydra.compose_config(PRIMARY, texts, RunMode.MULTIRUN, with_log_configuration=True)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(context, jobs, config)
    with _said(config.hydra.launcher.get("submitit_folder"), len(missing)):
        return launcher.launch([run.overrides for run in missing], initial_job_idx=0)


@contextlib.contextmanager
def _said(folder: str | None, count: int) -> Iterator[None]:
    """Print where submitit's logs lie and, once all jobs are submitted, their ids.

    Args:
        folder: Its setting, with %j for the id of a job; None for another launcher.
        count: How many jobs there are.
    """
    if folder is None:
        yield
        return
    root = Path(folder.partition("%")[0])
    before = set(_ids(root))
    ended = threading.Event()

    def tell() -> None:
        # The launcher waits for the jobs and says nothing, so their ids are read off the files that it leaves.
        while len(found := [each for each in _ids(root) if each not in before]) < count:
            if ended.wait(LOOK_SECONDS):
                break
        say(f"submitit: job{'s' if count != 1 else ''} {_listed(found)}, logs in {root}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _ids(root: Path) -> list[str]:
    found = {path.name.removesuffix(SUBMITTED) for path in root.rglob(f"*{SUBMITTED}")}
    return sorted(found, key=lambda each: (len(each), each))


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids) if len(ids) <= MOST_IDS else f"{ids[0]} to {ids[-1]}"
