"""The training of a student by a teacher, as a LightningModule.

Legend: T time step, B image, C class, H, W.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tser_lightning.data.batch import Batch
from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.image_data import ImageData, Split
from tser_lightning.errors import UsageError
from tser_lightning.losses import LossTerms
from tser_lightning.measure.student_measures import StudentMeasures
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.shared_statistics import shared_statistics
from tser_lightning.models.student import Student, timesteps_of
from tser_lightning.training.accumulated import AccumulatedGradients, share_of_the_last
from tser_lightning.training.ema import EMA
from tser_lightning.training.evaluation import Measurement
from tser_lightning.training.loop_state import LoopState, seed_step
from tser_lightning.training.loss_context import ContextBuilder, StepState, check_needs, fraction_done
from tser_lightning.training.nonfinite import LossGuard
from tser_lightning.training.online import check_online, online, warn_of_norms
from tser_lightning.training.optimizer import make_optimizer
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.sharding import shard, share_buffers
from tser_lightning.training.speed import compiled, prepare_student
from tser_lightning.training.teacher import Teacher
from tser_lightning.training.teacher_inference import TeacherInference, TeacherOutputs

log = logging.getLogger("tser_lightning")

Row = Mapping[str, float | int]


class Distiller(pl.LightningModule):
    """Trains a student with a loss, and with a teacher where the loss asks for one.

    The teacher is no submodule: it stays out of the optimiser, the checkpoint, `train()` and DDP. `fit` trains with it,
    and resumes where it was interrupted; any Trainer of Lightning gives the same weights.

    Args:
        student: Images to logits_TBC.
        loss: logits, teacher logits and labels to `LossTerms`.
        teacher: Frozen; may be None where the loss needs none.
        data: Where the batches come from, if not from a datamodule that the Trainer is given.
        recipe: How to train. `epochs`, `accumulate` and `clip` are the Trainer's own settings too.
        seed: Of the random numbers inside an epoch; with `data` also of its order and augmentation.
        selection: With `data`, the split whose accuracy is followed during training ("val" or "test"), or None.
        machine: What it may use of the machine.
        record: Called with the row of numbers of every finished epoch.

    Attributes:
        teacher_inference: Asks the teacher, or a file that knows its logits, for what the loss compares with.
        ema: The moving average of the student, where the recipe has one; it is what is validated and tested.
        values: The loss and its parts for the batch that is being trained on, by name.
        latest: The same as numbers, as they were read last.
        loop_state: How far the training is: epoch, batch, and the sums of the losses of this epoch.

    Raises:
        UsageError: The loss asks for what the recipe or the student does not have.

    Examples:
        >>> import lightning.pytorch as pl
        >>> import tser_lightning as tl
        >>> from tser_lightning.data import ImageDataModule, Synthetic
        >>> from tser_lightning.training import Recipe
        >>> images = ImageDataModule(Synthetic(10, [1, 8, 8], train_images=40, test_images=20, batch_size=10))
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
        >>> teacher = tl.build_teacher("cnn_small", in_channels=1, weights=None)
        >>> module = Distiller(student, tl.build_loss("tser"), teacher, recipe=Recipe(epochs=1))
        >>> names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        >>> quiet = dict.fromkeys(names, False)
        >>> trainer = pl.Trainer(accelerator="cpu", max_epochs=1, use_distributed_sampler=False, **quiet)
        >>> trainer.fit(module, datamodule=images)
        >>> trainer.global_step  # 40 images, of which 4 are held out, in whole batches of 10
        3
    """

    images: ImageDataModule
    measures: StudentMeasures
    _measurement: Measurement

    def __init__(
        self,
        student: nn.Module,
        loss: nn.Module,
        teacher: Teacher | None,
        data: ImageData | None = None,
        recipe: Recipe = Recipe(),  # noqa: B008 - frozen
        *,
        seed: int = 1,
        selection: Split | None = "val",
        machine: Machine = Machine(),  # noqa: B008 - frozen
        record: Callable[[Row], None] = lambda row: None,
    ) -> None:
        super().__init__()
        self.student, self.loss = student, loss
        self.teacher_inference = TeacherInference(teacher, loss)  # no module, so that the teacher is not registered
        self.recipe, self.machine, self.seed, self.record = recipe, machine, seed, record
        self._own_images = data and ImageDataModule(data, seed=seed, selection=selection, workers=machine.workers)
        self.ema = None if recipe.ema is None else EMA(student, recipe.ema)  # no submodule either
        check_needs(loss, recipe)
        check_online(student, loss, recipe, machine)
        self._context = ContextBuilder(loss, student, teacher)
        self._run = compiled(student, how=False)
        self.values: dict[str, Tensor] = {}
        self.latest: dict[str, float] = {}
        self.loop_state, self._guard, self._gradients = LoopState(), LossGuard(), AccumulatedGradients()
        self._measured: dict[str, float] = {}
        self._shares = self._is_materialised = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the name of each hook in one, forty times a step, which is no parameter."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def teacher(self) -> Teacher | None:
        """The frozen teacher."""
        return self.teacher_inference.teacher

    # ------------------------------------------------------------------ before the first batch
    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callbacks of every training: the guard against losses that are not finite, the average."""
        return [self._guard] if self.ema is None else [self._guard, self.ema]

    def setup(self, stage: str) -> None:
        """Choose where the batches come from: the Trainer's datamodule, else this module's data.

        Raises:
            TypeError: Neither this module nor the Trainer was given data.
        """
        images = getattr(self.trainer, "datamodule", None) or self._own_images
        if not isinstance(images, ImageDataModule):
            raise TypeError(
                f"datamodule={images!r} is no ImageDataModule: trainer.fit(module, datamodule=ImageDataModule(data)), "
                "or Distiller(student, loss, teacher, data)"
            )
        self.images, images.trainer = images, self.trainer
        images.resume_at(self.loop_state.epoch, self.loop_state.batch)
        self.measures = StudentMeasures(timesteps_of(self.student), images.data.num_classes)

    def configure_model(self) -> None:
        """Make the loss's trainable parts, prepare student and teacher for the machine, shard the student if asked."""
        self._materialise()
        prepare_student(
            self.student, self.recipe, self.machine, self.images.data.shape, self.trainer.strategy.root_device
        )
        if self.trainer.state.fn == "fit":
            self._share_statistics()
            self.teacher_inference.prepare(self.images, self.machine, self.recipe.precision)
            if not self.recipe.through_time and self.trainer.is_global_zero:
                warn_of_norms(self.student)
        if self.device_mesh is not None:
            shard(self.student, self.device_mesh)

    def _materialise(self) -> None:
        """Let the loss make what it trains itself (projections, a generator) from the shapes of the features, once."""
        if not self._context.looks_inside or self._is_materialised:
            return
        self._is_materialised = True
        training = self.student.training
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            self.student.eval()
            images_BCHW = torch.zeros(2, *self.images.data.shape, device=self.device)
            self._terms(Batch(images_BCHW, torch.zeros(2, dtype=torch.long), torch.arange(2)))
        self.student.train(training)

    def _share_statistics(self) -> None:
        """Let several processes normalise as one, or say what it means that they do not."""
        if self.trainer.world_size == 1:
            return
        self._shares = self.machine.sync_batchnorm
        if self._shares:
            allow_fusing(self.student, False)  # the fused norm knows this process alone
        elif self.trainer.is_global_zero and any(isinstance(module, _BatchNorm) for module in self.student.modules()):
            log.warning(
                "sync_batchnorm=False: batch normalisation sees the images of one process, 1 / %d of each "
                "batch: the result is another than with one process",
                self.trainer.world_size,
            )

    def configure_optimizers(self) -> Any:
        """Make the optimiser over student and loss, and the schedule, which is stepped at every optimiser step."""
        # A fused optimiser unscales float16's gradients by itself, after the clipping; and it knows no divided weights.
        unfit = self.device_mesh is not None or (self.recipe.precision.startswith("16") and self.recipe.clip)
        fused = self.machine.fused_optimizer and not unfit
        optimizer = make_optimizer(self.recipe.optimizer, self, fused)
        steps = max(1, int(self.trainer.estimated_stepping_batches) // self.recipe.epochs)
        schedule = self.recipe.schedule(optimizer, epochs=self.recipe.epochs, steps_per_epoch=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> Any:
        """Load the training split, where the Trainer has no datamodule."""
        return self.images.train_dataloader()

    def val_dataloader(self) -> Any:
        """Load the split that the selection follows, where the Trainer has no datamodule."""
        return self.images.val_dataloader()

    def test_dataloader(self) -> Any:
        """Load the test split, where the Trainer has no datamodule."""
        return self.images.test_dataloader()

    # ------------------------------------------------------------------ training
    def on_fit_start(self) -> None:
        """Move the teacher to the student's device; compile the student if asked."""
        self.teacher_inference.to(self.device)
        self._run = compiled(self.student, self.machine.compile)

    def on_fit_end(self) -> None:
        """Log the time that the cache of the teacher's logits saved."""
        self.teacher_inference.report()

    def on_train_start(self) -> None:
        """Restore the gradients of an incomplete group of accumulated batches from the checkpoint."""
        self._gradients.restore(self)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the random numbers of a step from (seed, epoch, batch, rank) alone: a resumed run draws the same."""
        seed_step(self.seed, self.current_epoch, batch_idx, self.global_rank, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of a batch: student, teacher, loss.

        Raises:
            UsageError: A batch that is too small for batch normalisation.
        """
        self._begin_step()
        try:
            terms = self._terms(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise _one_value(len(batch.labels), self.images.data.batch_size, error) from error
        self.values = {"loss": terms.total.detach(), **{name: part.detach() for name, part in terms.parts.items()}}
        self.loop_state.add(self.current_epoch, batch_idx, self.values)
        return terms.total

    def _begin_step(self) -> None:
        """Let CUDA graphs reuse the memory of the batch before."""
        if self.machine.compile:
            torch.compiler.cudagraph_mark_step_begin()

    def _terms(self, batch: Batch) -> LossTerms:
        teacher_outputs = self.teacher_inference(batch, self.current_epoch)
        with self._shared():
            if self.recipe.through_time or not torch.is_grad_enabled():
                return self._loss_of(self._run(batch.images), teacher_outputs, batch)
            assert isinstance(self.student, Student)  # check_online
            logits = self.student.stream(batch.images, through_time=False)
            steps = (self._loss_of(logits_BC.unsqueeze(0), teacher_outputs, batch) for logits_BC in logits)
            return online(steps, [parameter for parameter in self.parameters() if parameter.requires_grad])

    def _loss_of(self, student_TBC: Tensor, teacher_outputs: TeacherOutputs, batch: Batch) -> LossTerms:
        step_state = StepState(lambda: fraction_done(self.trainer), None if self.ema is None else self.ema.logits)
        keywords = self._context.keywords(student_TBC, teacher_outputs, batch, step_state)
        return _as_terms(self.loss(student_TBC, teacher_outputs.logits, batch.labels, **keywords))

    def _shared(self) -> AbstractContextManager[Any]:
        """Let batch normalisation see the batch of all processes, where several train together."""
        return shared_statistics() if self._shares else nullcontext()

    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        """Backpropagate; an incomplete last group of accumulated batches is divided by the batches that it has."""
        together = self.trainer.accumulate_grad_batches
        share = share_of_the_last(self.loop_state.batch, int(self.trainer.num_training_batches), together)
        with self._shared():  # what is computed again in the backward pass has the same statistics
            super().backward(loss if share == 1 else loss * share, *arguments, **settings)

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch and give its row of numbers to `record`."""
        means = {f"train/{name}": value / self.loop_state.batch for name, value in self._sums().items()}
        self.log_dict(means)
        self.loop_state.next_epoch(self.current_epoch + 1)
        optimizer = self.optimizers()
        rate = optimizer.param_groups[0]["lr"] if not isinstance(optimizer, list) else 0.0
        if self.trainer.is_global_zero:
            self.record({"epoch": self.current_epoch, "step": self.global_step, "lr": rate, **means, **self._measured})
        self._measured = {}

    def _sums(self) -> dict[str, float]:
        """Average the sums of loss and parts over the processes, which have equally many images each."""
        sums = self.loop_state.sums
        if self.trainer.world_size == 1:
            return {name: float(value) for name, value in sums.items()}
        total = self.trainer.strategy.reduce(torch.stack(list(sums.values())), reduce_op="mean")
        return dict(zip(sums, torch.as_tensor(total).tolist(), strict=True))

    # ------------------------------------------------------------------ validation
    def on_validation_start(self) -> None:
        """Give all processes the same running statistics, where the student is sharded."""
        if self.device_mesh is not None:
            share_buffers(self.student)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the measures with the student's logits of a validation batch."""
        self._begin_step()
        self.measures.update(self._run(batch.images), None, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy at every t, of each step alone, and the rest of the student's measures."""
        self._measured = {f"{self.images.selection}/{name}": value for name, value in self.measures.compute().items()}
        self.measures.reset()
        self.log_dict(self._measured)

    # ------------------------------------------------------------------ test
    def on_test_start(self) -> None:
        """Start counting spikes and operations."""
        self._measurement = Measurement(self.student, self.teacher, self.images.data.num_classes, self.device)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure student and teacher on a batch."""
        self._measurement.update(batch)

    def on_test_epoch_end(self) -> None:
        """Log all measures as test/NAME, firing rates and energy too."""
        self.log_dict({f"test/{name}": value for name, value in self._measurement.compute(self.trainer).items()})

    # ------------------------------------------------------------------ checkpoints
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the loop state, the average, and between two steps of accumulated batches their gradients."""
        checkpoint["standing"] = self.loop_state.state(self.trainer.strategy.all_gather)
        if self.ema is not None:
            checkpoint["average"] = self.ema.state()
        if self.loop_state.batch % self.trainer.accumulate_grad_batches:
            checkpoint["gradients"] = self._gradients.of(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the place in the data, accumulated gradients and the average."""
        self.restore_loop_state(checkpoint["standing"], self.global_rank, self.trainer.world_size)
        self._gradients.hold(checkpoint.get("gradients", {}))
        if self.ema is not None:
            self.ema.load(checkpoint["average"])
        self.images.resume_at(self.loop_state.epoch, self.loop_state.batch)

    def restore_loop_state(self, state: Mapping[str, Any], rank: int = 0, world_size: int = 1) -> None:
        """Restore the place in the data and the sums of the epoch from a checkpoint."""
        self.loop_state.load(state, self.device, rank, world_size)


def _one_value(images: int, batch_size: int, error: ValueError) -> UsageError:
    last = images < batch_size
    return UsageError(
        what=f"batch normalisation cannot learn from a batch of {images} image{'' if images == 1 else 's'}: "
        f"{' '.join(str(error).split())[:120]}",
        why=f"a single value per channel has no variance{'; this is the incomplete last batch' if last else ''}",
        fix="drop_last=True" if last else f"batch_size={max(2, 2 * images)} or more",
    )


def _as_terms(value: Tensor | LossTerms) -> LossTerms:
    """Make `LossTerms` of what a loss returned: one of the user's own may return a scalar alone."""
    return LossTerms(value, {}, {}) if isinstance(value, Tensor) else value
