"""`task=status`: how far runs are, from their directories."""

from typing import Any

from rich.console import Console

from tser_lightning.config.run import Run
from tser_lightning.errors import UsageError
from tser_lightning.report.collect import collect
from tser_lightning.report.status import counted, progress_of, status_table


def status(run: Run) -> dict[str, Any]:
    """Print a row per run, and how many there are of each status.

    Raises:
        UsageError: No run matches.
    """
    records = collect(run.config["runs"])
    if not records:
        raise UsageError(
            f"runs={run.config['runs']} matches no run directory", "nothing has been started there", "runs='runs/*'"
        )
    found = [progress_of(record) for record in records]
    Console().print(status_table(found), counted(found))
    return {"runs": len(found), "finished": sum(each.record.finished for each in found)}
