"""One W&B run per run directory, offline unless there is a key."""

import contextlib
import logging
import os
import shlex
import tempfile
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tser_lightning.atomic_io import first_process
from tser_lightning.errors import Pruned, UsageError
from tser_lightning.records.measures import HIGHER, LOWER, MEASURES, NEITHER

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger("tser_lightning")


CONNECT_SECONDS = 30
ANSWER_SECONDS = 5
EXTREME = {HIGHER: "max,last", LOWER: "min,last", NEITHER: None}


LONGEST = 104  # of a name: W&B makes "run-NAME-by_steptable-XXXXXX" of it, and allows 128 characters
MODES = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}


def import_wandb() -> None:
    """Import W&B and what it imports at its start, before torch and Lightning are imported.

    Its models look for their own source among all modules that there are, which takes seconds beside thousands.
    """
    import wandb.sdk.launch.inputs.internal  # noqa: F401


def _refusals() -> tuple[type[Exception], ...]:
    from wandb import errors

    return errors.CommError, errors.AuthenticationError, errors.UsageError


def goes_online(mode: str) -> bool:
    """Tell whether a mode means the server: online does, auto if there is a key that W&B takes."""
    if mode != "auto":
        return mode == "online"
    import wandb  # slow, and a run without it needs none of it: so in every function here

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except _refusals() as error:
        log.warning("the W&B key is no key (%s): this run is logged offline", _first_line(error))
        return False


def from_environment(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Apply W&B's environment variables where a command sets nothing: WANDB_MODE, _PROJECT, _ENTITY and so on.

    Args:
        settings: `logging.wandb` of a config.
        given: Names among them that the command gives.

    Raises:
        UsageError: WANDB_MODE is no mode of W&B's.
    """
    mode = os.environ.get("WANDB_MODE", "")
    if mode and mode not in MODES and "mode" not in given:
        raise UsageError(
            what=f"WANDB_MODE={mode} is not one of {', '.join(MODES)}",
            why="this variable of the shell says how runs are logged where the command does not",
            fix="unset WANDB_MODE, or logging.wandb.mode=disabled in the command",
        )
    found = {
        "mode": MODES.get(mode),
        "project": os.environ.get("WANDB_PROJECT"),
        "entity": os.environ.get("WANDB_ENTITY"),
        "group": os.environ.get("WANDB_RUN_GROUP"),
    }
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        found["mode"] = "disabled"
    return {**settings, **{key: value for key, value in found.items() if value and key not in given}}


def short_name(name: str) -> str:
    """Give a name that W&B has room for: a long one keeps its beginning and the hash at its end."""
    tail = f"-{name.rpartition('-')[2][-16:]}"
    return name if len(name) <= LONGEST else name[: LONGEST - len(tail)].rstrip("-._") + tail


def offline_folder(runs_dir: Path) -> Path:
    """Give the folder in which the offline runs of a folder of runs lie."""
    return Path(os.environ.get("WANDB_DIR") or runs_dir) / "wandb"


@contextlib.contextmanager
def warned_of(what: str) -> Iterator[None]:
    """Log a failure of W&B and continue: the records of a run are its directory, not W&B's copy."""
    try:
        yield
    except Exception as error:
        log.warning("%s: %s: %s; the run directory has it", what, type(error).__name__, _first_line(error))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]


