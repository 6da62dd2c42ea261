"""Obtain a teacher: from a file, a zoo, or a training whose weights are kept."""

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.data.image_data import Split
from tser_lightning.errors import UsageError
from tser_lightning.losses import CrossEntropy, DistillationLoss
from tser_lightning.models import InputAdapter, begin_from, from_timm, from_torchvision
from tser_lightning.records.identity import identity
from tser_lightning.records.provenance import provenance
from tser_lightning.records.run_directory import TRAINING_IMAGES, RunDirectory
from tser_lightning.registry.build import build_teacher_network
from tser_lightning.tasks.build_training import build_machine, build_recipe
from tser_lightning.training import (
    Machine,
    Recipe,
    SingleStep,
    Teacher,
    check_teacher,
    evaluate_network,
    fit,
    load_weights,
)
from tser_lightning.training.checkpoints import save_network
from tser_lightning.training.probe import probe_teacher
from tser_lightning.training.teacher_input import better_input

log = logging.getLogger("tser_lightning")


def obtain_teacher(config: Mapping[str, Any], name: str, data: Any) -> Teacher | None:
    """Load or train the teacher of a config; it is frozen, and refused if it is no better than chance.

    Args:
        config: The resolved config.
        name: Of the teacher, for file names and messages.
        data: The data set that it must know.

    Raises:
        UsageError: Weights that are missing, damaged, of another class count, or no better than chance.
    """
    node = config["teacher"]
    if not node.get("_target_"):
        return None
    weights = node["weights"]
    scheme, _, model = str(weights).partition(":")
    if weights is None:
        log.warning("the teacher is untrained (teacher.weights=null): good for tests alone")
        teacher = Teacher(_network(config, data))
        probe_teacher(teacher, data, name, build_machine(config))
        return teacher
    if weights == "train":
        network = _trained(config, name, data)
    elif scheme in ("torchvision", "timm"):
        network = _fitted(_from_zoo(scheme, model), data)
    else:
        network = _network(config, data)
        load_weights(network, weights)
    teacher = Teacher(network)
    _check(teacher, config, str(weights) if weights != "train" else name, data)
    return teacher


def kept_teacher(folder: Path, config: Mapping[str, Any], name: str, data: Any, digest: str | None) -> Teacher | None:
    """Find a teacher that was trained before by the hash of its weights, whatever the data are now.

    Args:
        folder: Folder of the trained teachers.
        config: The resolved config of the run that it taught.
        name: Of the teacher, as file names have it.
        data: The data set, for the number of classes and of channels.
        digest: Its `Teacher.fingerprint`.
    """
    for weights in sorted(folder.glob(f"{name}-*/teacher.safetensors")):
        network = _network(config, data)
        try:
            load_weights(network, weights)
        except UsageError:  # another size of this architecture
            continue
        teacher = Teacher(network)
        if teacher.fingerprint() == digest:
            return teacher
    return None


def _network(config: Mapping[str, Any], data: Any) -> nn.Module:
    with arguments_as_settings("teacher", config["teacher"]):
        network = build_teacher_network(config["teacher"], num_classes=data.num_classes, in_channels=data.shape[0])
    return _fitted(network, data)


def _fitted(network: nn.Module, data: Any) -> nn.Module:
    """Set the normalisation of the data on the `InputAdapter` of a network of a zoo."""
    adapter = getattr(network, "input_adapter", None)
    channels = data.shape[0]  # of a frame; the frames of a recording all have the same mean
    if isinstance(adapter, InputAdapter) and len(adapter.mean) == channels:
        adapter.images_have(data.augment.mean[:channels], data.augment.std[:channels])
    return network


def _check(teacher: Teacher, config: Mapping[str, Any], name: str, data: Any) -> None:
    probe_teacher(teacher, data, name, build_machine(config))
    if config["debug"]["steps"] is None:
        split: Split = "val" if config["selection"] == "val" else "test"
        scores = evaluate_network(SingleStep(teacher.net), None, data, split, machine=build_machine(config))
        if not math.isfinite(scores["entropy"]):
            raise UsageError(
                what=f"the teacher {name} gives logits that are not finite for some images of {data.name} ({split})",
                why="a loss that compares with it is not a number at such an image",
                fix="weights and operations that are finite for all images (no log of 0, no division by 0)",
            )
        log.info("teacher %s: %.2f %% on %s (%s)", name, scores["acc"], data.name, split)
        better = None if config["teacher"]["weights"] == "train" else better_input(teacher, data)
        try:
            with arguments_as_settings("teacher", config["teacher"]):
                check_teacher(scores["acc"], data.num_classes, name)
        except UsageError as error:
            raise UsageError(error.what, str(better), better.fix) if better else error from None
        if better:
            log.warning("the images may not be as the teacher %s expects them: %s; try %s", name, better, better.fix)


