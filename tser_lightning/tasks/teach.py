"""`task=teach`: train the teacher alone."""

import logging
from typing import Any

from tser_lightning.config.run import Run
from tser_lightning.errors import UsageError
from tser_lightning.registry.build import build_data
from tser_lightning.tasks.build_training import build_machine
from tser_lightning.tasks.run_parts import use_cpu
from tser_lightning.tasks.teachers import obtain_teacher
from tser_lightning.training import SingleStep, evaluate_network

log = logging.getLogger("tser_lightning")


def teach(run: Run) -> dict[str, Any]:
    """Train the teacher alone, so that later runs find it."""
    use_cpu(run.config)
    data = build_data(run.config)
    data.verify()
    teacher = obtain_teacher(run.config, run.choices["teacher"], data)
    if teacher is None:
        raise UsageError(
            what="there is no teacher to train", why="teacher=none was chosen", fix="teacher=resnet34, for example"
        )
    scores = evaluate_network(SingleStep(teacher.net), None, data, "test", machine=build_machine(run.config))
    log.info("teacher %s on %s: %.2f %% (test)", run.choices["teacher"], data.name, scores["acc"])
    return {"teacher": run.choices["teacher"], "data": data.name, "teacher/acc": scores["acc"]}
