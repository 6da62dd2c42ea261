"""What W&B and trackio are told of a run, and W&B of a report, from their configs."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tser_lightning.config.run import Run
from tser_lightning.records import trackio_log, weights_and_biases
from tser_lightning.records.outcome import log_checkpoints, log_figures, log_files, log_outcome
from tser_lightning.records.trackio_log import trackio_run
from tser_lightning.records.weights_and_biases import from_environment, goes_online, wandb_run, warned_of
from tser_lightning.report.figures import accuracy_per_step

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

NAMED = ("loss", "student", "teacher", "neuron", "norm", "data", "optim", "schedule")
TAGGED = ("loss", "student", "data")


@dataclass(frozen=True)
class Logbook:
    """Where a run is logged beside its directory.

    Attributes:
        wandb: Its W&B run; None if it has none.
        trackio: Its trackio run; None if it has none.
    """

    wandb: Any
    trackio: Any

    def log_again(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Log the epochs before a training was killed, as metrics.csv has them, where some may have been lost."""
        if self.wandb is not None:
            with warned_of("W&B did not take the epochs before"):
                weights_and_biases.log_again(self.wandb, rows)

    def loggers(self) -> "list[Logger]":
        """Give what Lightning logs the training through."""
        both = ((self.wandb, weights_and_biases), (self.trackio, trackio_log))
        return [module.lightning_logger(opened) for opened, module in both if opened is not None]


@contextlib.contextmanager
def opened_logbook(run: Run, home: Path) -> Iterator[Logbook]:
    """Open the W&B run of a run directory, and that of trackio if it is asked for."""
    with opened_log(run, home) as wandb, _opened_trackio(run, home) as trackio:
        yield Logbook(wandb, trackio)


def _opened_trackio(run: Run, home: Path) -> AbstractContextManager[Any]:
    project, again = run.config["logging"]["trackio"], run.config["force"]
    return trackio_run(home.name, home.parent, _named(run), project=project, group=_group(run), again=again)


def opened_log(run: Run, home: Path) -> AbstractContextManager[Any]:
    """Open the W&B run of a run directory: grouped by sweep and experiment, `loss.name` and the like in its config."""
    config, choices = run.config, run.choices
    settings = {key: value for key, value in wandb_settings(run).items() if key != "checkpoints"}
    settings["group"] = settings["group"] or _group(run)
    settings["tags"] = [*settings["tags"], *(f"{key}={choices[key]}" for key in TAGGED)]
    return wandb_run(home.name, home.parent, _named(run), job_type=config["task"], **settings)


def _named(run: Run) -> dict[str, Any]:
    """Give the config with the names of its parts in it: `loss.name` and the like."""
    parts = {key: {"name": run.choices[key], **(run.config[key] or {})} for key in NAMED}
    return {**run.config, **parts, "experiment": run.choices["experiment"]}


def wandb_settings(run: Run) -> dict[str, Any]:
    """The settings of `logging.wandb`: those of the command, else of W&B's own variables, else of the config."""
    inside = "logging.wandb."
    given = {key.removeprefix(inside) for key in run.given if key.startswith(inside)}
    return from_environment(run.config["logging"]["wandb"], given)


def _group(run: Run) -> str:
    sweep, experiment = run.choices["sweep"], run.choices["experiment"]
    return experiment if sweep == "none" else f"{sweep}-{experiment}"


def log_run(logbook: Logbook, run: Run, home: Path, result: dict[str, Any]) -> None:
    """Log what came out of a run: numbers, steps, layers and, in W&B, figures and checkpoints if asked for."""
    measures = home / "measures.json"
    layers = json.loads(measures.read_text())["firing_by_layer"] if measures.exists() else None
    if logbook.trackio is not None:
        trackio_log.log_outcome(logbook.trackio, result, layers)
    if logbook.wandb is not None:
        with warned_of("W&B did not take all of the result"):
            _log_in_wandb(logbook.wandb, run, home, result, layers)


def _log_in_wandb(log: Any, run: Run, home: Path, result: dict[str, Any], layers: dict[str, Any] | None) -> None:
    log_outcome(log, result, layers)
    if "test/acc_step2" in result:
        accuracy_per_step([result], home / "figures" / "steps.png")
        log_figures(log, [home / "figures" / "steps.png"])
    if run.config["logging"]["wandb"]["checkpoints"]:
        log_checkpoints(log, home)


def dashboard_of(run: Run) -> Any:
    """Define the dashboard that a task=report asks for; None if it asks for none."""
    place = run.config["wandb"]["workspace"]
    if place is None:
        return None
    from tser_lightning.records.dashboard import workspace

    return workspace(place)


def publish_report(run: Run, files: Sequence[Path], dashboard: Any = None) -> str | None:
    """Keep a report as an artifact where W&B is asked for, and make the dashboard.

    A mode of auto asks for W&B if there is a key.

    Args:
        run: Of task=report.
        files: Of the report, report.html first.
        dashboard: Of `dashboard_of`.

    Returns:
        Where the dashboard is.
    """
    settings = wandb_settings(run)
    online = goes_online(settings["mode"])
    if online or settings["mode"] == "offline":
        folder = files[0].parent
        name = "report-" + (re.sub(r"[^A-Za-z0-9._-]+", "_", folder.resolve().name).strip("._-") or "runs")[:80]
        choices = {key: settings[key] for key in ("mode", "project", "entity", "group", "tags")}
        home = Path(run.config["machine"]["runs_dir"])
        about = {"runs": run.config["runs"], "report": run.config["report"]}
        with wandb_run(name, home, about, job_type="report", **choices) as log:
            if log is not None:
                with warned_of("W&B did not take all of the report"):
                    log_files(log, name, "report", [file for file in files if file.parent == folder])
                    log_figures(log, [file for file in files if file.suffix == ".png"])
    if dashboard is None:
        return None
    from tser_lightning.records.dashboard import save_dashboard

    return save_dashboard(dashboard, files[0].with_name("workspace.json"), online)
