"""What a loss is called with, and what it may ask for besides: the contract between a loss and the training.

Legend: T time step, B image, C class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class LossTerms(NamedTuple):
    """The result of a loss: the scalar to minimise, its parts and their weights.

    Attributes:
        total: The scalar to minimise, sum over k of weights[k] * parts[k].
        parts: Every term by name, unweighted.
        weights: The factor of every term, by the same names.

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import TET
        >>> terms = TET(lam=0.5, phi=1.0)(torch.zeros(4, 2, 10), None, torch.tensor([3, 7]))
        >>> {name: round(float(part), 4) for name, part in terms.parts.items()}  # ln 10, and (0 - 1)^2
        {'ce': 2.3026, 'mse': 1.0}
        >>> terms.weights, round(float(terms.total), 4)
        ({'ce': 0.5, 'mse': 0.5}, 1.6513)
    """

    total: Tensor
    parts: dict[str, Tensor]
    weights: dict[str, float]


class Loss(Protocol):
    """A loss, as a training calls it; any `nn.Module` with this call is one.

    It may have the attributes `needs_teacher` (True: `teacher_BC` is given) and `needs` (a `Needs`: the keyword
    `context` is given). `student_taps` and `teacher_taps`, names of layers, are a short form of a `Needs` of features:
    these are given as the keywords `student_features` and `teacher_features`.

    `sums_over_steps` (True) says that it is a sum over time steps: with logits, features, currents and spikes of T
    steps it is the mean of what it is with those of each step alone, `loss(z) = mean_t loss(z[t : t + 1])`. A student
    can then learn from it step by step (`through_time=False`), before which its word is tried.

    Examples:
        >>> import torch
        >>> def first_step_alone(student_TBC, teacher_BC, labels_B):
        ...     return torch.nn.functional.cross_entropy(student_TBC[0], labels_B)
        >>> loss: Loss = first_step_alone
        >>> round(float(loss(torch.zeros(4, 2, 10), None, torch.tensor([3, 7]))), 4)  # ln 10
        2.3026
    """

    def __call__(
        self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, /, **asked: Any
    ) -> Tensor | LossTerms:
        """Give the scalar to minimise, alone or with its parts.

        Args:
            student_TBC: The student's logits at every step.
            teacher_BC: The teacher's logits; None for a loss that needs no teacher.
            labels_B: Class indices [B], or distributions [B, C].
            asked: What the loss asks for.
        """


class SpikingStudent(Protocol):
    """A student, as a training calls it: static images [B, C, H, W] or frames [T, B, C, H, W] to logits_TBC.

    Examples:
        >>> import torch
        >>> class Guessing:
        ...     timesteps = 4
        ...
        ...     def __call__(self, images):
        ...         return torch.zeros(self.timesteps, len(images), 10)
        >>> student: SpikingStudent = Guessing()
        >>> student(torch.rand(2, 3, 8, 8)).shape
        torch.Size([4, 2, 10])
    """

    timesteps: int

    def __call__(self, images: Tensor) -> Tensor:
        """Give logits_TBC."""


class Heads(NamedTuple):
    """The classifiers of the two networks: functions from penultimate features [..., D] to logits [..., C].

    Attributes:
        student: Its weights learn through it too.
        teacher: Frozen; None without a teacher.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> heads = Heads(student=nn.Linear(64, 10), teacher=nn.Linear(512, 10))
        >>> heads.student(torch.zeros(4, 2, 64)).shape
        torch.Size([4, 2, 10])
    """

    student: Callable[[Tensor], Tensor]
    teacher: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Needs:
    """What a loss asks for, as the class or instance attribute `needs`; what it does not ask for costs nothing.

    Each of these is an attribute of the `LossContext` of the same name. Layers and neurons are given as module paths
    inside the network ("layer4.1"), stage names ("stage4") or patterns of them ("layer*.conv1", "*"; as `fnmatch`).

    Attributes:
        student_features: Layers of the student; their outputs [T, B, ...] by name.
        teacher_features: Layers of the teacher; their outputs [B, ...] by name.
        currents: Neurons of the student; what goes into them, [T, B, ...] by path.
        membranes: Neurons of the student; their membranes when they are compared with the threshold, before a reset,
            [T, B, ...] by path. Computed from the currents once more. LIF, IF, PLIF and LSG have them.
        spikes: Neurons of the student; what comes out of them, [T, B, ...] by path.
        heads: The classifiers of student and teacher, see `Heads`.
        progress: The fraction of the training that is done, in [0, 1): optimiser steps done of all optimiser steps.
        indices: The place of each image in the data set, int64 [B], the same in every epoch.
        ema: The logits [T, B, C] that the moving average of the student (`ema` of the recipe) gives, without gradient.
        teachers: The logits [B, C] of every teacher by name, where the teacher is a `models.Ensemble`; of any other
            teacher under "teacher".

    Raises:
        TypeError: A name in place of a tuple of names.

    Examples:
        >>> both = Needs(currents=("*",)) | Needs(currents=("layer1.*",), progress=True)  # what either asks for
        >>> both.currents, both.progress, both.heads
        (('*', 'layer1.*'), True, False)
    """

    student_features: tuple[str, ...] = ()
    teacher_features: tuple[str, ...] = ()
    currents: tuple[str, ...] = ()
    membranes: tuple[str, ...] = ()
    spikes: tuple[str, ...] = ()
    heads: bool = False
    progress: bool = False
    indices: bool = False
    ema: bool = False
    teachers: bool = False

    def __post_init__(self) -> None:
        """Refuse a single name where a tuple of names is wanted: it would be read letter by letter."""
        for name in (each.name for each in fields(self)):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"needs.{name} must be a tuple of names, e.g. {name}=({getattr(self, name)!r},)")

    def __bool__(self) -> bool:
        """Tell whether anything is asked for."""
        return any(vars(self).values())

    def __or__(self, other: "Needs") -> "Needs":
        """Ask for what either asks for."""
        joined: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            joined[name] = mine or theirs if isinstance(mine, bool) else tuple(dict.fromkeys((*mine, *theirs)))
        return Needs(**joined)

    @property
    def observed(self) -> bool:
        """Whether anything is asked for that is caught inside a network while it runs."""
        inside = (self.student_features, self.teacher_features, self.currents, self.membranes, self.spikes)
        return any(inside) or self.teachers


class LossContext(SimpleNamespace):
    """What a loss has asked for with `Needs`, under the same names; whoever asks for less has less.

    `LossContext(progress=0.5)` makes one by hand, e.g. for a test.

    Raises:
        AttributeError: Something is read that was not asked for.

    Examples:
        >>> context = LossContext(progress=0.5)
        >>> context.progress
        0.5
        >>> context.indices
        Traceback (most recent call last):
        AttributeError: context.indices was not asked for; give the loss needs = Needs(indices=True)
    """

    student_features: Mapping[str, Tensor]
    teacher_features: Mapping[str, Tensor]
    currents: Mapping[str, Tensor]
    membranes: Mapping[str, Tensor]
    spikes: Mapping[str, Tensor]
    heads: Heads
    progress: float
    indices: Tensor
    ema: Tensor
    teachers: Mapping[str, Tensor]

    def __getattr__(self, name: str) -> Any:
        """Say how to ask for what is not here."""
        if name.startswith("__"):
            raise AttributeError(name)
        known = {each.name: each for each in fields(Needs)}
        if name not in known:
            raise AttributeError(f"a loss's context has no {name!r}; it can have {', '.join(known)}")
        asked = "True" if isinstance(known[name].default, bool) else '("*",)'
        raise AttributeError(f"context.{name} was not asked for; give the loss needs = Needs({name}={asked})")


NOTHING = Needs()


def needs_of(loss: nn.Module | None) -> Needs:
    """Give what a loss or a term asks for besides logits and labels; nothing, if it does not say.

    Args:
        loss: Any module; None where there is none.

    Returns:
        Its `needs`, with the layers of `student_taps` and `teacher_taps` among the features.

    Examples:
        >>> from tser_lightning.losses import DKD
        >>> needs_of(DKD()).progress, bool(needs_of(None))  # the weights of DKD rise during the training
        (True, False)
    """
    needs: Needs = getattr(loss, "needs", None) or NOTHING
    student, teacher = _taps(loss, "student"), _taps(loss, "teacher")
    return Needs(student_features=student, teacher_features=teacher) | needs if student or teacher else needs


def keywords_for(loss: nn.Module, context: LossContext) -> dict[str, Any]:
    """Give the keywords that a loss or a term is called with besides logits and labels.

    Args:
        loss: Any module.
        context: Has what `needs_of(loss)` asks for.

    Returns:
        The context, where it has `needs`; features by the names of its layers, where it has `student_taps`
        or `teacher_taps`.

    Examples:
        >>> from torch import nn
        >>> from tser_lightning.losses import DKD, LossContext
        >>> list(keywords_for(DKD(), LossContext(progress=0.5))), keywords_for(nn.Module(), LossContext())
        (['context'], {})
    """
    keywords: dict[str, Any] = {"context": context} if getattr(loss, "needs", None) else {}
    if _taps(loss, "student") or _taps(loss, "teacher"):
        keywords |= {name: vars(context).get(name, {}) for name in ("student_features", "teacher_features")}
    return keywords


def _taps(loss: nn.Module | None, role: str) -> tuple[str, ...]:
    names: Sequence[str] = getattr(loss, f"{role}_taps", ())
    return tuple(names)


def needs_teacher(loss: nn.Module | None) -> bool:
    """Tell whether a loss or a term compares with a teacher.

    Args:
        loss: Any module; None where there is none.

    Returns:
        Its `needs_teacher`; False, if it does not say.

    Examples:
        >>> from tser_lightning.losses import TET, TSER
        >>> needs_teacher(TSER()), needs_teacher(TET())
        (True, False)
    """
    return bool(getattr(loss, "needs_teacher", False))


def sums_over_steps(loss: nn.Module | None) -> bool:
    """Tell whether a loss or a term is a sum over time steps, see `Loss`.

    Args:
        loss: Any module; None where there is none.

    Returns:
        Its `sums_over_steps`; False, if it does not say.

    Examples:
        >>> from tser_lightning.losses import TSER, VanillaKD
        >>> sums_over_steps(TSER()), sums_over_steps(VanillaKD())
        (True, False)
    """
    return bool(getattr(loss, "sums_over_steps", False))
