"""What a loss asks for besides logits and labels, collected while student and teacher run.

Legend: T time step, B image, C class.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.errors import UsageError
from tser_lightning.losses import Heads, LossContext, Needs
from tser_lightning.losses.contract import keywords_for, needs_of, needs_teacher
from tser_lightning.measure.features import classifier_of
from tser_lightning.models.network import network_of
from tser_lightning.models.recompute import recomputing
from tser_lightning.neurons import Neuron, membranes
from tser_lightning.training.feature_hooks import FeatureHooks, matching, over_steps
from tser_lightning.training.recipe import Recipe
from tser_lightning.training.teacher import Teacher
from tser_lightning.training.teacher_inference import TeacherOutputs

Named = dict[str, Tensor]


class StepState(NamedTuple):
    """What changes from step to step and a loss may ask for: the progress, and the moving average's logits.

    Attributes:
        progress: Gives the fraction of the training that is done.
        ema: Gives the logits [T, B, C] of the student's moving average for images; None where there is no average.
    """

    progress: Callable[[], float]
    ema: Callable[[Tensor], Tensor] | None


class StudentFeatures(NamedTuple):
    """Tensors caught inside a student by hooks, by name; see `Needs`."""

    student_features: Named
    currents: Named
    membranes: Named
    spikes: Named

    def of(self, steps: slice) -> "StudentFeatures":
        """Give the tensors of some of the time steps."""
        return self.each(lambda value: value[steps])

    def each(self, change: Callable[[Tensor], Tensor]) -> "StudentFeatures":
        """Apply a function to every tensor."""
        return StudentFeatures(*({name: change(value) for name, value in group.items()} for group in self))


class StudentHooks:
    """Catches features, currents and spikes inside a student by hooks, as a loss asks for them.

    Args:
        student: Hooks stay on it; there are none for a loss that asks for nothing.
        loss: What asks, see `needs_of`; or None.

    Raises:
        UsageError: A layer or neuron that the student does not have.
    """

    def __init__(self, student: nn.Module, loss: nn.Module | None) -> None:
        net, self._needs = network_of(student), needs_of(loss)
        self._time_first = bool(getattr(student, "time_first", False))
        self._layers = FeatureHooks(net, self._needs.student_features, "student")
        self._neurons = {path: module for path, module in net.named_modules() if isinstance(module, Neuron)}
        wants = self._needs.currents, self._needs.membranes, self._needs.spikes
        self._wanted = [_neurons(patterns, self._neurons) for patterns in wants]
        self._in: Named = {}
        self._out: Named = {}
        currents, charged, spikes = self._wanted
        for path in dict.fromkeys((*currents, *charged)):
            self._neurons[path].register_forward_pre_hook(_keep_input(path, self._in))
        for path in dict.fromkeys((*charged, *spikes)):
            self._neurons[path].register_forward_hook(_keep_output(path, self._out))

    def take(self, steps: int, images: int) -> StudentFeatures:
        """Return the tensors [T, B, ...] of the student's last call, and drop them here."""
        caught = self._layers.take()
        if self._time_first:
            caught = {name: feature.flatten(0, 1) for name, feature in caught.items()}
        features = {name: over_steps(name, feature, steps, images) for name, feature in caught.items()}
        currents, charged, spikes = self._wanted
        seen = StudentFeatures(
            student_features=features,
            currents={path: self._in[path] for path in currents},
            membranes={path: membranes(self._neurons[path], self._in[path], self._out[path]) for path in charged},
            spikes={path: self._out[path] for path in spikes},
        )
        self.forget()
        return seen

    def forget(self) -> None:
        """Drop the tensors of the student's last call."""
        self._layers.take()
        self._in.clear()
        self._out.clear()


