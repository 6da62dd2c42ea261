"""One W&B run per run directory, offline unless there is a key."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

from tser_lightning.mistake import Mistake

log = logging.getLogger("tser_lightning")


CONNECT_SECONDS = 30


def _started(mode: str, settings: Mapping[str, Any]) -> Any:
    """Start the run; without a key or a network in mode auto, offline."""
    quiet: dict[str, Any] = {"silent": True, "console": "off", "x_disable_stats": True}
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        asked = False
    else:
        asked = mode == "online"
    if mode == "online":
        try:
            patience = wandb.Settings(**quiet, init_timeout=CONNECT_SECONDS)
            return wandb.init(**settings, mode="online", resume="allow", settings=patience)
        except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            reason = str(error).splitlines()[0]
            if asked:
                raise Mistake(
                    what=f"W&B cannot be reached: {reason}",
                    why="logging.wandb.mode=online asks for it",
                    fix="logging.wandb.mode=offline, and `wandb sync` later",
                ) from error
            log.warning("W&B cannot be reached (%s): this run is logged offline", reason)
    return wandb.init(**settings, mode="offline", settings=wandb.Settings(**quiet))


@contextlib.contextmanager
def wandb_run(
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    *,
    mode: str = "auto",
    project: str = "tser-lightning",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "distill",
    tags: Sequence[str] = (),
) -> Iterator[WandbLogger | None]:
    """Open the W&B run of a run directory; resuming a run goes on in the same one.

    Args:
        name: Of the run directory; it is the id too, so that offline runs are told apart by reading.
        folder: Shared by all runs (`wandb sync FOLDER/wandb/offline-run-*`).
        config: The resolved config; its keys are the axes of an ablation.
        mode: auto (online with a key, else offline), online, offline, disabled.
        project: W&B project.
        entity: W&B entity; None for the key's own.
        group: Runs to compare.
        job_type: distill or teach.
        tags: What to filter by.

    Yields:
        The Lightning logger, None if disabled. The run is told how the block ended: exit code 0, 1, 130 or 143.

    Raises:
        Mistake: Mode online, and W&B cannot be reached.
    """
    if mode == "disabled":
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    run = _started(
        mode,
        {
            "id": name,
            "name": name,
            "dir": folder,
            "config": dict(config),
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
        },
    )
    run.define_metric("epoch")
    for split in ("train", "val"):
        run.define_metric(f"{split}/*", step_metric="epoch")
    try:
        yield WandbLogger(experiment=run)
    except BaseException as error:
        run.finish(exit_code=_exit_code(error))
        raise
    run.finish(exit_code=0)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1
