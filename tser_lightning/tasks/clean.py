"""`task=clean`: delete checkpoints that finished runs do not need any more."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tser_lightning.config.run import Run
from tser_lightning.errors import Busy, UsageError
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.report.collect import collect

log = logging.getLogger("tser_lightning")


def clean(run: Run) -> dict[str, Any]:
    """List the checkpoints that finished runs do not need any more; with `clean.delete=true`, delete them.

    Runs that are not finished keep theirs, and so does everything outside of `machine.runs_dir`.

    Raises:
        UsageError: No run matches, or one lies elsewhere.
    """
    keep, delete = run.config["clean"]["keep"], run.config["clean"]["delete"]
    records = collect(run.config["runs"])
    if not records:
        raise UsageError(
            f"runs={run.config['runs']} matches no run directory", "nothing has been started there", "runs='runs/*'"
        )
    _check_places([record.path for record in records], Path(run.config["machine"]["runs_dir"]))
    homes = [RunDirectory(record.path) for record in records if record.finished]
    spare = {home: files for home in homes if (files := home.spare(keep))}
    sizes = {home: sum(file.stat().st_size for file in files) / 1e6 for home, files in spare.items()}
    if spare:
        Console().print(_table(spare, sizes))
    done = [home for home in spare if _deleted(home, keep)] if delete else list(spare)
    total, whose = sum(sizes[home] for home in done), f"{len(done)} of {len(homes)} finished runs"
    if delete:
        log.info("deleted %.1f MB of %s", total, whose)
    else:
        hint = "; clean.delete=true deletes them" if spare else ""
        log.info("%.1f MB of %s are not among what clean.keep=%s keeps%s", total, whose, keep, hint)
    if len(homes) < len(records):
        log.info("%d runs are not finished and keep all that they have", len(records) - len(homes))
    return {"runs": len(done), "mb": round(total, 1)}


def _table(spare: Mapping[RunDirectory, Sequence[Path]], sizes: Mapping[RunDirectory, float]) -> Table:
    table = Table()
    table.add_column("run", overflow="fold")
    table.add_column("files")
    table.add_column("MB", justify="right")
    for home, files in spare.items():
        table.add_row(Text(home.name), Text(", ".join(file.name for file in files)), f"{sizes[home]:.1f}")
    return table


def _check_places(paths: list[Path], runs_dir: Path) -> None:
    for path in paths:
        if not path.resolve().is_relative_to(runs_dir.resolve()):
            raise UsageError(
                what=f"{path} does not lie in machine.runs_dir={runs_dir}",
                why="task=clean deletes nothing anywhere else",
                fix=f"machine.runs_dir={path.parent}, if these are your runs",
            )


def _deleted(home: RunDirectory, keep: str) -> bool:
    try:
        home.cleaned(keep)
    except Busy:
        log.warning("%s is being worked on: it keeps all that it has", home.path)
        return False
    return True