class ContextBuilder:
    """Builds what a loss asks for: the keywords that it is called with besides logits and labels.

    Args:
        loss: What asks, see `needs_of`.
        student: Images to logits_TBC.
        teacher: Frozen; may be None.

    Raises:
        UsageError: A layer or neuron that does not exist.
    """

    def __init__(self, loss: nn.Module, student: nn.Module, teacher: Teacher | None) -> None:
        self._loss, self._student, self._teacher = loss, student, teacher
        self._in_student = StudentHooks(student, loss)

    @property
    def looks_inside(self) -> bool:
        """Whether the loss sees more of a network than its logits, so that it may make parts that fit what it sees."""
        return needs_of(self._loss).observed

    def keywords(
        self, student_TBC: Tensor, teacher_outputs: TeacherOutputs, batch: Batch, step_state: StepState
    ) -> dict[str, Any]:
        """Collect the keywords of the loss for the batch that student and teacher have just seen."""
        needs = needs_of(self._loss)
        if not needs:
            return {}
        steps, images = student_TBC.shape[:2]
        heads = heads_of(self._student, self._teacher) if needs.heads else None
        return keywords(self._loss, self._in_student.take(steps, images), teacher_outputs, batch, heads, step_state)


def keywords(
    loss: nn.Module,
    seen: StudentFeatures,
    teacher_outputs: TeacherOutputs,
    batch: Batch,
    heads: Heads | None,
    step_state: StepState,
) -> dict[str, Any]:
    """Make the keywords of a loss from what was caught inside the networks and from where the training stands."""
    needs = needs_of(loss)
    offered: Mapping[str, Callable[[], Any]] = {
        **{name: (lambda group=group: group) for name, group in seen._asdict().items()},  # type: ignore[misc]
        "teacher_features": lambda: teacher_outputs.features,
        "teachers": lambda: teacher_outputs.teachers,
        "heads": lambda: heads,
        "progress": step_state.progress,
        "indices": lambda: batch.indices,
        "ema": lambda: step_state.ema and step_state.ema(batch.images),
    }
    context = LossContext(**{name: give() for name, give in offered.items() if getattr(needs, name)})
    return keywords_for(loss, context)


def heads_of(student: nn.Module, teacher: Teacher | None) -> Heads:
    """Give the classifiers of student and teacher."""
    return Heads(classifier_of(network_of(student)), None if teacher is None else classifier_of(teacher.net))


def fraction_done(trainer: pl.Trainer) -> float:
    """Give the fraction of a training that is done, in [0, 1): optimiser steps done of those that there will be.

    It depends on where the training stands alone: the same after a resume, for any accumulation and in every process.

    Raises:
        UsageError: A training whose end is not known.
    """
    if trainer.global_step == 0:
        return 0.0
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise UsageError(
            what="this loss depends on the fraction of the training that is done, and the training has no end",
            why="the Trainer has max_epochs=-1 and no max_steps",
            fix="pl.Trainer(max_epochs=300)",
        )
    return min(1.0, trainer.global_step / steps)


def check_needs(loss: nn.Module, recipe: Recipe) -> None:
    """Refuse a loss that asks for what this training does not have.

    Raises:
        UsageError: A moving average that there is not; layers of a teacher without its logits.
    """
    needs: Needs = needs_of(loss)
    if needs.ema and recipe.ema is None:
        raise UsageError(
            what="this loss compares with the moving average of the student, and there is none",
            why="ema=None",
            fix="ema=0.999",
        )
    if (needs.teacher_features or needs.teachers) and not needs_teacher(loss):
        raise UsageError(
            what="this loss asks for what is inside the teacher, but not for the teacher",
            why="the teacher is only called for a loss that says needs_teacher = True",
            fix="the class attribute needs_teacher = True",
        )


def _neurons(patterns: tuple[str, ...], neurons: Mapping[str, Neuron]) -> list[str]:
    """The paths of the neurons that some names or patterns stand for, in the order of the network."""
    wanted = {path for pattern in patterns for path in matching(pattern, list(neurons), "student")}
    return [path for path in neurons if path in wanted]


def _keep_input(path: str, kept: Named) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def keep(neuron: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not recomputing():
            assert isinstance(neuron, Neuron)
            kept[path] = neuron.unfold(inputs[0])

    return keep


def _keep_output(path: str, kept: Named) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def keep(neuron: nn.Module, inputs: tuple[Any, ...], spikes: Tensor) -> None:
        if not recomputing():
            assert isinstance(neuron, Neuron)
            kept[path] = neuron.unfold(spikes)

    return keep
