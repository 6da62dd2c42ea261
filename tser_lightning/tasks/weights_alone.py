"""Measure a student whose weights are given, without a run (`task=evaluate student.weights=...`)."""

import logging
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tser_lightning.atomic_io import write_json
from tser_lightning.config.run import Run
from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.deploy.weights import start_student
from tser_lightning.registry import build
from tser_lightning.report.table import steps_table
from tser_lightning.tasks.build_training import build_machine, build_recipe
from tser_lightning.tasks.evaluate import scores
from tser_lightning.tasks.run_parts import RunParts, card_of, check_machine, use_cpu, weights_hashes
from tser_lightning.tasks.teachers import obtain_teacher
from tser_lightning.training import Teacher
from tser_lightning.training.evaluation_memory import bound_evaluation

log = logging.getLogger("tser_lightning")


def evaluate_weights(run: Run) -> dict[str, Any]:
    """Measure the student of `student.weights` on the test split.

    A teacher is compared with only where it does not have to be trained: `teacher.weights=FILE` or a zoo's.

    Returns:
        The numbers, which are also written to `machine.runs_dir/evaluations`.
    """
    parts = _built(run)
    measured = scores(parts)
    about = {key: run.choices[key] for key in ("experiment", "student", "neuron", "norm", "data")}
    taught = {"teacher": run.choices["teacher"] if parts.teacher else "none", "loss": "none"}
    settings = {"student.weights": run.config["student"]["weights"], "student.timesteps": parts.student.timesteps}
    result = {**about, **taught, **settings, **parts.files, **measured}
    Console().print(steps_table([result]))
    file = Path(run.config["machine"]["runs_dir"], "evaluations", f"{run.name}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    log.info("record: %s", file)
    return result


def _built(run: Run) -> RunParts:
    config = run.config
    use_cpu(config)
    machine = build_machine(config)
    recipe = build_recipe(config["trainer"], config["optim"], config["schedule"], config["debug"]["steps"])
    check_machine(recipe, machine)
    data = build.build_data(config)
    data.verify()
    torch.manual_seed(config["seed"])
    with arguments_as_settings("student", config["student"]):
        student = build.build_student(config, num_classes=data.num_classes, in_channels=data.shape[0])
    teacher = _teacher(run, data)
    source = config["student"]["weights"]
    start_student(student, source, card_of(config, data), teacher and teacher.net)
    bound_evaluation(student, teacher, data, machine)
    return RunParts(data, student, build.build_loss(config), teacher, recipe, machine, [], weights_hashes(config))


def _teacher(run: Run, data: Any) -> Teacher | None:
    trained_here = run.config["teacher"].get("weights") in (None, "train")
    if trained_here and run.config["student"]["weights"] != "teacher":
        return None
    return obtain_teacher(run.config, run.choices["teacher"], data)
