"""Finished runs: whether their result still holds, and another evaluation of their student (`task=evaluate`)."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tser_lightning.config.run import Run
from tser_lightning.errors import RunError, UsageError
from tser_lightning.records.run_directory import TEST_IMAGES, RunDirectory
from tser_lightning.records.source_code import code_hashes
from tser_lightning.registry.targets import targets
from tser_lightning.registry.trust import check_received, damaged
from tser_lightning.report.table import steps_table

if TYPE_CHECKING:
    from tser_lightning.tasks.run_parts import RunParts
    from tser_lightning.training import Teacher

log = logging.getLogger("tser_lightning")


def hashes_of_data(node: str) -> dict[str, str]:
    """Hash the images of a data set, by the names that messages use.

    Args:
        node: Its config as JSON: what a cache can hold.
    """
    from tser_lightning.registry.build import instantiate
    from tser_lightning.tasks.run_parts import data_hashes

    return data_hashes(instantiate(json.loads(node)))


def is_still_true(home: RunDirectory, run: Run, hashes: Callable[[str], dict[str, str]] = hashes_of_data) -> bool:
    """Tell whether the result of a finished run still holds: the same data, weights and code.

    Args:
        home: The run's directory.
        run: The command that asks for it again.
        hashes: Of the data; a sweep over many runs looks at the same images once.

    Returns:
        False if the test images alone are others now, by which no epoch was chosen: its student is still the right one.

    Raises:
        UsageError: The user's code or the images that it learned from are others now.
    """
    now = code_hashes(targets(run.config))
    if run.config["data"].get("path") or run.config["data"].get("root"):
        now |= hashes(json.dumps(run.config["data"] | {"validation": 0.0}))
    if run.config["student"]["weights"] or run.config["teacher"].get("weights") not in (None, "train"):
        from tser_lightning.tasks.run_parts import weights_hashes

        now |= weights_hashes(run.config)
    other = home.other_inputs(now)
    if other == [TEST_IMAGES] and run.config["selection"] != "paper":
        return False
    if other:
        raise UsageError(
            what=f"the {' and the '.join(other)} changed since {home.path} was finished",
            why="its result belongs to what was there then",
            fix=f"force=true to do it again, or the {other[0]} as before",
        )
    return True


def evaluate(run: Run) -> dict[str, Any]:
    """Measure a finished run's student on a test split again, at any number of time steps; or one of other weights."""
    if run.config["run"] is None:
        from tser_lightning.tasks.weights_alone import evaluate_weights

        return evaluate_weights(run)
    home = RunDirectory(run.config["run"])
    parts = finished(home, run)
    parts.student.timesteps = run.given.get("student.timesteps", parts.student.timesteps)
    result = home.result() or {}
    kept = {key: value for key, value in result.items() if "/" not in key}
    again = {**kept, "student.timesteps": parts.student.timesteps, **_images(home, parts), **scores(parts)}
    Console().print(steps_table([again]))
    _keep(home, again, parts if run.config["measure"] == "full" else None)
    return again


def _images(home: RunDirectory, parts: "RunParts") -> dict[str, str]:
    """Log, and record, that a run is measured on images other than its own."""
    from tser_lightning.tasks.run_parts import data_hashes

    if not {TEST_IMAGES, "data"} & set(home.other_inputs(data_hashes(parts.data))):
        return {}
    log.warning("these are not the test images that %s was measured on", home.path)
    return {"test_images": "not those of the run"}


def _keep(home: RunDirectory, again: Mapping[str, Any], parts: "RunParts | None") -> None:
    """Write the measures into the run directory; print them if it cannot be written."""
    from tser_lightning.atomic_io import write_json

    try:
        write_json(home.path / f"evaluation_t{again['student.timesteps']}.json", again)
        if parts is not None:
            measure_fully(home, parts)
    except RunError as failure:
        log.warning("%s; these are all the numbers:", failure.what)
        Console().print_json(data=dict(again))


