"""`task=watch`: a page on this machine that follows runs while they run."""

import logging
from pathlib import Path
from typing import Any

from tser_lightning.config.run import Run
from tser_lightning.errors import UsageError
from tser_lightning.report.watch import Watched, server

log = logging.getLogger("tser_lightning")


def watch(run: Run) -> dict[str, Any]:
    """Serve the page until it is interrupted.

    Raises:
        UsageError: Nobody can listen at that address.
    """
    host, port = run.config["watch"]["host"], run.config["watch"]["port"]
    try:
        found = server(Watched(run.config["runs"], Path(run.config["watch"]["report"])), host, port)
    except OSError as error:
        raise UsageError(
            what=f"nobody can listen at {host}:{port}: {error.strerror or error}",
            why="the port is taken, or the address is not one of this machine",
            fix="watch.port=0 for one that is free",
        ) from error
    log.info("http://%s:%d follows %s; Ctrl-C ends it", host, found.server_port, run.config["runs"])
    with found:
        try:
            found.serve_forever()
        except KeyboardInterrupt:
            log.info("ended")
    return {"port": found.server_port}
