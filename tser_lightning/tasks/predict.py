"""Classify images with a finished run's student, each for as long as it needs."""

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tser_lightning.atomic_io import write_bytes, write_json
from tser_lightning.config.run import Run
from tser_lightning.deploy.early_exit import Exit, fit_exit, images_needed
from tser_lightning.deploy.exit_report import logits_of, measure_exit
from tser_lightning.deploy.inputs import batches
from tser_lightning.deploy.load import load_student
from tser_lightning.deploy.trained import TrainedStudent
from tser_lightning.errors import UsageError
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.registry import build
from tser_lightning.tasks.evaluate import received
from tser_lightning.tasks.run_parts import use_cpu

log = logging.getLogger("tser_lightning")
SHOWN = 20


def predict(run: Run) -> dict[str, Any]:
    """Fit the exit if that is not done yet, measure it, and classify what the command names.

    Returns:
        What the exit is worth on the test split, and how many images were classified.
    """
    use_cpu(run.config)
    home = RunDirectory(run.config["run"])
    student = load_student(home.path)
    files = _files(home, run.config["output"])
    measured = _fitted(student, home, run.config["exit"])
    if run.config["input"] is None:
        return measured
    rows = classified(student, run.config["input"])
    Console().print(_table(rows))
    for file in files:
        write_bytes(file, _written(rows, file).encode())
        log.info("predictions: %s", file)
    return {**measured, "images": len(rows), "predict/mean_steps": sum(row["steps"] for row in rows) / len(rows)}


def classified(student: TrainedStudent, path: str) -> list[dict[str, Any]]:
    """Classify image files: for each its name, class, probability, steps and the probabilities of all classes."""
    rows: list[dict[str, Any]] = []
    for names, images_BCHW in batches(path, student.card):
        found = student.predict(images_BCHW)
        for name, label, steps, each in zip(names, found.classes, found.steps, found.probabilities, strict=True):
            probabilities = dict(zip(student.classes, each.tolist(), strict=True))
            said = {"class": student.classes[int(label)], "probability": float(each[label]), "steps": int(steps)}
            rows.append({"file": name, **said, "probabilities": probabilities})
    return rows


def _fitted(student: TrainedStudent, home: RunDirectory, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Set the student's early exit, fitted now if its card has none or another one."""
    if settings["max_loss"] is None:
        student.exit = None
        return {}
    asked = (settings["max_loss"], settings["bound"], settings["confidence"])
    kept, file = student.exit, home.path / "exit.json"
    if kept and (kept.max_loss, kept.bound, kept.confidence) == asked and file.is_file():
        measured: dict[str, Any] = json.loads(file.read_text())
    else:
        data = build.build_data(received(home.path / "config.yaml"))
        data.verify()
        student.exit = _fit(student, data, *asked)
        measured = measure_exit(student, student.exit, data.loader("test"))
        card = json.loads((home.path / "student.json").read_text())
        write_json(home.path / "student.json", {**card, "exit": student.exit.as_dict()})
        write_json(file, measured)
    assert student.exit is not None
    Console().print(_summary(student.exit, measured))
    return {f"exit/{name}": value for name, value in measured.items() if not isinstance(value, list)}


def _fit(student: TrainedStudent, data: Any, max_loss: float, bound: Any, confidence: float) -> Exit:
    if not data.validation:
        raise UsageError(
            what="an early exit cannot be fitted: this run kept no images for validation",
            why="the student has learned from all training images and is too sure on them; the test split measures",
            fix="exit.max_loss=null, or a run with selection=val",
        )
    logits_TBC, labels_B = logits_of(student, data.loader("val"))
    rule = fit_exit(logits_TBC, labels_B, max_loss, bound, confidence)
    if rule.threshold is None:
        needed = images_needed(max_loss, bound, confidence)
        log.warning(
            "no image stops early: %d validation images cannot show a loss of at most %g points (exit.bound=%s asks "
            "for %d or more); a larger exit.max_loss, more images for validation, or exit.bound=none (no promise)",
            len(labels_B),
            max_loss,
            bound,
            needed,
        )
    return rule


def _summary(rule: Exit, measured: Mapping[str, Any]) -> Table:
    holds = {
        "clopper_pearson": f"with {100 * rule.confidence:g} % confidence",
        "conformal": "on average over validation splits",
        "none": "on the validation split alone",
    }
    table = Table(title=f"early exit for at most {rule.max_loss:g} points, {holds[rule.bound]}; test split")
    for column in ("", "early exit", "all steps"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {"accuracy (%)": "accuracy", "energy (mJ)": "energy_mj", "latency of one image (ms)": "latency_ms"}
    table.add_row("mean steps", f"{measured['mean_steps']:.2f}", str(measured["timesteps"]))
    for title, name in [*rows.items(), (f"ms per image, batch of {measured['batch_size']}", "batch_ms")]:
        stem, _, unit = name.rpartition("_") if name.endswith(("_mj", "_ms")) else (name, "", "")
        full = f"{stem}_full_{unit}" if unit else f"{name}_full"
        table.add_row(title, f"{measured[name]:.4g}", f"{measured[full]:.4g}")
    return table


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=f"{len(rows)} images" + (f"; the first {SHOWN}" if len(rows) > SHOWN else ""))
    for name in ("file", "class", "probability", "steps"):
        table.add_column(name)
    for row in rows[:SHOWN]:
        table.add_row(row["file"], row["class"], f"{row['probability']:.4f}", str(row["steps"]))
    return table


def _files(home: RunDirectory, output: str | None) -> list[Path]:
    if output is None:
        return [home.path / "predictions.csv", home.path / "predictions.json"]
    if Path(output).suffix not in (".csv", ".json"):
        raise UsageError(
            f"output={output} is neither a .csv nor a .json file", "its ending says the form", "output=predictions.csv"
        )
    return [Path(output)]


def _written(rows: Sequence[Mapping[str, Any]], file: Path) -> str:
    if file.suffix == ".json":
        return json.dumps(list(rows), indent=1)
    text = io.StringIO()
    names = list(rows[0]["probabilities"])
    writer = csv.writer(text)
    writer.writerow(["file", "class", "probability", "steps", *names])
    for row in rows:
        said = [row[name] for name in ("file", "class", "probability", "steps")]
        writer.writerow([*said, *(row["probabilities"][name] for name in names)])
    return text.getvalue()
