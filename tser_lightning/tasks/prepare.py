"""`task=prepare`: build the prepared form of a data set."""

import logging
from typing import Any

from tser_lightning.config.run import Run
from tser_lightning.registry.build import instantiate

log = logging.getLogger("tser_lightning")


def prepare(run: Run) -> dict[str, Any]:
    """Build the prepared form of a data set."""
    data = instantiate(run.config["data"])
    data.prepare()
    log.info("%s is ready", data.name)
    return {"data": data.name}
