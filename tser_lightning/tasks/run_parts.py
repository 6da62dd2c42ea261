"""Build the parts of a run (data, student, teacher, loss) before it has a directory, so that mistakes show first."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.deploy.weights import start_student, weights_file
from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import needs_teacher
from tser_lightning.models import Student
from tser_lightning.records.run_directory import TEST_IMAGES, TRAINING_IMAGES
from tser_lightning.registry import build
from tser_lightning.tasks.build_training import build_callbacks, build_machine, build_recipe
from tser_lightning.tasks.teachers import obtain_teacher
from tser_lightning.training import Machine, Recipe, Teacher
from tser_lightning.training.evaluation_memory import bound_evaluation
from tser_lightning.training.loss_context import check_needs
from tser_lightning.training.online import check_online
from tser_lightning.training.probe import probe
from tser_lightning.training.sharding import strategy_for
from tser_lightning.training.speed import check_speed, keep_freed_memory
from tser_lightning.training.trainer import quiet_lightning

STARTING_WEIGHTS, TEACHERS_FILE = "weights that the student starts from", "file of the teacher's weights"


@dataclass
class RunParts:
    """The parts of a run; `files` are the hashes of the files of weights that went into them."""

    data: Any
    student: Student
    loss: nn.Module
    teacher: Teacher | None
    recipe: Recipe
    machine: Machine
    callbacks: list[Any]
    files: Mapping[str, str] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str]:
        """Hash what the result depends on besides the config."""
        teacher = {} if self.teacher is None else {"teacher": self.teacher.fingerprint()}
        return {**data_hashes(self.data), **teacher, **self.files}


def data_hashes(data: Any) -> dict[str, str]:
    """Hash the images that a result depends on, by the names that messages use.

    Runs that began before the parts were told apart are compared by the hash of all, "data".
    """
    parts = data.fingerprints()
    return {"data": data.fingerprint(), TRAINING_IMAGES: parts["train"], TEST_IMAGES: parts["test"]}


def built(config: Mapping[str, Any], teacher_name: str) -> RunParts:
    """Build the parts of a run; the teacher comes last, because it may have to be trained.

    Args:
        config: The resolved config.
        teacher_name: For file names and messages.

    Raises:
        UsageError: A part that cannot be made, or two that do not go together.
    """
    use_cpu(config)
    machine = build_machine(config)
    recipe = build_recipe(config["trainer"], config["optim"], config["schedule"], config["debug"]["steps"])
    check_machine(recipe, machine)
    callbacks, loss, data = build_callbacks(config), build.build_loss(config), build.build_data(config)
    if config["selection"] == "val":
        data.indices("val")  # there are some
    data.verify()
    if needs_teacher(loss) and not config["teacher"].get("_target_"):
        raise UsageError(
            what="this loss compares with a teacher, and there is none",
            why="teacher=none leaves nothing to distil from",
            fix="teacher=resnet_small, for example, or a loss without a teacher: loss=tet",
        )
    check_needs(loss, recipe)
    torch.manual_seed(config["seed"])
    with arguments_as_settings("student", config["student"]):
        student = build.build_student(config, num_classes=data.num_classes, in_channels=data.shape[0])
    check_online(student, loss, recipe, machine)
    teacher = obtain_teacher(config, teacher_name, data)
    if config["student"]["weights"] is not None:
        start_student(student, config["student"]["weights"], card_of(config, data), teacher and teacher.net)
    seed, through_time = config["seed"], recipe.through_time
    probe(student, loss, teacher, data, machine=machine, seed=seed, through_time=through_time)
    bound_evaluation(student, teacher, data, machine)
    return RunParts(data, student, loss, teacher, recipe, machine, callbacks, weights_hashes(config))


def weights_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """Hash the files of weights that a result depends on, by the names that messages use; those that lie here."""
    teacher = config["teacher"].get("weights")
    files = {
        STARTING_WEIGHTS: weights_file(config["student"]["weights"]),
        TEACHERS_FILE: None if teacher == "train" else weights_file(teacher),
    }
    return {name: sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file and file.is_file()}


def card_of(config: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Make the card of a student: what is needed to build it again from its weights and to feed it images."""
    return {
        "student": config["student"],
        "neuron": config["neuron"],
        "norm": config["norm"],
        "num_classes": data.num_classes,
        "classes": list(data.classes) if data.classes else None,
        "shape": list(data.shape),
        "frames": getattr(data, "timesteps", None),  # of a recording; None: images, shown at every step
        "resize": getattr(data, "resize", None),
        "mean": list(config["data"].get("mean") or []),
        "std": list(config["data"].get("std") or []),
    }


def use_cpu(config: Mapping[str, Any]) -> None:
    """Set torch's threads as the config says, and keep freed memory for reuse unless memory is short."""
    threads = config["machine"].get("threads", "auto")
    if threads != "auto":
        torch.set_num_threads(threads)
    if config["machine"].get("memory", "auto") == "auto":
        keep_freed_memory()


def check_machine(recipe: Recipe, machine: Machine) -> None:
    """Raise a `UsageError` if the machine, or Lightning on it, cannot do what the config asks for."""
    check_speed(recipe, machine)
    if machine.num_nodes > 1 and not ("MASTER_ADDR" in os.environ or SLURMEnvironment.detect()):
        raise UsageError(
            what=f"machine.num_nodes={machine.num_nodes}, and nothing says where the other machines are",
            why="torchrun or Slurm starts the processes of each and tells them of each other; this one would wait",
            fix=f"torchrun --nnodes={machine.num_nodes} --node_rank=RANK --nproc_per_node=GPUS "
            "--master_addr=FIRST_MACHINE -m tser_lightning ... on each, or srun inside of sbatch",
        )
    quiet_lightning()
    try:
        pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.num_nodes,
            strategy=strategy_for(machine),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UsageError(
            what=f"this machine does not offer what is asked of it: {' '.join(str(error).split())[:200]}",
            why=f"machine.accelerator={machine.accelerator} machine.devices={machine.devices} "
            f"machine.num_nodes={machine.num_nodes} machine.strategy={machine.strategy}",
            fix="machine.accelerator=auto machine.devices=auto machine.num_nodes=1 machine.strategy=auto",
        ) from error
