"""Train a student, and measure a trained one: `fit` and `evaluate_network`."""

import contextlib
import copy
import dataclasses
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.image_data import ImageData, Split
from tser_lightning.operating_system import peak_resident_mib
from tser_lightning.training.checkpoints import (
    Checkpoints,
    DurableCheckpoints,
    checkpoint_to_resume,
    load_chosen,
    read_sealed,
)
from tser_lightning.training.distiller import Distiller, Row
from tser_lightning.training.evaluation import Evaluation
from tser_lightning.training.exit_handling import StopsAtSigterm, translated_exits
from tser_lightning.training.precision import check_precision
from tser_lightning.training.probe import probe
from tser_lightning.training.progress import progress_callbacks
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.sharding import check_sharding, is_sharded, strategy_for
from tser_lightning.training.speed import prepare_student
from tser_lightning.training.teacher import SingleStep, Teacher

log = logging.getLogger("tser_lightning")

FOLLOWED: dict[str, Split | None] = {
    "val": "val",
    "paper": "test",
    "last": None,
}  # selection -> split that is followed during training


class _NoProfiler(PassThroughProfiler):
    """A profiler that does nothing; Lightning's own costs a context manager for each of fifty calls in a step."""

    _nothing = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.nullcontext[None]:  # type: ignore[override]
        """Measure nothing."""
        return self._nothing


def _trainer(recipe: Recipe, machine: Machine, folder: Path | None, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        strategy=strategy_for(machine),
        precision=recipe.precision,  # type: ignore[arg-type]
        default_root_dir=folder,
        limit_train_batches=recipe.steps,
        limit_test_batches=recipe.steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the loaders split the order themselves, the same for any number of processes
        enable_model_summary=False,
        plugins=[DurableCheckpoints(), *_slurm()],
        profiler=_NoProfiler(),
        **settings,
    )


def _slurm() -> list[ClusterEnvironment]:
    """Inside Slurm: Lightning starts the processes of a job of one task; how a job is requeued is not its business.

    It would save in the middle of a step, wherever the signal finds it.
    """
    if not SLURMEnvironment.detect():
        return []
    return [LightningEnvironment() if os.environ.get("SLURM_NTASKS") == "1" else SLURMEnvironment(auto_requeue=False)]


