"""A page that follows runs and sweeps while they run: the standard library's server, server-sent events, no network."""

import csv
import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tser_lightning.records.measures import measured
from tser_lightning.report.collect import RunRecord, Unchanged, collect
from tser_lightning.report.curves import over_seeds
from tser_lightning.report.grid import APART
from tser_lightning.report.status import Progress, counted, progress_of, what_differs

LOOK_SECONDS = 2.0
FILES = ("log.txt", "config.yaml", "run.json", "result.json", "metrics.csv")
KINDS = {  # what a figure, or a file of a report, is sent as
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".tex": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
REPORT = "/report/"
CURVE = "val/acc"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Watched:
    """What the page shows of some runs, read again when it is asked for.

    Args:
        patterns: Globs of run directories, or folders of sweeps.
        report: Folder of a report, which is linked to where it is one of runs that are shown.
    """

    def __init__(self, patterns: str | Sequence[str], report: Path = Path("report")) -> None:
        self._patterns = patterns
        self._report = report
        self._lock = threading.Lock()
        self._unchanged = Unchanged()
        self._records: dict[str, RunRecord] = {}
        self._kept: tuple[float, dict[str, Any]] = (-math.inf, {})

    def state(self) -> dict[str, Any]:
        """Give every run with its progress, and the curves of methods; not older than `LOOK_SECONDS`."""
        with self._lock:
            if time.monotonic() - self._kept[0] > LOOK_SECONDS:
                self._kept = (time.monotonic(), self._read())
            return self._kept[1]

    def _read(self) -> dict[str, Any]:
        records = collect(self._patterns, self._unchanged.read)
        self._records = {record.name: record for record in records}
        runs = [progress_of(record) for record in records]
        methods = what_differs([_without_seed(record.settings) for record in records])
        words = what_differs([record.settings for record in records])
        return {
            "counted": counted(runs),
            "runs": [_row(*each) for each in zip(runs, words, methods, strict=True)],
            "curves": _curves(records, methods),
            "results": _results(records, methods),
            "report": f"{REPORT}report.html" if self._is_reported() else None,
        }

    def _is_reported(self) -> bool:
        try:
            with (self._report / "results.csv").open(newline="") as table:
                reported = any(row.get("run") in self._records for row in csv.DictReader(table))
        except (OSError, ValueError, csv.Error):
            return False
        return reported and (self._report / "report.html").is_file()

    def differences(self, one: str, other: str) -> list[tuple[str, Any, Any]]:
        """Give the settings and results in which two runs differ: name, value of the one, value of the other."""
        pair = [self._records[name] for name in (one, other)]
        found = [{**record.config, **_printed(record)} for record in pair]
        keys = dict.fromkeys(key for each in found for key in each)
        return [(key, found[0].get(key), found[1].get(key)) for key in keys if found[0].get(key) != found[1].get(key)]

    def file(self, run: str, name: str) -> str:
        """Give the text of one of a run's own files.

        Raises:
            KeyError: No such run, or a file that is not shown.
            OSError: It is not there.
        """
        if name not in FILES:
            raise KeyError(name)
        return (self._records[run].path / name).read_text(errors="replace")

    def picture(self, run: str, name: str) -> bytes:
        """Give one of a run's own figures.

        Raises:
            KeyError: No such run, or no figure of it.
            OSError: It cannot be read.
        """
        found = {path.name: path for path in _figures(self._records[run])}
        return found[name].read_bytes()

    def part_of_report(self, name: str) -> bytes:
        """Give a file of the report that is linked to.

        Raises:
            KeyError: The report is not shown, or the file is none of it.
            OSError: It is not there.
        """
        folder, file = self._report.resolve(), (self._report / name).resolve()
        if not self.state()["report"] or not file.is_relative_to(folder) or file.suffix not in KINDS:
            raise KeyError(name)
        return file.read_bytes()


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seed"}


def _figures(record: RunRecord) -> list[Path]:
    return sorted(path for path in (record.path / "figures").glob("*") if path.suffix in KINDS and path.is_file())


def _printed(record: RunRecord) -> dict[str, str]:
    values = {what.name: (what, record.value(what)) for what in measured(record.numbers)}
    return {name: what.printed(value) for name, (what, value) in values.items() if value is not None}


def _row(run: Progress, words: str, method: str) -> dict[str, Any]:
    record = run.record
    finite = run.accuracy is not None and math.isfinite(run.accuracy)
    return {
        "name": record.name,
        "what": words,
        "method": method,
        "status": record.status,
        "reason": record.reason,
        "epoch": run.epoch,
        "epochs": run.epochs,
        "accuracy": round(run.accuracy, 2) if finite and run.accuracy is not None else None,
        "left": run.left,
        "heartbeat": run.heartbeat,
        "files": [name for name in FILES if (record.path / name).is_file()],
        "figures": [path.name for path in _figures(record)],
    }


def _curves(records: Sequence[RunRecord], methods: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """Average the validation accuracy over the seeds of a method, epoch by epoch."""
    by_method: dict[str, list[dict[str, list[float]]]] = {}
    for record, method in zip(records, methods, strict=True):
        if CURVE in record.metrics:
            by_method.setdefault(method, []).append(record.metrics)
    curves = {}
    for method, metrics in by_method.items():
        epochs, mean, std = over_seeds(metrics, CURVE)
        curves[method] = {name: _finite(values) for name, values in (("x", epochs), ("mean", mean), ("std", std))}
    return curves


def _results(records: Sequence[RunRecord], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give the test accuracies of finished runs by method and seed, and among which methods they may be compared."""
    found: dict[str, dict[str, Any]] = {}
    for record, method in zip(records, methods, strict=True):
        if record.finished:
            among = " ".join(f"{key}={record.settings.get(key)}" for key in ("data", *APART))
            seeds = found.setdefault(method, {"among": among, "seeds": {}})["seeds"]
            seeds[str(record.seed)] = round(record.numbers["test/acc"], 3)
    return found


def _finite(values: Any) -> list[float | None]:
    return [round(float(value), 3) if math.isfinite(value) else None for value in values]


def server(watched: Watched, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Make the server of the page; `serve_forever` runs it.

    Args:
        watched: The runs that the page shows.
        host: Where it listens. On loopback it answers to loopback's names alone, so that no page of the web reads it.
        port: 0 for one that is free.

    Raises:
        OSError: The port is taken, or the address is not this machine's.
    """
    page = (Path(__file__).parent / "watch.html").read_bytes()
    is_local = host in LOOPBACK

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Serve the page or the data that its path names, to a known host alone."""
            asked = urlsplit(self.path)
            given = {key: values[0] for key, values in parse_qs(asked.query).items()}
            name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            try:
                if is_local and name not in LOOPBACK:
                    raise KeyError(name)
                self._answer(asked.path, given)
            except (KeyError, OSError) as error:
                if not isinstance(error, ConnectionError):
                    self._send(b"not here\n", "text/plain; charset=utf-8", 404)

        def _answer(self, path: str, given: Mapping[str, str]) -> None:
            if path == "/":
                self._send(page, "text/html; charset=utf-8")
            elif path == "/state":
                self._send(json.dumps(watched.state()).encode(), "application/json")
            elif path == "/events":
                self._events()
            elif path == "/differences":
                found = watched.differences(given["one"], given["other"])
                self._send(json.dumps(found, default=str).encode(), "application/json")
            elif path == "/file":
                self._send(watched.file(given["run"], given["name"]).encode(), "text/plain; charset=utf-8")
            elif path == "/figure":
                self._send(watched.picture(given["run"], given["name"]), KINDS[Path(given["name"]).suffix])
            elif path.startswith(REPORT):
                name = unquote(path.removeprefix(REPORT))
                self._send(watched.part_of_report(name), KINDS[Path(name).suffix])
            else:
                raise KeyError(path)

        def _events(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            while True:
                self.wfile.write(f"data: {json.dumps(watched.state())}\n\n".encode())
                self.wfile.flush()
                time.sleep(LOOK_SECONDS)

        def _send(self, body: bytes, kind: str, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each request."""

    found = ThreadingHTTPServer((host, port), Handler)
    found.daemon_threads = True
    return found
