"""A loss: the weighted sum of named terms."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tser_lightning.losses.shapes import check_shapes
from tser_lightning.losses.term import Term, positive
from tser_lightning.mistake import Mistake

Features = Mapping[str, Tensor]


class LossTerms(NamedTuple):
    """What a loss returns.

    Attributes:
        total: The scalar to minimise, sum over k of weights[k] * parts[k].
        parts: Every term by name, unweighted.
        weights: The factor of every term, by the same names.
    """

    total: Tensor
    parts: dict[str, Tensor]
    weights: dict[str, float]


class DistillationLoss(nn.Module):
    """The weighted sum of named terms.

    `loss(student_TBC, teacher_BC, labels_B)` returns `LossTerms`; a loss that taps features also wants the keywords
    `student_features` (name: [T, B, ...]) and `teacher_features` (name: [B, ...]). The losses of the paper (Eq. 7 to
    11, Table 3) are config files in conf/loss that name their terms.

    Args:
        terms: The terms by the name that they are logged under ("ce", "kl", "entropy").
        **handles: The settings that the weights and temperatures of the terms were made from (alpha, tau, lam). They
            are checked and shown here and change nothing: the terms have their own.

    Attributes:
        weights: The factor of every term by its name; what a schedule would change.
        needs_teacher: Whether any term compares with the teacher.
        student_taps: Layers of the student that any term looks at; empty for a loss on logits alone.
        teacher_taps: Likewise for the teacher.
    """

    def __init__(self, terms: Mapping[str, Term], **handles: Any) -> None:
        super().__init__()
        _check_handles(handles)
        _check_terms(terms)
        self.handles = handles
        self.terms = nn.ModuleDict(dict(terms.items()))
        self.weights = {name: term.weight for name, term in terms.items()}
        self.needs_teacher = any(term.needs_teacher for term in terms.values())
        self.student_taps = _union(term.student_taps for term in terms.values())
        self.teacher_taps = _union(term.teacher_taps for term in terms.values())

    def forward(
        self,
        student_TBC: Tensor,
        teacher_BC: Tensor | None,
        labels_B: Tensor,
        *,
        student_features: Features | None = None,
        teacher_features: Features | None = None,
    ) -> LossTerms:
        """Compute every term and their sum.

        Args:
            student_TBC: The student's logits at every step.
            teacher_BC: The teacher's logits; None for a loss that needs no teacher.
            labels_B: Class indices [B], or distributions [B, C].
            student_features: What the student's taps gave, [T, B, ...] by name.
            teacher_features: What the teacher's taps gave, [B, ...] by name.

        Raises:
            ValueError: A tensor that is needed is missing, or its shape does not fit the others.
        """
        check_shapes(student_TBC, teacher_BC, labels_B)
        if self.needs_teacher and teacher_BC is None:
            needing = ", ".join(name for name, term in self.terms.items() if term.needs_teacher)
            raise ValueError(f"the teacher's logits are None, but {needing} compare(s) with them; give a teacher")
        _check_features("student", self.student_taps, student_features)
        _check_features("teacher", self.teacher_taps, teacher_features)
        parts = {}
        for name, term in self.terms.items():
            taps = bool(term.student_taps or term.teacher_taps)
            features = {"student_features": student_features, "teacher_features": teacher_features} if taps else {}
            parts[name] = term(student_TBC, teacher_BC, labels_B, **features)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return LossTerms(total, parts, dict(self.weights))

    def extra_repr(self) -> str:
        """Show the settings."""
        return ", ".join(f"{name}={value}" for name, value in self.handles.items())


def _check_handles(handles: Mapping[str, Any]) -> None:
    if "alpha" in handles and not 0 <= handles["alpha"] <= 1:
        why = "the labels' share is 1 - alpha and the teacher's is alpha"
        raise Mistake(f"alpha = {handles['alpha']} is not in [0, 1]", why, "give alpha from 0 to 1, for example 0.5")
    for name in ("lam", "beta"):
        if not handles.get(name, 0) >= 0:
            raise Mistake(f"{name} = {handles[name]} is below 0", "it would turn its term round", f"give {name} >= 0")
    for name in ("tau", "entropy_tau"):
        positive(name, handles.get(name, 1))
    if handles.get("mean", "logits") not in ("logits", "probs"):
        why = "the steps of a student are averaged as logits or as probabilities"
        raise Mistake(f"mean = {handles['mean']!r} is not known", why, "give mean=logits or mean=probs")


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


def _union(taps: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Join the names in the order in which they come, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(taps)))
