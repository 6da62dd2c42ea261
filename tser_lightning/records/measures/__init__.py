"""Declarations of the measures of a run: every measure is declared in this folder, once.

Tables, figures, the page, CSV, LaTeX, W&B and its dashboard read these declarations, and `report.measure=NAME` compares
runs by any of them. A declaration says what a measure is called, its unit, which way is better, what it means and which
module computes it. A number that nobody declared is shown under its own name, with no say in what is better.

A new module of this folder is found by itself; its `MEASURES` come last.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from tser_lightning.records.measures import accuracy, costs, test_split, training
from tser_lightning.records.measures.declaration import HIGHER, LOWER, NEITHER, Measure

__all__ = ["HIGHER", "LOWER", "MEASURES", "NEITHER", "Measure", "families", "measure", "measured"]

FIRST = (accuracy, test_split, costs, training)  # the order in which tables show them


def _others() -> Iterator[Measure]:
    known = {"declaration", *(module.__name__.rpartition(".")[2] for module in FIRST)}
    for found in pkgutil.iter_modules(__path__):
        if found.name not in known:
            yield from importlib.import_module(f"{__name__}.{found.name}").MEASURES


MEASURES: list[Measure] = [
    *(each for module in FIRST for each in module.MEASURES),
    *accuracy.ON_VALIDATION_IMAGES,
    *_others(),
]


def measure(name: str) -> Measure:
    """Give what a number is by its name; one that nobody declared is called by that name.

    Examples:
        >>> measure("test/acc_step2").heading
        'test accuracy, step 2 alone, in %'
        >>> measure("test/ece").better
        'lower'
    """
    exact = next((each for each in MEASURES if each.name == name), None)
    members = (each.member(name) for each in MEASURES)
    return exact or next((each for each in members if each), Measure(name, name, digits=4))


def measured(numbers: Iterable[str]) -> list[Measure]:
    """Give all measures that a run with some numbers has, in the order of their declarations; then undeclared ones.

    Args:
        numbers: Names, e.g. the keys of result.json.
    """
    return list(_in_order(tuple(name for name in numbers if "/" in name)))


@lru_cache(maxsize=1024)
def _in_order(names: tuple[str, ...]) -> tuple[Measure, ...]:
    """Sort measures once for the many runs that have the same."""
    there = dict.fromkeys(names, 1.0)
    derived = [each.name for each in MEASURES if each.derived and each.of(there) is not None]
    places = {name: _place(name) for name in dict.fromkeys([*names, *derived])}
    return tuple(measure(name) for name in sorted(places, key=lambda name: places[name]))


def _place(name: str) -> tuple[int, list[int], str]:
    """What names are sorted by: the line that declares them, then the number of the step."""
    line = next((i for i, each in enumerate(MEASURES) if each.name == name or each.member(name)), len(MEASURES))
    return line, [int(number) for number in re.findall(r"\d+$", name)], name


def families(prefix: str = "test/") -> list[str]:
    """Name the families that have one number per time step, without the step: ["acc_t", "acc_step", ...]."""
    tail = "{t}"
    found = [each.name for each in MEASURES if each.name.startswith(prefix) and each.name.endswith(tail)]
    return [name.removeprefix(prefix).removesuffix(tail) for name in found]
