"""`task=report`: compare finished runs."""

import logging
from typing import Any

from tser_lightning.config.run import Run
from tser_lightning.report.names import names_of
from tser_lightning.report.write import write_report
from tser_lightning.tasks.logbook import dashboard_of, publish_report

log = logging.getLogger("tser_lightning")


def report(run: Run) -> dict[str, Any]:
    """Compare finished runs: a page, tables and figures."""
    dashboard = dashboard_of(run)  # a mistake in it shows before the work
    settings = run.config["report"]
    names = names_of(settings["names"])
    files = write_report(run.config["runs"], settings["dir"], settings["baseline"], settings["measure"], names)
    log.info("report: %s", files[0])
    place = publish_report(run, files, dashboard)
    if place is not None:
        log.info("dashboard: %s", place)
    return {"report": str(files[0])}
