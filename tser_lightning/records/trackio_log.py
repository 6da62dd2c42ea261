"""One trackio run per run directory, in a local folder: a dashboard without a server (extra `trackio`)."""

import contextlib
import io
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tser_lightning.atomic_io import first_process
from tser_lightning.errors import UsageError
from tser_lightning.records.measures import measured
from tser_lightning.records.outcome import tables_of

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger("tser_lightning")

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")  # trackio's own ways to ask for a server


@contextlib.contextmanager
def trackio_run(
    name: str, folder: Path, config: Mapping[str, Any], *, project: str | None, group: str, again: bool = False
) -> Iterator[Any]:
    """Open the trackio run of a run directory; a run that is resumed goes on in the same one.

    Nothing leaves the machine, unless trackio's own variables TRACKIO_SPACE_ID or TRACKIO_SERVER_URL ask for it.

    Args:
        name: Of the run directory.
        folder: Of all runs; the data lie in FOLDER/trackio, or where TRACKIO_DIR says. trackio reads that once, when
            it is imported, so the first run of a process decides.
        config: The resolved config, nested.
        project: What `trackio show --project` asks for; null: no run.
        group: Runs to compare.
        again: Whether it is done anew, apart from what was logged under its name before.

    Yields:
        The trackio run; None if there is none.
    """
    if project is None or not first_process():
        yield None
        return
    os.environ.setdefault("TRACKIO_DIR", str(trackio_folder(folder)))  # read when trackio is imported
    import trackio

    settings = {"project": project, "name": name, "group": group, "config": dict(config)}
    without = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    try:
        with _quiet():
            run = trackio.init(**settings, **without, resume="never" if again else "allow")
    except ValueError as error:  # a name that it keeps for itself, a server without its token
        raise UsageError(
            what=f"trackio does not take logging.trackio={project}: {error}",
            why="it is asked to log this run",
            fix="logging.trackio=null, or what it says",
        ) from error
    log.info(where(trackio.TRACKIO_DIR, project))
    try:
        yield run
    finally:
        with _quiet():
            trackio.finish()


def where(folder: Path, project: str) -> str:
    """Say where runs are logged and what shows them.

    Args:
        folder: That of trackio's data.
        project: Its project.
    """
    asked = next((f"{name}={os.environ[name]}" for name in ELSEWHERE if os.environ.get(name)), None)
    if asked:
        return f"trackio: logged to {asked}"
    return f"trackio: logged on this machine; `TRACKIO_DIR={shlex.quote(str(folder))} trackio show --project {project}`"


def trackio_folder(runs_dir: Path) -> Path:
    """Give the folder in which trackio keeps the runs of a folder of runs."""
    return Path(os.environ.get("TRACKIO_DIR") or runs_dir / "trackio").resolve()


def lightning_logger(run: Any) -> "Logger":
    """Give the logger through which Lightning writes into a trackio run, each entry at its optimiser step."""
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities import rank_zero_only

    class TrackioLogger(Logger):
        name, version = run.project, run.name

        @rank_zero_only
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            run.log(dict(metrics), step=step)

        def log_hyperparams(self, *params: Any, **named: Any) -> None:
            """The run has the whole config."""

    return TrackioLogger()


def log_outcome(run: Any, result: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Put the measures of a result into a trackio run, and what it says of steps and layers into tables.

    Args:
        run: The trackio run.
        result: The content of result.json.
        layers: `firing_by_layer` of measures.json, if it was measured.
    """
    import trackio

    tables = {
        f"{name}/table": trackio.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        for name, rows in tables_of(result, layers).items()
    }
    run.log({each.name: each.of(result) for each in measured(result)} | tables)


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Keep what trackio prints, also of uploads where there are none, off the screen: the log says it once."""
    return contextlib.redirect_stdout(io.StringIO())
