"""A loss: the weighted sum of named terms."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import filter as filter_names
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn

from tser_lightning.losses.contract import LossContext, LossTerms, Needs, keywords_for, needs_of
from tser_lightning.losses.shapes import check_shapes
from tser_lightning.losses.term import Term

Features = Mapping[str, Tensor]


class DistillationLoss(nn.Module):
    """The weighted sum of named terms.

    `loss(student_TBC, teacher_BC, labels_B)` returns `LossTerms`; a loss with `needs` also wants the keyword `context`,
    or, for features alone, the keywords `student_features` (name: [T, B, ...]) and `teacher_features` (name: [B, ...]).
    A method (`TSER`, `VanillaKD`, ...) is a subclass that makes its terms from the settings that its paper
    names.

    Args:
        terms: The terms by the name that they are logged under ("ce", "kl", "entropy").

    Attributes:
        weights: The factor of every term by its name, before its schedule.
        schedules: By the name of a term, a function from the fraction of the training that is done to what the term's
            weight is multiplied with then; see `schedule`.
        needs_teacher: Whether any term compares with the teacher.
        sums_over_steps: Whether every term is a sum over time steps.

    Raises:
        ValueError: There is no term.
        TypeError: A term is no `Term`.

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import CrossEntropy, Entropy, PiecewiseLinear
        >>> loss = DistillationLoss({"ce": CrossEntropy(1.0), "entropy": Entropy(-0.1)})
        >>> round(float(loss(torch.zeros(4, 2, 10), None, torch.tensor([3, 7])).total), 4)  # 0.9 ln 10
        2.0723
        >>> loss.schedule("entropy", PiecewiseLinear([[0, 0], [0.1, 1]])).needs.progress
        True
    """

    __call__: Callable[..., LossTerms]  # to a type checker: nn.Module says Any

    def __init__(self, terms: Mapping[str, Term]) -> None:
        super().__init__()
        _check_terms(terms)
        self.terms = nn.ModuleDict(dict(terms.items()))
        self.weights = {name: term.weight for name, term in terms.items()}
        self.needs_teacher = any(term.needs_teacher for term in terms.values())
        self.sums_over_steps = all(term.sums_over_steps for term in terms.values())
        self.schedules: dict[str, Callable[[float], float]] = {}
        self._asked = reduce(Needs.__or__, (needs_of(term) for term in terms.values()))

    @property
    def needs(self) -> Needs:
        """What the terms ask for; the fraction of the training that is done, where a weight has a schedule."""
        return replace(self._asked, progress=True) if self.schedules else self._asked

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Layers of the student that any term looks at; none for a loss on logits alone."""
        return self._asked.student_features

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Layers of the teacher that any term looks at."""
        return self._asked.teacher_features

    def schedule(self, term: str, factor: Callable[[float], float]) -> Self:
        """Let the weight of a term change during the training.

        Args:
            term: The name of the term.
            factor: What its weight is multiplied with, from the fraction of the training that is done, in [0, 1); e.g.
                `PiecewiseLinear([[0, 0], [0.1, 1]])`, a warm-up over the first tenth.

        Raises:
            ValueError: There is no such term.
        """
        if term not in self.weights:
            raise ValueError(f"this loss has no term {term!r} to schedule; it has {', '.join(self.weights)}")
        self.schedules[term] = factor
        return self

    def forward(
        self,
        student_TBC: Tensor,
        teacher_BC: Tensor | None,
        labels_B: Tensor,
        *,
        student_features: Features | None = None,
        teacher_features: Features | None = None,
        context: LossContext | None = None,
    ) -> LossTerms:
        """Compute every term and their sum.

        Args:
            student_TBC: The student's logits at every step.
            teacher_BC: The teacher's logits; None for a loss that needs no teacher.
            labels_B: Class indices [B], or distributions [B, C].
            student_features: The student's features, [T, B, ...] by name, where the context does not have them.
            teacher_features: The teacher's features, [B, ...] by name, where the context does not have them.
            context: What `needs` asks for.

        Raises:
            ValueError: A tensor that is needed is missing, or its shape does not fit the others.
        """
        check_shapes(student_TBC, teacher_BC, labels_B)
        if self.needs_teacher and teacher_BC is None:
            needing = ", ".join(name for name, term in self.terms.items() if term.needs_teacher)
            raise ValueError(f"the teacher's logits are None, but {needing} compare(s) with them; give a teacher")
        features = {"student_features": student_features, "teacher_features": teacher_features}
        given = {} if context is None else vars(context)
        context = LossContext(**given | {name: value for name, value in features.items() if value is not None})
        _check_context(self.needs, context)
        parts = {
            name: term(student_TBC, teacher_BC, labels_B, **keywords_for(term, context))
            for name, term in self.terms.items()
        }
        weights = {name: self._weight(name, context) for name in parts}
        total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return LossTerms(total, parts, weights)

    def _weight(self, name: str, context: LossContext) -> float:
        if name not in self.schedules:
            return self.weights[name]
        return self.weights[name] * self.schedules[name](context.progress)


def _check_terms(terms: Mapping[str, Term]) -> None:
    if not terms:
        raise ValueError("a loss needs at least one term")
    for name, term in terms.items():
        if not isinstance(term, Term):
            raise TypeError(f"the term {name!r} must be a tser_lightning.losses.Term, but is a {type(term).__name__}")


def _check_context(needs: Needs, context: LossContext) -> None:
    """Raise a ValueError if something that is asked for is not there: a layer's feature, or anything else."""
    given = vars(context)
    for name in ("student_features", "teacher_features"):
        absent = [layer for layer in getattr(needs, name) if not filter_names(given.get(name, ()), layer)]
        if absent:
            raise ValueError(f"this loss compares features: call it with {name}, which must have {', '.join(absent)}")
    missing = [name for name, asked in vars(needs).items() if asked and name not in given]
    if missing:
        names = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(f"this loss asks for more than logits: call it with context=LossContext({names})")
