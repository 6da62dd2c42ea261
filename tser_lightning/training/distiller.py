"""The training of a student by a teacher, as a LightningModule.

Legend: T time step, B image, C class, H, W.
"""

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tser_lightning.data.batch import Batch
from tser_lightning.data.image_data import ImageData
from tser_lightning.losses import LossTerms
from tser_lightning.measure.student_measures import StudentMeasures
from tser_lightning.mistake import Failure, Mistake
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.shared_statistics import shared_statistics
from tser_lightning.training.answers import Answers
from tser_lightning.training.average import Average
from tser_lightning.training.late import Late
from tser_lightning.training.loss_context import Gatherer, Live, check_needs, fraction_done
from tser_lightning.training.nonfinite import first_nonfinite
from tser_lightning.training.optimizer import make_optimizer
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.sharding import shard, share_buffers
from tser_lightning.training.speed import compiled, described, prepare
from tser_lightning.training.standing import Standing, seed_step
from tser_lightning.training.teacher import Teacher

log = logging.getLogger("tser_lightning")

Row = Mapping[str, float | int]
Split = Literal["train", "val", "test"]


class Distiller(pl.LightningModule):
    """Trains a student with a loss, and with a teacher where the loss asks for one.

    The teacher is no submodule: it stays out of the optimiser, the checkpoint, `train()` and DDP. `fit` trains with it,
    and goes on where it was interrupted; any Trainer of Lightning gives the same weights:

        module = Distiller(student, tl.build_loss("tser"), teacher, data, Recipe(epochs=5), selection=None)
        trainer = pl.Trainer(max_epochs=5, use_distributed_sampler=False)
        trainer.fit(module)
        trainer.test(module)

    Args:
        student: Images to logits_TBC.
        loss: logits, teacher logits and labels to `LossTerms`.
        teacher: Frozen; may be None where the loss needs none.
        data: Where the batches come from.
        recipe: How to train.
        seed: Of the order of the data, the augmentation and the random numbers inside an epoch.
        selection: Split whose accuracy is followed during training ("val" or "test"), or None.
        machine: On what.
        log_every: Steps between two entries of the loss in the loggers.
        record: Called with the row of numbers of every finished epoch.
        answers: The way to the teacher's logits, e.g. one that keeps them; None folds its norms and asks it at every
            step. Not taken where the loss looks into the teacher.
    """

    def __init__(
        self,
        student: nn.Module,
        loss: nn.Module,
        teacher: Teacher | None,
        data: ImageData,
        recipe: Recipe,
        *,
        seed: int = 1,
        selection: Split | None = "val",
        machine: Machine = Machine(),  # noqa: B008 - frozen
        log_every: int = 50,
        record: Callable[[Row], None] = lambda row: None,
        answers: Answers | None = None,
    ) -> None:
        super().__init__()
        self.student, self.loss = student, loss
        self._run = compiled(student, how=False)
        self._teacher = (teacher,)  # in a tuple, so that it is not registered
        self.data, self.recipe, self.seed = data, recipe, seed
        self.machine, self.selection, self.log_every, self.record = machine, selection, log_every, record
        self.average = None if recipe.ema is None else Average(student, recipe.ema)  # no submodule either
        self.asks_teacher = bool(getattr(loss, "needs_teacher", False))
        if self.asks_teacher and teacher is None:
            raise Mistake(
                what="this loss compares with a teacher, and there is none",
                why="teacher=none leaves nothing to distil from",
                fix="teacher=resnet_small, for example, or a loss without a teacher: loss=tet",
            )
        check_needs(loss, recipe)
        self._asked = Gatherer(loss, student, teacher)
        if answers is None and self.asks_teacher and teacher is not None:
            answers = Answers(teacher, data.shape, None, machine.compile, machine.channels_last)
        self._answers = None if self._asked.looks_into_the_teacher else answers
        self.measures = StudentMeasures(int(getattr(student, "timesteps", 1)), data.num_classes)
        self.latest: dict[str, float] = {}
        self._standing = Standing()
        self._gradients: dict[str, Tensor] = {}
        self._late: Late[tuple[int, list[str], Batch]] = Late()
        self._warned_negative = False
        self._shares = self._is_materialised = False
        self._measured: dict[str, float] = {}

    @property
    def teacher(self) -> Teacher | None:
        """The frozen teacher."""
        return self._teacher[0]

    def _materialise(self) -> None:
        """Let the loss make what it trains itself (projections, a generator) from the shapes of the features, once."""
        if not self._asked.looks_inside or self._is_materialised:
            return
        self._is_materialised = True
        training = self.student.training
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            self.student.eval()
            images_BCHW = torch.zeros(2, *self.data.shape, device=self.device)
            self._terms(Batch(images_BCHW, torch.zeros(2, dtype=torch.long), torch.arange(2)))
        self.student.train(training)

    def _terms(self, batch: Batch) -> LossTerms:
        teacher_BC = None
        if self.asks_teacher:
            assert self.teacher is not None
            ask = self._answers
            teacher_BC = self.teacher(batch.images) if ask is None else ask(batch, self.current_epoch)
        with self._shared():
            return self._student_terms(batch, teacher_BC)

    def _student_terms(self, batch: Batch, teacher_BC: Tensor | None) -> LossTerms:
        student_TBC = self._run(batch.images)
        live = Live(lambda: fraction_done(self.trainer), None if self.average is None else self.average.logits)
        asked = self._asked.keywords(student_TBC, teacher_BC, batch, live)
        return _as_terms(self.loss(student_TBC, teacher_BC, batch.labels, **asked))

    # ------------------------------------------------------------------ training
    def configure_model(self) -> None:
        """Make the loss's own parts, set the student up for the machine, divide it where a strategy asks for that."""
        if self.trainer.state.fn == "fit":
            self._materialise()
        prepare(self.student, self.recipe, self.machine, self.data.shape, self.trainer.strategy.root_device)
        if self.device_mesh is not None:
            shard(self.student, self.device_mesh)

    def on_fit_start(self) -> None:
        """Bring the teacher and the average to the student's device; say what is used of the machine."""
        if self.average is not None:
            self.average.to(self.device)
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self._answers is not None:
            self._answers.to(self.device)
        self._share_statistics()
        self._run = compiled(self.student, self.machine.compile)
        if self.trainer.is_global_zero:
            optimizer = self.trainer.optimizers[0]
            log.info("machine: %s", described(self.student, self.data, self.machine, self.device, optimizer))

    def _share_statistics(self) -> None:
        """Let several processes normalise as one, or say what it means that they do not."""
        if self.trainer.world_size == 1:
            return
        self._shares = self.machine.sync_batchnorm
        if self._shares:
            allow_fusing(self.student, False)  # the fused norm knows this process alone
        elif self.trainer.is_global_zero and any(isinstance(module, _BatchNorm) for module in self.student.modules()):
            log.warning(
                "machine.sync_batchnorm=false: batch normalisation sees the images of one process, 1 / %d of each "
                "batch: the result is another than with one process",
                self.trainer.world_size,
            )

    def on_fit_end(self) -> None:
        """Say what the cache of the teacher's logits was worth."""
        if self._answers is not None:
            self._answers.report()

    def on_train_start(self) -> None:
        """Take up the gradients of batches that wait for their optimiser step."""
        for name, parameter in self.named_parameters():
            if name in self._gradients:
                parameter.grad = torch.empty_like(parameter).copy_(self._gradients[name])
        self._gradients = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let the random numbers of a step depend on (seed, epoch, batch, rank) alone: a resumed run has the same.

        The last epoch is validated, whether or not the interval between validations ends there.
        """
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1
        seed_step(self.seed, self.current_epoch, batch_idx, self.global_rank, self.device)

    def _begin_step(self) -> None:
        """Let CUDA graphs write over what they gave for the batch before."""
        if self.machine.compile:
            torch.compiler.cudagraph_mark_step_begin()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of distillation.

        Raises:
            Failure: A loss that is not a number or infinite; names the term. On a GPU at the step after it.
        Mistake: A batch that is too small for batch normalisation.
        """
        self._begin_step()
        try:
            terms = self._terms(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise _one_value(len(batch.labels), self.data.batch_size, error) from error
        values = {"loss": terms.total.detach(), **{name: part.detach() for name, part in terms.parts.items()}}
        numbers = torch.stack([value.float() for value in values.values()])
        for step in self._late.next(numbers, (self.global_step, list(values), batch)):
            self._read(*step)
        self._standing.add(self.current_epoch, batch_idx, values)
        return terms.total

    def _shared(self) -> AbstractContextManager[Any]:
        """The batch of all processes is what batch normalisation sees, where there are several."""
        return shared_statistics() if self._shares else nullcontext()

    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        """Go back; the last group of accumulated batches, which may be incomplete, is divided by those that it has."""
        full = self.trainer.accumulate_grad_batches  # what Lightning has divided by
        batches = int(self.trainer.num_training_batches)
        rest = batches % full
        if rest and self._standing.batch > batches - rest:
            loss = loss * (full / rest)
        with self._shared():  # what is computed again in the backward pass has the same statistics
            super().backward(loss, *arguments, **settings)

    def _read(self, numbers: list[float], of: tuple[int, list[str], Batch]) -> None:
        """Look at the loss and its parts, one step later on a GPU: guard them, keep them for the bar, log them."""
        step, names, batch = of
        self.latest = dict(zip(names, numbers, strict=True))
        self._guard(self.latest, step, batch)
        if self.logger is not None and (step + 1) % self.log_every == 0:
            row = {f"train_step/{name}": value for name, value in self.latest.items()}
            self.logger.log_metrics({**row, "epoch": self.current_epoch}, step=step)

    def _guard(self, values: Mapping[str, float], step: int, batch: Batch) -> None:
        total = values["loss"]
        if not math.isfinite(total):
            raise self._not_finite(values, step, batch)
        if total < 0 and not self._warned_negative:
            self._warned_negative = True
            warnings.warn(
                "the total loss is negative: the reward for entropy is larger than all the rest, so the student is "
                "drawn to uniform answers; lower loss.lam",
                stacklevel=2,
            )

    def _not_finite(self, values: Mapping[str, float], step: int, batch: Batch) -> Failure:
        """Say what is not finite first, and what to do about that."""
        parts = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)]
        first = first_nonfinite(self.student, batch.images)
        why = "the learning rate is too high for this precision"
        fix = "optim.lr at a tenth, trainer.clip=1.0, trainer.precision=32-true"
        if first == "the images":
            why = "the data hold values that are NaN or infinite, or data.std has one that is 0"
            fix = "data whose values are all finite: numpy.isfinite(images).all() tells"
        elif first is None and self.asks_teacher and self.teacher and not self.teacher(batch.images).isfinite().all():
            first = "the teacher's logits"
            why = "the student's logits are finite: the teacher has no answer to some image of this batch"
            fix = "another teacher, or weights and operations of it that are finite for all images"
        elif first is None:
            first = "the loss itself"
            why = "logits of student and teacher are finite, what the loss makes of them is not"
            fix = (
                "log_softmax in place of softmax and log, no division by what can be 0, or smaller weights of its terms"
            )
        return Failure(
            what=f"the loss is {values['loss']} at epoch {self.current_epoch}, step {step}; "
            f"its term {', '.join(parts) or 'sum'} is the cause; first not finite: {first}",
            why=why,
            fix=fix,
        )

    def _guard_late(self) -> None:
        for step in self._late.rest():
            self._read(*step)

    def optimizer_step(self, *arguments: Any, **settings: Any) -> None:
        """Make a step and take it into the average."""
        super().optimizer_step(*arguments, **settings)
        if self.average is not None:
            self.average.update(self.student)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch and hand on its row."""
        self._guard_late()
        means = {f"train/{name}": value / self._standing.batch for name, value in self._sums().items()}
        self.log_dict(means)
        self._standing.next_epoch(self.current_epoch + 1)
        optimizer = self.optimizers()
        rate = optimizer.param_groups[0]["lr"] if not isinstance(optimizer, list) else 0.0
        if self.trainer.is_global_zero:
            self.record({"epoch": self.current_epoch, "step": self.global_step, "lr": rate, **means, **self._measured})
        self._measured = {}

    def _sums(self) -> dict[str, float]:
        """Mean over the processes of their sums; they have equally many images each."""
        sums = self._standing.sums
        if self.trainer.world_size == 1:
            return {name: float(value) for name, value in sums.items()}
        total = self.trainer.strategy.reduce(torch.stack(list(sums.values())), reduce_op="mean")
        return dict(zip(sums, torch.as_tensor(total).tolist(), strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add where the training stands; between two steps of accumulated batches, their gradients too."""
        self._guard_late()  # nothing that is not finite gets into a checkpoint
        checkpoint["standing"] = self._standing.state(self.trainer.strategy.all_gather)
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()
        if self._standing.batch % self.trainer.accumulate_grad_batches and self._standing.batch:
            checkpoint["gradients"] = {
                name: self._of_all(parameter.grad)
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.stand(checkpoint["standing"], self.global_rank, self.trainer.world_size)
        self._gradients = self._own(checkpoint.get("gradients", {}))
        if self.average is not None:
            self.average.load_state_dict(checkpoint["average"])

    def _of_all(self, grad: Tensor) -> Tensor:
        """The gradients of all processes, which differ until the step; one process has its own alone."""
        if self.trainer.world_size == 1 or self.device_mesh is not None:  # divided ones are those of all already
            return grad
        gathered: Tensor = self.trainer.strategy.all_gather(grad.contiguous())  # it would mix up channels last
        return gathered.cpu()

    def _own(self, grads: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's gradients from a checkpoint; the mean of all where their number was another."""
        parameters = dict(self.named_parameters())
        own = dict(grads)
        for name, values in grads.items():
            if values.ndim > parameters[name].ndim:
                same = len(values) == self.trainer.world_size
                own[name] = values[self.global_rank] if same else values.mean(0)
        return own

    def stand(self, state: Mapping[str, Any], rank: int = 0, world_size: int = 1) -> None:
        """Take the place in the data from a checkpoint."""
        self._standing.load(state, self.device, rank, world_size)

    # ------------------------------------------------------------------ validation
    def on_validation_start(self) -> None:
        """Validate the average, where there is one; it is in the student's place until the callbacks are done."""
        if self.device_mesh is not None:
            share_buffers(self.student)
        if self.average is not None:
            self.average.exchange(self.student)

    def on_validation_end(self) -> None:
        """Train on with the student's own weights."""
        if self.average is not None:
            self.average.exchange(self.student)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what the student gets right."""
        self._begin_step()
        self.measures.update(self._run(batch.images), None, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy at every t, of each step alone, and the rest of the student's measures."""
        self._measured = {f"{self.selection}/{name}": value for name, value in self.measures.compute().items()}
        self.measures.reset()
        self.log_dict(self._measured)

    # ------------------------------------------------------------------ test
    def on_test_start(self) -> None:
        """Bring the teacher along; measure the average, where there is one."""
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.average is not None:
            self.average.to(self.device)
            self.average.exchange(self.student)
        self.measures.reset()

    def on_test_end(self) -> None:
        """Put the student's own weights back."""
        if self.average is not None:
            self.average.exchange(self.student)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what the student gets right, and where it agrees with its teacher; `examine` measures energy too."""
        teacher_BC = None if self.teacher is None else self.teacher(batch.images)
        self.measures.update(self.student(batch.images), teacher_BC, batch.labels)

    def on_test_epoch_end(self) -> None:
        """Log the measures as test/NAME."""
        self.log_dict({f"test/{name}": value for name, value in self.measures.compute().items()})
        self.measures.reset()

    # ------------------------------------------------------------------ what Lightning asks for
    def _loader(self, split: Split) -> Any:
        return self.data.loader(
            split,
            seed=self.seed,
            workers=self.machine.workers_for(self.data.in_memory),
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            device=self.device if self.machine.workers == "auto" else None,
        )

    def train_dataloader(self) -> Any:
        """Batches of the training split, from the one that is next.

        The epoch is set here too because workers read ahead before Lightning sets it.
        """
        loader = self._loader("train")
        loader.sampler.set_epoch(self._standing.epoch)
        loader.sampler.set_position(self._standing.batch)
        return loader

    def val_dataloader(self) -> Any:
        """Batches of the split that the selection follows."""
        return self._loader(self.selection) if self.selection else []

    def test_dataloader(self) -> Any:
        """Batches of the test split, each image once."""
        return self._loader("test")

    def configure_optimizers(self) -> Any:
        """Optimiser over student and loss, schedule per step."""
        # A fused optimiser unscales float16's gradients by itself, after the clipping; and it knows no divided weights.
        unfit = self.device_mesh is not None or (self.recipe.precision.startswith("16") and self.recipe.clip)
        fused = self.machine.fused_optimizer and not unfit
        optimizer = make_optimizer(self.recipe.optimizer, self, fused)
        steps = max(1, int(self.trainer.estimated_stepping_batches) // self.recipe.epochs)
        schedule = self.recipe.schedule(optimizer, epochs=self.recipe.epochs, steps_per_epoch=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _one_value(images: int, batch_size: int, error: ValueError) -> Mistake:
    last = images < batch_size
    return Mistake(
        what=f"batch normalisation cannot learn from a batch of {images} image{'' if images == 1 else 's'}: "
        f"{' '.join(str(error).split())[:120]}",
        why=f"a single value per channel has no variance{'; this is the incomplete last batch' if last else ''}",
        fix="data.drop_last=true" if last else f"data.batch_size={max(2, 2 * images)} or more",
    )


def _as_terms(value: Tensor | LossTerms) -> LossTerms:
    """A user's own loss may return a scalar alone."""
    return LossTerms(value, {}, {}) if isinstance(value, Tensor) else value
