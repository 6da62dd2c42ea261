"""One W&B run per run directory, offline unless there is a key."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger("tser_lightning")


def _mode(asked: str) -> Any:
    if asked != "auto":
        return asked
    return "online" if os.environ.get("WANDB_API_KEY") or wandb.api.api_key else "offline"


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
    """
    mode = _mode(mode)
    if mode == "disabled":
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        id=name,
        name=name,
        dir=folder,
        config=dict(config),
        mode=mode,  # type: ignore[arg-type]
        project=project,
        entity=entity,
        group=group,
        job_type=job_type,
        tags=list(tags),
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
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
