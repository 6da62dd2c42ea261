"""Measures that the logits of an image give; each is a function with `@per_image` in a module of this folder.

Legend: T time step, B image, C class.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

Function = Callable[[Tensor, Tensor | None, Tensor], dict[str, Tensor]]


class PerImage(NamedTuple):
    """A function that measures images, and whether it compares with a teacher."""

    function: Function
    needs_teacher: bool


_DECLARED: list[PerImage] = []


def per_image(*, needs_teacher: bool = False) -> Callable[[Function], Function]:
    """Let `StudentMeasures` measure with a function: its means over a split are in result.json and metrics.csv.

    What a number is called in tables, its unit and which way is better is declared in `records/measures/`.

    Args:
        needs_teacher: Leave it out where there is no teacher.

    Returns:
        A decorator of a function of student_TBC, teacher_BC (None without a teacher) and labels_B, all float but for
        the labels. It gives tensors [B] by name: bool becomes a share in percent, float32 a mean. The names are the
        same for every batch, one without images included, and depend on T and C alone.

    Examples:
        >>> from torch import tensor
        >>> def margin(student_TBC, teacher_BC, labels_B):
        ...     first_B2 = student_TBC.mean(0).topk(2).values
        ...     return {"margin": first_B2[:, 0] - first_B2[:, 1]}
        >>> margin(tensor([[[1.0, 4.0, 2.0]]]), None, tensor([1]))
        {'margin': tensor([2.])}
    """

    def declare(function: Function) -> Function:
        _DECLARED.append(PerImage(function, needs_teacher))
        return function

    return declare


@functools.cache
def _read_all() -> None:
    package = importlib.import_module("tser_lightning.measure")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def declared(*, with_teacher: bool) -> Iterator[Function]:
    """Give the functions of all modules of this folder; those that need a teacher last, or not at all."""
    _read_all()
    for needs_teacher in (False, True)[: 1 + with_teacher]:
        yield from (each.function for each in _DECLARED if each.needs_teacher == needs_teacher)
