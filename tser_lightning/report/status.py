"""How far runs are, read off their directories and locks while they run."""

import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tser_lightning.report.collect import RunRecord
from tser_lightning.report.labels import word_for

LAST_EPOCHS = 5  # whose seconds tell how long the next ones take
STYLES = {"finished": "green", "running": "bold", "waiting": "dim", "missing": "dim", "pruned": "yellow"}
ALWAYS = ("loss", "seed")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        record: What its directory says.
        epoch: How many epochs are done.
        epochs: How many there are to be; None if it is not said.
        accuracy: In percent: of the test split once it is finished, of the last validation before; None without one.
        left: Seconds until its training ends, by its last epochs; None if that is not known.
        heartbeat: Seconds since it last wrote anything; None if it never did.
    """

    record: RunRecord
    epoch: int
    epochs: int | None
    accuracy: float | None
    left: float | None
    heartbeat: float | None


def progress_of(record: RunRecord, now: float | None = None) -> Progress:
    """Read how far a run is.

    Args:
        record: The run's record.
        now: Seconds since 1970; None for the clock.
    """
    now = time.time() if now is None else now
    done = len(record.metrics.get("epoch", []))
    seen = [accuracy for accuracy in record.metrics.get("val/acc", []) if not math.isnan(accuracy)]
    return Progress(
        record,
        done,
        record.epochs,
        record.numbers.get("test/acc", seen[-1] if seen else None),
        _left(record, done, now) if record.status == "running" else None,
        None if (last := _last_written(record.path)) is None else max(0.0, now - last),
    )


def _left(record: RunRecord, done: int, now: float) -> float | None:
    spent = [seconds for seconds in record.metrics.get("seconds", [])[-LAST_EPOCHS:] if not math.isnan(seconds)]
    written = _written(record.path / "metrics.csv")
    if record.epochs is None or not spent or written is None:
        return None
    return max(0.0, statistics.fmean(spent) * (record.epochs - done) - (now - written))


def _last_written(path: Path) -> float | None:
    times = [_written(path / name) for name in ("log.txt", "metrics.csv", "run.json")]
    return max((each for each in times if each is not None), default=None)


def _written(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def what_differs(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each of some runs in what it is not like all others, e.g. "tser lam=0.1 seed=2"."""
    keys = dict.fromkeys(key for each in settings for key in each)
    told = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
    told = [key for key in told if not _goes_with_the_loss(key, settings)]
    told = told or [key for key in ALWAYS if key in keys]
    return [" ".join(filter(None, (word_for(key, each.get(key)) for key in told))) for each in settings]


def _goes_with_the_loss(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether each loss has one value of its setting, or none, which its name says already."""
    if not key.startswith("loss."):
        return False
    values: dict[str, set[str]] = {}
    for each in settings:
        values.setdefault(repr(each.get("loss")), set()).add(repr(each.get(key)))
    return all(len(of_one) == 1 for of_one in values.values())


def duration(seconds: float | None) -> str:
    """Write a time as "0:02:05"; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def status_table(runs: Iterable[Progress], title: str = "") -> Table:
    """Draw runs as rows: what differs, status, epoch, accuracy, time left, and the sentence of one that failed."""
    found = list(runs)
    table = Table(title=title or None, title_justify="left")
    for head in ("run", "status", "epoch", "acc %", "left"):
        table.add_column(head, justify="left" if head in ("run", "status") else "right", no_wrap=head != "run")
    words = what_differs([each.record.settings for each in found])
    for each, differs in zip(found, words, strict=True):
        name = Text(differs or each.record.name)
        if each.record.status not in ("finished", "running", "waiting", "missing"):
            name.append(f"\n{each.record.reason}", style=STYLES.get(each.record.status, "red"))
        table.add_row(name, *_state(each))
    return table


def _state(each: Progress) -> tuple[Text, str, str, str]:
    status = each.record.status
    total = "?" if each.epochs is None else str(each.epochs)
    return (
        Text(status, style=STYLES.get(status, "red")),
        f"{each.epoch} of {total}" if each.epoch or status == "running" else "",
        "" if each.accuracy is None else f"{each.accuracy:.2f}",
        duration(each.left),
    )


def counted(runs: Iterable[Progress]) -> str:
    """Say how many runs there are of each status: "6 runs: 4 finished, 1 running, 1 failed"."""
    statuses = [each.record.status for each in runs]
    parts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(sorted(statuses))]
    return f"{len(statuses)} run{'s' if len(statuses) != 1 else ''}: {', '.join(parts)}"