def quiet_lightning() -> None:
    """Keep what Lightning says of itself out of the log: tips, device lists, worker advice."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (".*does not have many workers.*", ".*treespec.*", ".*LeafSpec.*", ".*Checkpoint directory.*exists.*"):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", ".*The number of training batches.*")
    warnings.filterwarnings("ignore", ".*val_dataloader.*")
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # the numbers are those of all processes already
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # the Distiller puts it where it was


def fit(
    student: nn.Module,
    loss: nn.Module,
    teacher: Teacher | None,
    data: ImageData,
    folder: Path,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    machine: Machine = Machine(),  # noqa: B008 - frozen
    seed: int = 1,
    selection: str = "val",
    loggers: Sequence[Logger] = (),
    log_every: int = 50,
    callbacks: Sequence[Callback] = (),
    record: Callable[[Row], None] = lambda row: None,
    probed: bool = False,
) -> dict[str, float]:
    """Train a student, resume from `folder/last.ckpt` if there is one, and leave the selected epoch's weights in it.

    Args:
        student: Images to logits_TBC; trained in place.
        loss: What it learns from; see `tser_lightning.losses`.
        teacher: Frozen; may be None where the loss needs none.
        data: The image set; its own batch size and augmentation.
        folder: Where the checkpoints lie; an empty one begins anew.
        recipe: How to train: epochs, optimiser, schedule, precision.
        machine: What it may use of the machine.
        seed: Of order, augmentation and random numbers during training.
        selection: "val": the epoch with the best validation accuracy; "last"; "paper": the best on the test split, the
            habit of the field.
        loggers: Lightning loggers that get the curves besides `record`.
        log_every: Steps between two entries of the loss in the loggers.
        callbacks: Lightning callbacks of the user.
        record: Called with the numbers of every epoch.
        probed: Whether `probe` has seen these parts already; it calls them a dozen times.

    Returns:
        `train/seconds` (of all processes that had a part in it) and `train/peak_memory_mb` (of this one).

    Raises:
        RunError: A loss that is NaN or infinite, a full disk, too little memory.
        UsageError: Data that cannot be read; a part that does not do what the others rely on, see `probe`.
        Terminated: SIGTERM; everything up to the last training step is in the checkpoint.
        KeyboardInterrupt: Ctrl-C; everything up to the last checkpoint is kept.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import tser_lightning as tl
        >>> from tser_lightning.data import Synthetic
        >>> from tser_lightning.training import Machine, Recipe
        >>> images = Synthetic(10, [1, 8, 8], train_images=40, test_images=20, batch_size=10)
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
        >>> recipe, machine = Recipe(epochs=1, precision="32-true"), Machine(accelerator="cpu", workers=0)
        >>> with TemporaryDirectory() as folder:
        ...     told = fit(student, tl.build_loss("ce"), None, images, Path(folder), recipe=recipe, machine=machine)
        >>> "train/seconds" in told
        True
    """
    quiet_lightning()
    sharded = is_sharded(machine)
    if sharded:
        check_sharding(student, loss, recipe)
    split = FOLLOWED[selection]
    if not probed:
        probe(student, loss, teacher, data, machine=machine, seed=seed, through_time=recipe.through_time)
    images = ImageDataModule(data, seed=seed, selection=split, workers=machine.workers)
    learner = copy.deepcopy(student) if sharded else student  # the caller's own stays whole
    distiller = Distiller(learner, loss, teacher, recipe=recipe, seed=seed, machine=machine, record=record)
    kept = Checkpoints(folder, f"{split}/acc" if split else None, machine.checkpoint_every)
    shown = progress_callbacks()
    trainer = _trainer(
        recipe,
        machine,
        folder,
        max_epochs=recipe.epochs,
        limit_val_batches=recipe.steps if split else 0,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in shown),
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip,
        check_val_every_n_epoch=recipe.validate_every,
        log_every_n_steps=log_every,
        logger=list(loggers) or False,
        callbacks=[*shown, kept, StopsAtSigterm(), *callbacks],
    )
    check_precision(recipe.precision, trainer.strategy.root_device)
    last = checkpoint_to_resume(folder)
    if last is not None:
        log.info("resuming from %s", last)
        if sharded:  # Lightning reads it too late for the order of the data
            distiller.restore_loop_state(read_sealed(last)["standing"])
    with translated_exits(trainer):
        trainer.fit(distiller, datamodule=images, ckpt_path=last)
    seconds = load_chosen(student, folder)
    peak = peak_memory_mb()
    return {"train/seconds": round(seconds, 2), **({} if peak is None else {"train/peak_memory_mb": peak})}


def evaluate_network(
    student: nn.Module,
    teacher: Teacher | None,
    data: ImageData,
    split: Split = "test",
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    machine: Machine = Machine(),  # noqa: B008 - frozen
) -> dict[str, float]:
    """Measure a student, and its teacher beside it, on a split.

    Args:
        student: Images to logits_TBC; an ANN inside `SingleStep`.
        teacher: Frozen; None leaves out what compares with it.
        data: The image set, normalised as the student knows it.
        split: "train", "val" or "test".
        recipe: Its precision, and its `steps` for a trial.
        machine: What it may use of the machine.

    Returns:
        The measures by name, without the split: those of `StudentMeasures`, `Firing.measures` and
        `student_energy`; with a teacher also those of `teacher_energy`.

    Examples:
        >>> import tser_lightning as tl
        >>> from tser_lightning.data import Synthetic
        >>> from tser_lightning.training import Machine
        >>> images = Synthetic(10, [1, 8, 8], train_images=40, test_images=20, batch_size=10)
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
        >>> found = evaluate_network(student, None, images, machine=Machine(accelerator="cpu", workers=0))
        >>> [name for name in found if name.startswith("acc_")], found["energy_mj"] > 0
        (['acc_t1', 'acc_t2', 'acc_step1', 'acc_step2'], True)
    """
    quiet_lightning()
    trainer = _trainer(
        recipe,
        dataclasses.replace(machine, strategy="ddp") if is_sharded(machine) else machine,
        None,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[StopsAtSigterm()],
    )
    for network in (student, *([] if teacher is None else [SingleStep(teacher.net)])):
        prepare_student(
            network, recipe, machine, data.shape, trainer.strategy.root_device
        )  # the bits of a training's own evaluations
    with tempfile.TemporaryDirectory() as folder, translated_exits(trainer):
        answer = Path(folder, "result.json")
        evaluation = Evaluation(student, teacher, ImageDataModule(data, workers=machine.workers), split, answer)
        trainer.test(evaluation, verbose=False)
        # Processes that Lightning forks end with their own copy of the evaluation.
        result: dict[str, float] = evaluation.result or json.loads(answer.read_text())
    return result


def peak_memory_mb() -> float | None:
    """Largest memory of this process so far in MiB: the GPU's where one is used, else resident memory if it is told."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    resident = peak_resident_mib()
    return None if resident is None else round(resident, 1)