def scores(parts: "RunParts") -> dict[str, float]:
    """Measure a student on the test split: `test/NAME`, and `teacher/NAME` for what is its teacher's own."""
    from tser_lightning.training import evaluate_network

    measured = evaluate_network(
        parts.student, parts.teacher, parts.data, "test", recipe=parts.recipe, machine=parts.machine
    )
    return {
        f"teacher/{name.removeprefix('teacher_')}" if name.startswith("teacher_") else f"test/{name}": value
        for name, value in measured.items()
    }


def measure_fully(home: RunDirectory, parts: "RunParts") -> None:
    """Measure all that the figures show of a student, and write measures.json."""
    from safetensors.torch import save_file

    from tser_lightning.atomic_io import replacing, write_json
    from tser_lightning.training.full_measures import full_measures

    measures, features = full_measures(parts.student, parts.teacher, parts.loss, parts.data)
    write_json(home.path / "measures.json", measures)
    with replacing(home.path / "features.safetensors") as beside:
        save_file(features, beside)


def finished(home: RunDirectory, run: Run) -> "RunParts":
    """Build the parts of a finished run with its trained student; nothing is trained for them.

    Raises:
        UsageError: Classes of other names, or a file that is missing or damaged.
    """
    from tser_lightning.deploy.load import load_student
    from tser_lightning.records.first_version import terms_alone
    from tser_lightning.registry.build import build_data, build_loss
    from tser_lightning.tasks.build_training import build_machine, build_recipe
    from tser_lightning.tasks.run_parts import RunParts, check_machine, use_cpu
    from tser_lightning.training.evaluation_memory import bound_evaluation

    config = received(home.path / "config.yaml") | {"machine": run.config["machine"]}
    moved = {key.partition(".")[2]: value for key, value in run.given.items() if key in ("data.root", "data.path")}
    config["data"] = {**config["data"], **moved}
    config["loss"] = terms_alone(config["loss"])
    use_cpu(config)
    machine = build_machine(config)
    recipe = build_recipe(config["trainer"], config["optim"], config["schedule"], config["debug"]["steps"])
    check_machine(recipe, machine)
    data = build_data(config)
    data.verify()
    student = load_student(home.path / "student.safetensors")
    _check_classes(home, data)
    teacher = _teacher(home, config, data)
    bound_evaluation(student, teacher, data, machine)
    return RunParts(data, student, build_loss(config), teacher, recipe, machine, [])


def _check_classes(home: RunDirectory, data: Any) -> None:
    """Raise a `UsageError` if a class of the data has another name than it had in the training."""
    learned = json.loads((home.path / "student.json").read_text()).get("classes")
    for label, (then, now) in enumerate(zip(learned or (), data.classes or (), strict=False)):
        if then != now:
            raise UsageError(
                what=f"class {label} is {now!r} in {data.name}, and was {then!r} in the training of {home.path}",
                why=f"its student's logits stand for {', '.join(map(repr, learned[:8]))}, in this order",
                fix="data whose classes have the names, and so the order, of the training",
            )


def _teacher(home: RunDirectory, config: Mapping[str, Any], data: Any) -> "Teacher | None":
    """Find the teacher of a run if it is at hand; of those that were trained here, the one with the same weights."""
    from tser_lightning.tasks.teachers import kept_teacher, obtain_teacher

    name = (home.result() or {}).get("teacher", "teacher")
    if config["teacher"].get("weights") != "train":
        return obtain_teacher(config, name, data)
    places = dict.fromkeys((home.path.parent, Path(config["machine"]["runs_dir"])))
    digest = (home.info().get("inputs") or {}).get("teacher")
    for place in places:
        teacher = kept_teacher(place / "teachers", config, name, data, digest)
        if teacher is not None:
            return teacher
    log.warning("the teacher of %s is not in %s: what compares with it is left out", home.path, home.path.parent)
    return None


def received(file: Path) -> dict[str, Any]:
    """Read the config of a finished run, which may come from anywhere: plain values, and nothing that is not listed."""
    import yaml

    from tser_lightning.plain_yaml import load

    try:
        config = load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise damaged(file, " ".join(str(error).split())[:160]) from error
    check_received(config, file)
    return dict(config)
