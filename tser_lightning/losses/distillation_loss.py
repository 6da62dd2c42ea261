"""A loss: the weighted sum of named terms."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from tser_lightning.losses.contract import LossContext, LossTerms, Needs
from tser_lightning.losses.shapes import check_shapes
from tser_lightning.losses.term import Term

Features = Mapping[str, Tensor]


class DistillationLoss(nn.Module):
    """The weighted sum of named terms.

    `loss(student_TBC, teacher_BC, labels_B)` returns `LossTerms`; a loss that taps features also wants the keywords
    `student_features` (name: [T, B, ...]) and `teacher_features` (name: [B, ...]), one with `needs` the keyword
    `context`. A method (`TSER`, `VanillaKD`, ...) is a subclass that makes its terms from the settings that its paper
    names.

    Args:
        terms: The terms by the name that they are logged under ("ce", "kl", "entropy").

    Attributes:
        weights: The factor of every term by its name, before its schedule.
        schedules: By the name of a term, a function from the fraction of the training that is done to what the term's
            weight is multiplied with then; see `schedule`.
        needs_teacher: Whether any term compares with the teacher.
        student_taps: Layers of the student that any term looks at; empty for a loss on logits alone.
        teacher_taps: Layers of the teacher that any term looks at.
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
        self.student_taps = _union(term.student_taps for term in terms.values())
        self.teacher_taps = _union(term.teacher_taps for term in terms.values())
        self.schedules: dict[str, Callable[[float], float]] = {}
        self._asked = reduce(Needs.__or__, (term.needs for term in terms.values()))

    @property
    def needs(self) -> Needs:
        """What the terms ask for; the fraction of the training that is done, where a weight has a schedule."""
        return replace(self._asked, progress=True) if self.schedules else self._asked

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
            student_features: What the student's taps gave, [T, B, ...] by name.
            teacher_features: What the teacher's taps gave, [B, ...] by name.
            context: What `needs` asks for.

        Raises:
            ValueError: A tensor that is needed is missing, or its shape does not fit the others.
        """
        check_shapes(student_TBC, teacher_BC, labels_B)
        if self.needs_teacher and teacher_BC is None:
            needing = ", ".join(name for name, term in self.terms.items() if term.needs_teacher)
            raise ValueError(f"the teacher's logits are None, but {needing} compare(s) with them; give a teacher")
        _check_features("student", self.student_taps, student_features)
        _check_features("teacher", self.teacher_taps, teacher_features)
        _check_context(self.needs, context)
        features = {"student_features": student_features, "teacher_features": teacher_features}
        parts = {
            name: term(student_TBC, teacher_BC, labels_B, **_asked_by(term, features, context))
            for name, term in self.terms.items()
        }
        weights = {name: self._weight(name, context) for name in parts}
        total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return LossTerms(total, parts, weights)

    def _weight(self, name: str, context: LossContext | None) -> float:
        if name not in self.schedules or context is None:
            return self.weights[name]
        return self.weights[name] * self.schedules[name](context.progress)


def _asked_by(term: Any, features: Mapping[str, Any], context: LossContext | None) -> dict[str, Any]:
    taps = features if term.student_taps or term.teacher_taps else {}
    return {**taps, "context": context} if term.needs else dict(taps)


def _check_terms(terms: Mapping[str, Term]) -> None:
    if not terms:
        raise ValueError("a loss needs at least one term")
    for name, term in terms.items():
        if not isinstance(term, Term):
            raise TypeError(f"the term {name!r} must be a tser_lightning.losses.Term, but is a {type(term).__name__}")


def _check_features(owner: str, taps: tuple[str, ...], features: Features | None) -> None:
    missing = [tap for tap in taps if tap not in (features or {})]
    if missing:
        raise ValueError(
            f"this loss compares features: call it with {owner}_features, which must have {', '.join(missing)}"
        )


def _check_context(needs: Needs, context: LossContext | None) -> None:
    missing = [name for name, asked in vars(needs).items() if asked and name not in vars(context or LossContext())]
    if missing:
        given = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(f"this loss asks for more than logits: call it with context=LossContext({given})")


def _union(taps: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Join the names in the order in which they come, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(taps)))
