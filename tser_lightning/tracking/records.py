"""The run directory: what was run, on what, and what came out.

config.yaml  run.json  metrics.csv  result.json  log.txt  checkpoints/  student.safetensors  student.json  figures/
"""

import contextlib
import csv
import datetime
import fcntl
import io
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tser_lightning.durable import write_json, write_text
from tser_lightning.mistake import Failure

Number = float | int


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunDirectory:
    """One run's directory.

    Args:
        path: Made when the run is opened, not before.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """What came out, or None while the run is not finished."""
        file = self.path / "result.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def info(self) -> dict[str, Any]:
        """The content of run.json; empty before the first start."""
        file = self.path / "run.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def clear(self) -> None:
        """Delete everything in it, for a run that is to be done again."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def opened(self, config: Mapping[str, Any], about: Mapping[str, Any], wait: bool = False) -> Iterator[None]:
        """Hold the directory while a run works in it, and tell run.json how it ended.

        Args:
            config: The resolved config.
            about: Command, code, versions, hardware (see `tracking.provenance`).
            wait: Whether to wait for another process that works in it, or to refuse.

        Raises:
            Failure: Another process works in it and `wait` is off.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as busy:
                raise Failure(
                    what=f"another process is working on {self.path}",
                    why="the same command has been started twice; two writers would spoil its files",
                    fix="wait for it to end, or give another seed",
                ) from busy
            write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            started = self.info().get("started", _now())
            story = {**about, "status": "running", "started": started}
            write_json(self.path / "run.json", story)
            with _log_file(self.path / "log.txt"):
                try:
                    yield
                except BaseException as error:
                    ended = {"status": _status(error), "error": str(error).splitlines()[:1], "ended": _now()}
                    write_json(self.path / "run.json", story | ended)
                    raise
            write_json(self.path / "run.json", story | {"status": "finished", "ended": _now()})

    def record(self, row: Mapping[str, Number]) -> None:
        """Put the numbers of an epoch into metrics.csv, in place of what an interrupted run wrote for it and later."""
        rows = [old for old in self.metrics() if int(old["epoch"]) < row["epoch"]]
        rows.append({name: str(value) for name, value in row.items()})
        columns = list(dict.fromkeys(name for line in rows for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "metrics.csv", text.getvalue())

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, one per epoch."""
        file = self.path / "metrics.csv"
        if not file.is_file():
            return []
        with file.open(newline="") as lines:
            return list(csv.DictReader(lines))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, after which the run counts as done."""
        write_json(self.path / "result.json", result)


def _status(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit) and error.code == 143:
        return "terminated"
    return "failed"


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("tser_lightning")
    warnings_logger = logging.getLogger("py.warnings")
    logger.addHandler(handler)
    warnings_logger.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logger.removeHandler(handler)
        warnings_logger.removeHandler(handler)
        handler.close()
