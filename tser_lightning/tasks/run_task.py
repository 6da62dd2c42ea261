"""Dispatch a checked command to the module of its task."""

import importlib
import importlib.util
from typing import Any

import tser_lightning.tasks
from tser_lightning.config.run import Run
from tser_lightning.config.translation import arguments_of_a_run
from tser_lightning.errors import UsageError
from tser_lightning.registry.trust import named, trust


def run_task(run: Run) -> dict[str, Any]:
    """Run the task of a checked command.

    Returns:
        The numbers that came out; those of result.json for `distill`.

    Raises:
        UsageError: There is no module of that name in `tser_lightning/tasks`, or it has no function of that name.
    """
    name = str(run.config["task"])
    trust(*run.config["trusted_modules"], *named(run.given))
    place = f"{tser_lightning.tasks.__name__}.{name}"
    found = name.isidentifier() and importlib.util.find_spec(place)
    task = getattr(importlib.import_module(place), name, None) if found else None
    if task is None or name == run_task.__name__:
        raise UsageError(
            what=f"task={name} is no task of this program",
            why=f"there is no tser_lightning/tasks/{name}.py with a function {name}, which is what a task is",
            fix="task: distill, or the name of another task, in that file of conf/task",
        )
    with arguments_of_a_run(run.config):
        result: dict[str, Any] = task(run)
    return result
