"""`task=distill`: train a student from its teacher. Imports no torch before it is known that there is work to do."""

import logging
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tser_lightning.config.run import Run
from tser_lightning.errors import Pruned
from tser_lightning.records.decisions import forget_decisions
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.source_code import code_hashes
from tser_lightning.registry.targets import targets
from tser_lightning.report.table import steps_table
from tser_lightning.tasks.competition import Competition, competition_of
from tser_lightning.tasks.evaluate import finished, is_still_true, measure_fully, scores

if TYPE_CHECKING:
    from tser_lightning.tasks.logbook import Logbook
    from tser_lightning.tasks.run_parts import RunParts

log = logging.getLogger("tser_lightning")


def distill(run: Run) -> dict[str, Any]:
    """Train a student from its teacher, or give the result of the same run if it is finished.

    Returns:
        The content of result.json; what the run is and no numbers, if its sweep has ended it early.
    """
    home, competition = RunDirectory(run.home), competition_of(run)
    if run.config["force"]:
        home.set_aside()
    result = home.result()
    if result is None:
        try:
            result = _distilled(run, home, partial(_train, run, home, competition))
        except Pruned as pruned:
            log.info("pruned: %s; the same command with prune=none goes on from here", pruned)
            return run.settings
    elif is_still_true(home, run):
        log.info("%s is finished; force=true does it again", home.path)
        if run.config["measure"] == "full" and not (home.path / "measures.json").exists():
            measure_fully(home, finished(home, run))
    else:
        result = _distilled(run, home, partial(_measured_again, home, result))
    Console().print(steps_table([result]))
    log.info("records: %s", home.path)
    return result


def _distilled(run: Run, home: RunDirectory, do: Callable[["RunParts", "Logbook"], dict[str, Any]]) -> dict[str, Any]:
    """Train and measure a student while its run directory is locked, and write the result."""
    from tser_lightning.records.provenance import provenance
    from tser_lightning.records.weights_and_biases import import_wandb
    from tser_lightning.tasks.logbook import log_run, opened_logbook, wandb_settings

    if wandb_settings(run)["mode"] != "disabled":
        import_wandb()
    from tser_lightning.tasks.run_parts import built

    with home.restored_at_failure():
        parts = built(run.config, run.choices["teacher"])  # all mistakes show before there is a run directory
    about = provenance(run.overrides) | {"settings": run.settings}
    killed = home.info().get("status") == "running"
    with (
        home.opened(run.config, about, inputs=parts.fingerprints() | code_hashes(targets(run.config))),
        opened_logbook(run, home.path) as logbook,
    ):
        if killed:
            logbook.log_again(home.metrics())
        result = do(parts, logbook)
        home.finish(result)  # before all else that could fail: nothing below is worth the training
        if run.config["measure"] == "full":
            measure_fully(home, parts)
        log_run(logbook, run, home.path, result)
        home.drop_spare(run.config["machine"]["keep"])
    return result


def _measured_again(home: RunDirectory, result: Mapping[str, Any], parts: "RunParts", _: Any) -> dict[str, Any]:
    """Measure a finished run's student again, since the test images have changed; it is not trained again."""
    from tser_lightning.training import load_weights

    load_weights(parts.student, home.path / "student.safetensors")
    for measured in ("measures.json", "features.safetensors"):
        (home.path / measured).unlink(missing_ok=True)
    return {**result, **scores(parts)}


def _train(
    run: Run, home: RunDirectory, competition: Competition | None, parts: "RunParts", logbook: "Logbook"
) -> dict[str, Any]:
    from tser_lightning.tasks.run_parts import card_of
    from tser_lightning.training import fit, save_network
    from tser_lightning.training.pruning import Pruning

    config = run.config
    if competition is None:
        forget_decisions(home.path)
    else:
        competition.check()
    _settle_backend(home, parts)
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
        loggers=logbook.loggers(),
        log_every=config["logging"]["every_n_steps"],
        callbacks=parts.callbacks if competition is None else [*parts.callbacks, Pruning(competition.stops)],
        record=home.record,
        probed=True,  # before there was a run directory
    )
    if competition is not None:
        competition.check()  # what is on the disk: processes that Lightning forks do not give their answer back
    measured = scores(parts)
    save_network(parts.student, home.path / "student.safetensors", card_of(config, parts.data))
    return {**run.settings, **_selected(run, home), **measured, **numbers, **_seconds_per_step(home)}


def _seconds_per_step(home: RunDirectory) -> dict[str, float]:
    """Compute the median over epochs of the seconds per optimiser step, which a start or a pause does not move."""
    found, before = [], 0
    for row in home.metrics():
        steps, before = int(row["step"]) - before, int(row["step"])
        if row.get("seconds") and steps > 0:
            found.append(float(row["seconds"]) / steps)
    return {"train/seconds_per_step": round(statistics.median(found), 4)} if found else {}


def _settle_backend(home: RunDirectory, parts: "RunParts") -> None:
    """Set the backend of the neurons: the one that this run began with, or, at its start, the faster one."""
    from tser_lightning.training.backend_choice import check_compiled, faster_backend, is_open, use_backend
    from tser_lightning.training.checkpoints import checkpoint_to_resume

    if not is_open(parts.student, parts.machine):
        return
    how = (parts.student, parts.data, parts.recipe, parts.machine)
    name = home.info().get("backend")
    if name is None:  # a run with checkpoints began when eager was all there was
        name = faster_backend(*how) if checkpoint_to_resume(home.checkpoints) is None else "eager"
        home.keep_backend(name)
    elif name == "compiled":
        check_compiled(*how)
    use_backend(parts.student, name)


def _selected(run: Run, home: RunDirectory) -> dict[str, Any]:
    """Give the best validation accuracy, by which a search selects; log that the last epoch counts if none was chosen.

    Nothing is validated where a callback ends the training before the first validation.
    """
    from tser_lightning.training.trainer import FOLLOWED

    followed = FOLLOWED[run.config["selection"]]
    found = [float(row[f"{followed}/acc"]) for row in home.metrics() if row.get(f"{followed}/acc")]
    if followed and not found:
        log.warning("the training ended before its first validation: the last epoch is measured, as selection=last")
        return {"selection": "last"}
    return {"val/best_acc": max(found)} if followed == "val" else {}
