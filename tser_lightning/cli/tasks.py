"""What `task=` names. Nothing here imports torch before it is known that there is work to do."""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tser_lightning.cli.run import Run
from tser_lightning.cli.trust import check_received, damaged, named, targets, trust
from tser_lightning.mistake import Mistake
from tser_lightning.report.table import steps_table
from tser_lightning.tracking.records import RunDirectory
from tser_lightning.tracking.source_code import code_hashes

if TYPE_CHECKING:
    from tser_lightning.cli.built import Built

log = logging.getLogger("tser_lightning")


def run_task(run: Run) -> dict[str, Any]:
    """Do what a checked command asks for.

    Returns:
        The numbers that came out; those of result.json for `distill`.
    """
    if run.config["task"] not in TASKS:
        raise Mistake(
            what=f"task={run.config['task']} is no task of this program",
            why="a file in conf/task gives one of them other settings; it cannot make a new one",
            fix=f"task: one of {', '.join(TASKS)} in that file",
        )
    trust(*run.config["trusted_modules"], *named(run.given))
    return TASKS[run.config["task"]](run)


def distill(run: Run) -> dict[str, Any]:
    """Train a student from its teacher, or give the result of the same run if it is finished."""
    home = RunDirectory(Path(run.config["machine"]["runs_dir"], run.name))
    if run.config["force"]:
        home.set_aside()
    result = home.result()
    if result is not None:
        check_still_true(home, run)
        log.info("%s is finished; force=true does it again", home.path)
        if run.config["measure"] == "full" and not (home.path / "measures.json").exists():
            _measure_fully(home, _finished(home, run))
    else:
        result = _distilled(run, home)
    Console().print(steps_table([result]))
    log.info("records: %s", home.path)
    return result


def check_still_true(home: RunDirectory, run: Run) -> None:
    """Raise a `Mistake` if a finished run is not the answer any more: its user's code or images are others now."""
    now = code_hashes(targets(run.config))
    if run.config["data"].get("path"):
        now |= _data_hashes(json.dumps(run.config["data"] | {"validation": 0.0}))
    other = home.other_inputs(now)
    if other:
        raise Mistake(
            what=f"the {' and the '.join(other)} changed since {home.path} was finished",
            why="its result belongs to what was there then",
            fix=f"force=true to do it again, or the {other[0]} as before",
        )


@cache
def _data_hashes(node: str) -> dict[str, str]:
    from tser_lightning.cli.build import instantiate
    from tser_lightning.cli.built import data_hashes

    return data_hashes(instantiate(json.loads(node)))


def _distilled(run: Run, home: RunDirectory) -> dict[str, Any]:
    from tser_lightning.cli.built import built
    from tser_lightning.cli.logbook import log_run, opened_log
    from tser_lightning.tracking.provenance import provenance
    from tser_lightning.tracking.weights_and_biases import warned_of

    with home.restored_at_failure():
        parts = built(run.config, run.choices["teacher"])  # all mistakes show before there is a run directory
    about = provenance(run.overrides) | {"settings": _about(run)}
    with (
        home.opened(run.config, about, inputs=parts.fingerprints() | code_hashes(targets(run.config))),
        opened_log(run, home.path) as logged,
    ):
        result = _train(run, home, parts, logged)
        home.finish(result)  # before all else that could fail: nothing below is worth the training
        if run.config["measure"] == "full":
            _measure_fully(home, parts)
        if logged is not None:
            with warned_of("W&B did not take all of the result"):
                log_run(logged, run, home.path, result)
    return result


def _train(run: Run, home: RunDirectory, parts: "Built", logged: Any) -> dict[str, Any]:
    from tser_lightning.tracking.weights_and_biases import lightning_logger
    from tser_lightning.training import examine, fit, save_network

    config = run.config
    numbers = fit(
        parts.student,
        parts.loss,
        parts.teacher,
        parts.data,
        home.checkpoints,
        recipe=parts.recipe,
        machine=parts.machine,
        seed=config["seed"],
        selection=config["selection"],
        loggers=[] if logged is None else [lightning_logger(logged)],
        log_every=config["logging"]["every_n_steps"],
        callbacks=parts.callbacks,
        record=home.record,
    )
    measured = examine(parts.student, parts.teacher, parts.data, "test", recipe=parts.recipe, machine=parts.machine)
    save_network(parts.student, home.path / "student.safetensors", student_card(config, parts.data))
    return {**_about(run), **_selected(run, home), **_named(measured), **numbers}


def _selected(run: Run, home: RunDirectory) -> dict[str, Any]:
    """What a search goes by, without the test split; and that the last epoch counts, if none was chosen.

    Nothing is validated where a callback ends the training before the first validation.
    """
    from tser_lightning.training.fit import FOLLOWED

    followed = FOLLOWED[run.config["selection"]]
    found = [float(row[f"{followed}/acc"]) for row in home.metrics() if row.get(f"{followed}/acc")]
    if followed and not found:
        log.warning("the training ended before its first validation: the last epoch is measured, as selection=last")
        return {"selection": "last"}
    return {"val/best_acc": max(found)} if followed == "val" else {}