def _trained(config: Mapping[str, Any], name: str, data: Any) -> nn.Module:
    node = config["teacher"]
    of_data = {key: value for key, value in config["data"].items() if key != "root"}
    settings: dict[str, Any] = {
        "teacher": {key: value for key, value in node.items() if key != "weights"},
        "data": of_data | {"fingerprint": data.fingerprint()},
        "selection": config["selection"] == "val",
        "debug": config["debug"],
    }
    called = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{name}-{data.name}")[:80]  # a set's name is the user's: no path
    teachers = Path(config["machine"]["runs_dir"], "teachers")
    home = RunDirectory(teachers / f"{called}-{identity(settings)}")
    if not home.path.is_dir():  # an earlier version called the user's own architectures "custom"
        home = RunDirectory(next(teachers.glob(f"*-{identity(settings)}"), home.path))
    inputs = {TRAINING_IMAGES: data.fingerprints()["train"]}
    if (home.path / "teacher.safetensors").exists() and home.other_inputs(inputs):
        settings["data"] |= inputs  # images of the same names and sizes, and others all the same
        home = RunDirectory(home.path.with_name(f"{called}-{identity(settings)}"))
    home = _of_same_training(home, settings, inputs)
    weights = home.path / "teacher.safetensors"
    torch.manual_seed(node["seed"])
    network = _network(config, data)
    if not weights.exists():
        with home.opened(settings, provenance([]), wait=True, inputs=inputs):
            if not weights.exists():  # another process may have trained it while this one waited
                _train(network, config, name, data, home)
                if torch.distributed.is_initialized():
                    torch.distributed.barrier()  # the first process has written it when the others read it
    load_weights(network, weights)
    return network


def _of_same_training(home: RunDirectory, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> RunDirectory:
    """Find a teacher that differs in the test images alone, which it was not trained on; `home` if there is none."""
    if (home.path / "teacher.safetensors").exists():
        return home
    stem = home.name.rpartition("-")[0]
    for file in sorted(home.path.parent.glob(f"{stem}-*/teacher.safetensors")):
        other = RunDirectory(file.parent)
        if (other.info().get("inputs") or {}) != inputs:
            continue
        before = yaml.safe_load((other.path / "config.yaml").read_text())
        if identity(before | {"data": before["data"] | {"fingerprint": None}}) == identity(
            {**settings, "data": settings["data"] | {"fingerprint": None}}
        ):
            return other
    return home


def _train(network: nn.Module, config: Mapping[str, Any], name: str, data: Any, home: RunDirectory) -> None:
    node, machine = config["teacher"], build_machine(config)
    steps = config["debug"]["steps"]
    recipe = build_recipe(node["training"], node["training"]["optim"], node["training"]["schedule"], steps)
    log.info("training the teacher %s on %s for %d epochs; it is kept in %s", name, data.name, recipe.epochs, home.path)
    _start(network, node["training"].get("start", "random"), trial=steps is not None)
    student = SingleStep(network)
    numbers = _fit(student, data, home, recipe, machine, node["seed"])
    scores = evaluate_network(student, None, data, "test", recipe=recipe, machine=machine)
    save_network(network, home.path / "teacher.safetensors", {"teacher": dict(node), "num_classes": data.num_classes})
    home.finish(numbers | {"test/acc": scores["acc"], "teacher": name, "data": data.name})


def _fit(
    student: SingleStep, data: Any, home: RunDirectory, recipe: Recipe, machine: Machine, seed: int
) -> dict[str, float]:
    loss = DistillationLoss({"ce": CrossEntropy()})
    return fit(
        student,
        loss,
        None,
        data,
        home.checkpoints,
        recipe=recipe,
        machine=machine,
        seed=seed,
        selection="last",
        record=home.record,
    )


def _start(network: nn.Module, start: str, trial: bool) -> None:
    """Begin from a zoo's weights, but for a classifier of other classes (fine-tuning)."""
    if start == "random":
        return
    if trial:
        log.warning("a trial: the teacher starts from random weights, not from %s", start)
        return
    scheme, _, model = start.partition(":")
    with arguments_as_settings("teacher.training", {"start": start}):
        begin_from(network, _from_zoo(scheme, model), start)


def _from_zoo(scheme: str, model: str) -> nn.Module:
    try:
        if scheme == "torchvision":
            return from_torchvision(model)
        return from_timm(model, pretrained=True)
    except UsageError:
        raise
    except Exception as error:  # whatever a download, or what it brings, can raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UsageError(
            what=f"{scheme} gives no weights for {model!r}: {reason}",
            why="the download failed, or there are none",
            fix="another name, or a file of weights that lies here: teacher.weights=PATH",
        ) from error
