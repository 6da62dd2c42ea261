"""The run directory: config, provenance, metrics, checkpoints and result of a run, and its lock.

config.yaml  run.json  metrics.csv  result.json  log.txt  checkpoints/  student.safetensors  student.json  figures/
"""

import contextlib
import csv
import datetime
import io
import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, cast

import yaml

from tser_lightning import operating_system
from tser_lightning.atomic_io import first_process, itself, remove_parts, telling, write_json, write_text
from tser_lightning.errors import Busy, Pruned, RunError, UsageError

log = logging.getLogger("tser_lightning")

Number = float | int
LOOK_SECONDS = 0.2
TRAINING_IMAGES, TEST_IMAGES = "training images", "test images"  # among the inputs of a run
KEPT = ("started", "backend")  # of run.json, when a run goes on
# Which of its checkpoints a finished run keeps, by machine.keep; its weights are in student.safetensors anyway.
KEEPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"weights": (), "last": ("last.ckpt",), "all": ("last.ckpt", "last.previous.ckpt", "best.ckpt")}
)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunDirectory:
    """One run's directory.

    Args:
        path: Made when the run is opened, not before.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._moved = False  # to `.replaced`, by us
        self._since = time.monotonic()  # the last row of metrics.csv
        self._story: dict[str, Any] = {}  # run.json

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
        return _read(self.path / "result.json")

    def info(self) -> dict[str, Any]:
        """The content of run.json; empty before the first start."""
        return _read(self.path / "run.json") or {}

    @property
    def _set_aside(self) -> Path:
        return self.path.parent / ".replaced" / self.path.name

    def set_aside(self) -> None:
        """Move an existing run to `.replaced`, to be deleted once the new result is there.

        A run that was set aside before and has a result stays; what has come since then has none, and is deleted.

        Raises:
            RunError: Another process works in it, or it cannot be moved.
        """
        if not self.path.is_dir() or not first_process():
            return
        with self._held(wait=False), telling(self.path):
            if self.result() is None:
                shutil.rmtree(self.path)
                return
            if self._set_aside.exists():
                shutil.rmtree(self._set_aside)
            self._set_aside.parent.mkdir(exist_ok=True)
            self.path.rename(self._set_aside)
        self._moved = True

    @contextlib.contextmanager
    def restored_at_failure(self) -> Iterator[None]:
        """Move a run that was set aside back if the block fails before the new one is opened."""
        try:
            yield
        except BaseException:
            if self._moved and not (self.path / "config.yaml").exists():
                with contextlib.suppress(OSError):  # it stays where it is, and the next command says so
                    shutil.rmtree(self.path, ignore_errors=True)
                    self._set_aside.rename(self.path)
            raise

    def busy(self) -> bool:
        """Tell whether another process holds the lock; the holder itself must not ask, it would release it."""
        try:
            with (self.path / ".lock").open() as lock:
                return not operating_system.lock(lock, shared=True)
        except OSError:
            return False  # nobody has been there, or it is not ours to look into

    @contextlib.contextmanager
    def _held(self, wait: bool) -> Iterator[None]:
        with _lock_file(self.path) as lock:
            # A lock of this process alone: processes that load data outlive one that is killed by seconds.
            if not operating_system.lock(lock, wait=wait):
                time.sleep(LOOK_SECONDS)  # a sweep may have looked whether this run is busy
                if not operating_system.lock(lock, wait=wait):
                    raise Busy(
                        what=f"another process is working on {self.path}",
                        why="the same command has been started twice; two writers would spoil its files",
                        fix="the same command when the other has ended, or another seed",
                    )
            yield

    def other_inputs(self, inputs: Mapping[str, str]) -> list[str]:
        """List the inputs whose hashes differ from those at the start; one without a recorded hash counts as same.

        Args:
            inputs: Hashes by name, e.g. {"data": ..., "code of my_losses": ...}.
        """
        before = dict(self.info().get("inputs") or {})
        if TRAINING_IMAGES in before:
            before.pop("data", None)  # the same images as one hash, which does not tell what of them changed
        return [name for name, digest in inputs.items() if before.get(name, digest) != digest]

    def _check_inputs(self, inputs: Mapping[str, str], chosen_on_test: bool) -> None:
        before = self.info().get("inputs") or {}
        other = self.other_inputs(inputs)
        if TEST_IMAGES in other and not chosen_on_test:
            log.warning(
                "the %s changed since %s began: it goes on, and is measured on those of now", TEST_IMAGES, self.path
            )
            other.remove(TEST_IMAGES)
        if other and any(self.checkpoints.glob("*.ckpt")):
            raise UsageError(
                what=f"the {' and the '.join(other)} changed since {self.path} began",
                why=f"its checkpoints come from the {other[0]} with the hash {before[other[0]][:12]}, "
                f"now it is {inputs[other[0]][:12]}: going on would mix the two",
                fix=f"the {other[0]} as before, or force=true to begin this run again",
            )

    @contextlib.contextmanager
    def opened(
        self,
        config: Mapping[str, Any],
        about: Mapping[str, Any],
        wait: bool = False,
        inputs: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[None]:
        """Lock the directory while a run works in it, and write into run.json how it ended.

        Args:
            config: The resolved config.
            about: Command, code, versions, hardware (see `records.provenance`).
            wait: Whether to wait for another process that works in it, or to refuse.
            inputs: Hashes of what the result depends on besides the config, by name ("data", "teacher"). Other
                `TEST_IMAGES` do not keep a training from going on, unless it chooses an epoch by them.

        Raises:
            UsageError: An input changed since the run began.
            RunError: Another process works in it and `wait` is off; nothing can be written there.
        """
        if not first_process():
            yield
            return
        with self._held(wait):
            self._check_inputs(inputs, chosen_on_test=config.get("selection") == "paper")
            for folder in (self.path, self.checkpoints, self.path / "figures"):
                remove_parts(folder)
            self._say_what_is_kept()
            write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            kept = {name: value for name, value in self.info().items() if name in KEPT}
            self._story = {**about, "inputs": dict(inputs), "status": "running", "started": _now(), **kept}
            write_json(self.path / "run.json", self._story)
            self._since = time.monotonic()
            with _log_file(self.path / "log.txt"):
                try:
                    yield
                except BaseException as error:
                    with contextlib.suppress(RunError):  # the disk may be what failed; the first error says it
                        write_json(self.path / "run.json", self._story | self._ended(error))
                    raise
            write_json(self.path / "run.json", self._story | {"status": "finished", "ended": _now()})

    def keep_backend(self, name: str) -> None:
        """Write the backend of the neurons into run.json, so that a resumed run takes the same."""
        self._story["backend"] = name
        write_json(self.path / "run.json", self._story)

    def _ended(self, error: BaseException) -> dict[str, Any]:
        """Name the status of a run that raised; one that has its result is finished, whatever failed after it."""
        said = str(error).splitlines()[:1]
        if self.result() is not None:
            name = type(error).__name__
            log.warning(
                "%s is finished and keeps its result; what came after it failed: %s", self.path, (said or [name])[0]
            )
            return {"status": "finished", "warning": said or [name], "ended": _now()}
        self._say_what_is_kept()
        return {"status": _status(error), "error": said, "ended": _now()}

    def _say_what_is_kept(self) -> None:
        if self._set_aside.exists():
            here, there = shlex.quote(str(self.path)), shlex.quote(str(self._set_aside))
            log.warning(
                "the earlier result of this run is in %s until the new one is there, for which the command goes on "
                "without force=true; to have the earlier one back instead: rm -r %s && mv %s %s",
                *(self._set_aside, here, there, here),
            )

    def record(self, row: Mapping[str, Number]) -> None:
        """Write the row of an epoch to metrics.csv, replacing what an interrupted run wrote for it and later ones.

        Beside them stand the seconds since the row before, or since the directory was opened.
        """
        now = time.monotonic()
        row = {**row, "seconds": round(now - self._since, 2)}
        self._since = now
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

    def spare(self, keep: str) -> list[Path]:
        """List the checkpoints that this run does not need any more.

        Args:
            keep: What it keeps: "weights", "last" or "all".

        Returns:
            Files that lie in its own folder; none while it has no result, or without its weights.
        """
        if self.result() is None or not (self.path / "student.safetensors").is_file() or self.checkpoints.is_symlink():
            return []
        files = [self.checkpoints / name for name in KEEPS["all"] if name not in KEEPS[keep]]
        return [file for file in files if file.is_file() and not file.is_symlink()]

    def drop_spare(self, keep: str) -> None:
        """Delete the checkpoints of `spare`, in the process that holds the lock; others take `cleaned`."""
        if first_process():
            for file in self.spare(keep):
                with telling(file):
                    file.unlink()

    def cleaned(self, keep: str) -> None:
        """Delete the checkpoints of `spare`.

        Raises:
            Busy: Another process works in it.
            RunError: A file cannot be deleted.
        """
        with self._held(wait=False):
            self.drop_spare(keep)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, after which the run counts as done and replaces one that was set aside."""
        write_json(self.path / "result.json", result)
        if self._set_aside.exists() and first_process():
            with telling(self._set_aside):
                shutil.rmtree(self._set_aside)


def _read(file: Path) -> dict[str, Any] | None:
    """Read a JSON file of ours; one that is damaged counts as missing, so that the run writes it again."""
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except ValueError:
        log.warning("%s is damaged: the run goes on from its checkpoint and writes it again", file)
        return None
    return content


def _lock_file(folder: Path) -> TextIO:
    with telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / ".lock", "w", opener=itself)


def _status(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit) and error.code == 143:
        return "terminated"
    return "pruned" if isinstance(error, Pruned) else "failed"


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[None]:
    with telling(path):
        handler = _LogFile(path, encoding="utf-8")
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
        with contextlib.suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, open(self.baseFilename, self.mode, encoding=self.encoding, opener=itself))

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise: where the log cannot be written, no result can either."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            with telling(self.baseFilename):
                raise error
        super().handleError(record)