def _about(run: Run) -> dict[str, Any]:
    """What a run is, in result.json and, from the start, in run.json."""
    return {
        **{key: run.choices[key] for key in ("experiment", "loss", "student", "teacher", "neuron", "norm", "data")},
        **({} if run.config["debug"]["steps"] is None else {"debug": run.choices["debug"]}),
        **run.changed,
        "seed": run.config["seed"],
        "selection": run.config["selection"],
    }


def _measure_fully(home: RunDirectory, parts: "Built") -> None:
    from safetensors.torch import save_file

    from tser_lightning.durable import replacing, write_json
    from tser_lightning.training.full_measures import full_measures

    measures, features = full_measures(parts.student, parts.teacher, parts.loss, parts.data)
    write_json(home.path / "measures.json", measures)
    with replacing(home.path / "features.safetensors") as beside:
        save_file(features, beside)


def _named(measured: Mapping[str, float]) -> dict[str, float]:
    """Put measures under `test/`, what is the teacher's own under `teacher/`."""
    return {
        f"teacher/{name.removeprefix('teacher_')}" if name.startswith("teacher_") else f"test/{name}": value
        for name, value in measured.items()
    }


def student_card(config: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """What is needed to build a student again from its weights alone."""
    return {
        "student": config["student"],
        "neuron": config["neuron"],
        "norm": config["norm"],
        "num_classes": data.num_classes,
        "shape": list(data.shape),
        "mean": list(config["data"].get("mean") or []),
        "std": list(config["data"].get("std") or []),
    }


def teach(run: Run) -> dict[str, Any]:
    """Train the teacher alone, so that later runs find it."""
    from tser_lightning.cli.build import build_data, build_machine
    from tser_lightning.cli.built import use_cpu
    from tser_lightning.cli.teachers import obtain_teacher
    from tser_lightning.training import Once, examine

    use_cpu(run.config)
    data = build_data(run.config)
    data.verify()
    teacher = obtain_teacher(run.config, run.choices["teacher"], data)
    if teacher is None:
        raise Mistake(
            what="there is no teacher to train", why="teacher=none was chosen", fix="teacher=resnet34, for example"
        )
    scores = examine(Once(teacher.net), None, data, "test", machine=build_machine(run.config))
    log.info("teacher %s on %s: %.2f %% (test)", run.choices["teacher"], data.name, scores["acc"])
    return {"teacher": run.choices["teacher"], "data": data.name, "teacher/acc": scores["acc"]}


def evaluate(run: Run) -> dict[str, Any]:
    """Measure a finished run's student on the test split again, at any number of time steps."""
    from tser_lightning.durable import write_json
    from tser_lightning.training import examine

    home = RunDirectory(run.config["run"])
    result = home.result() or {}
    parts = _finished(home, run)
    parts.student.timesteps = run.given.get("student.timesteps", parts.student.timesteps)
    scores = examine(parts.student, parts.teacher, parts.data, "test", recipe=parts.recipe, machine=parts.machine)
    measured = _named(scores)
    if run.config["measure"] == "full":
        _measure_fully(home, parts)
    kept = {key: value for key, value in result.items() if "/" not in key}
    again = {**kept, "student.timesteps": parts.student.timesteps, **measured}
    write_json(home.path / f"evaluation_t{parts.student.timesteps}.json", again)
    Console().print(steps_table([again]))
    return again


def _finished(home: RunDirectory, run: Run) -> "Built":
    """The parts of a finished run, with its trained student."""
    from tser_lightning.cli.api import load_student
    from tser_lightning.cli.built import built
    from tser_lightning.tracking.first_version import terms_alone

    config = received(home.path / "config.yaml") | {"machine": run.config["machine"]}
    moved = {key.partition(".")[2]: value for key, value in run.given.items() if key in ("data.root", "data.path")}
    config["data"] = {**config["data"], **moved}
    config["loss"] = terms_alone(config["loss"])
    student = load_student(home.path / "student.safetensors")
    parts = built(config, (home.result() or {}).get("teacher", "teacher"))
    parts.student = student
    return parts


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


def prepare(run: Run) -> dict[str, Any]:
    """Build the prepared form of a data set."""
    from tser_lightning.cli.build import instantiate

    data = instantiate(run.config["data"])
    data.prepare()
    log.info("%s is ready", data.name)
    return {"data": data.name}


def report(run: Run) -> dict[str, Any]:
    """Compare finished runs: a page, tables and figures."""
    from tser_lightning.cli.logbook import dashboard_of, publish_report
    from tser_lightning.report.write import write_report

    dashboard = dashboard_of(run)  # a mistake in it shows before the work
    settings = run.config["report"]
    files = write_report(run.config["runs"], settings["dir"], settings["baseline"])
    log.info("report: %s", files[0])
    place = publish_report(run, files, dashboard)
    if place is not None:
        log.info("dashboard: %s", place)
    return {"report": str(files[0])}


TASKS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "distill": distill,
    "teach": teach,
    "evaluate": evaluate,
    "prepare": prepare,
    "report": report,
}