def _unreachable() -> str:
    """Give the reason why the server cannot be reached; empty if it answers. W&B itself would try for a minute."""
    import wandb

    try:
        urllib.request.urlopen(wandb.setup().settings.base_url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # an answer
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    return ""


def _started(mode: str, settings: Mapping[str, Any]) -> Any:
    """Start the run; without a key or a network in mode auto, offline."""
    import wandb

    quiet: dict[str, Any] = {"silent": True, "console": "off", "x_disable_stats": True}
    if goes_online(mode):
        reason = _unreachable()
        try:
            if not reason:
                patience = wandb.Settings(**quiet, init_timeout=CONNECT_SECONDS)
                return wandb.init(**settings, mode="online", settings=patience)
        except _refusals() as error:
            reason = _first_line(error)
            wandb.teardown()  # its service holds the run's id otherwise
        if mode == "online":
            raise UsageError(
                what=f"W&B cannot be reached: {reason}",
                why="logging.wandb.mode=online asks for it",
                fix="logging.wandb.mode=offline, and `wandb sync` later",
            )
        log.warning("W&B cannot be reached (%s): this run is logged offline", reason)
    return wandb.init(**settings, mode="offline", settings=wandb.Settings(**quiet))


def _begun(mode: str, settings: Mapping[str, Any]) -> Any:
    """Start the run and say what its curves are drawn over; None if W&B fails, which no training has to wait for."""
    import wandb

    # Tables and artifacts of offline runs wait here to be sent: W&B's own choice is a folder in the user's home.
    os.environ.setdefault("WANDB_DATA_DIR", str(settings["dir"].resolve() / "wandb" / "data"))
    try:
        run = _started(mode, settings)
        run.define_metric("epoch")
        for metric in ("train/*", "val/*"):
            run.define_metric(metric, step_metric="epoch")
        for each in MEASURES:
            if each.name.startswith("val/") and not each.is_family and not each.derived:
                run.define_metric(each.name, step_metric="epoch", summary=EXTREME[each.better])
        return run
    except UsageError:
        raise
    except Exception as error:  # its own errors and those of the system have no common base
        log.warning("W&B could not be started, and this run goes on without it: %s", _first_line(error))
        with contextlib.suppress(Exception):
            wandb.teardown()
        return None


def _place(wanted: Path, own: Path) -> Path | None:
    """Find a folder for W&B's files: the one that is wanted, or that of the run itself; None if neither can be used."""
    for place in (wanted, own):
        if place == own and not own.is_dir():
            break
        try:
            (place / "wandb").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place / "wandb"):
                return place
        except OSError as error:
            log.warning("W&B can write nothing to %s: %s", place / "wandb", error.strerror or error)
    log.warning("this run goes on without W&B")
    return None


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
) -> Iterator[Any]:
    """Open the W&B run of a run directory; resuming a run goes on in the same one.

    Args:
        name: Of the run directory; it is the id too, so that offline runs are told apart by reading.
        folder: Shared by all runs (`wandb sync FOLDER/wandb/offline-run-*`); WANDB_DIR goes before it.
        config: The resolved config, nested; its dotted names (`loss.lam`) are the axes of an ablation.
        mode: auto (online with a key, else offline), online, offline, disabled.
        project: W&B project.
        entity: W&B entity; None for the key's own.
        group: W&B's group: runs that are to be compared.
        job_type: The task, W&B's job type.
        tags: W&B's tags, to filter runs by.

    Yields:
        The W&B run, None if disabled. It is told how the block ended: exit code 0, 1, 130 or 143.

    Raises:
        UsageError: Mode online, and W&B cannot be reached.
    """
    if mode == "disabled" or not first_process():
        yield None
        return
    place = _place(offline_folder(folder).parent, folder / name)
    run = None
    if place is not None:
        own = {} if "WANDB_SWEEP_ID" in os.environ else {"id": short_name(name)}  # W&B's agent gives its runs their ids
        settings = {
            **own,
            "name": short_name(name),
            "resume": "allow",
            "dir": place,
            "config": dict(config),
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
        }
        run = _begun(mode, settings)
    if run is None:
        yield None
        return
    try:
        yield run
    except BaseException as error:
        with warned_of("W&B could not be closed"):
            if isinstance(error, Pruned):
                run.summary["pruned"] = str(error)
            run.finish(exit_code=_exit_code(error))
        raise
    with warned_of("W&B could not be closed"):
        run.finish(exit_code=0)
    if run.offline and job_type != "report":
        written = shlex.quote(str(Path(run.dir).parent))
        log.info("W&B: logged offline in %s; `wandb sync %s` sends it", written, written)


def log_again(run: Any, rows: Iterable[Mapping[str, str]]) -> None:
    """Log the epochs of metrics.csv into the offline run of a training that was killed and goes on.

    W&B writes what is logged offline in blocks of 32 KiB, so that of the last epochs before a SIGKILL nothing may be on
    the disk. Those that are there twice have the same numbers at the same epoch.

    Args:
        run: The W&B run.
        rows: Of metrics.csv.
    """
    for row in rows if run.offline else ():
        numbers = {name: float(value) for name, value in row.items() if "/" in name and value}
        run.log({**numbers, "epoch": int(row["epoch"]), "trainer/global_step": int(row["step"]) - 1})


def lightning_logger(run: Any) -> "WandbLogger":
    """Give the logger through which Lightning writes into a W&B run; what W&B cannot take ends no training."""
    from lightning.pytorch.loggers import WandbLogger  # slow to import, and a report needs none

    class Forgiving(WandbLogger):
        failed = False

        def log_metrics(self, *metrics: Any, **named: Any) -> None:
            if self.failed:
                return
            self.failed = True
            with warned_of("W&B takes no more of this training"):
                super().log_metrics(*metrics, **named)
                self.failed = False

    return Forgiving(experiment=run)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 0 if isinstance(error, Pruned) else 1
