"""What a measure is declared with."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

Numbers = Mapping[str, Any]
Derivation = Callable[[Numbers], float | None]

HIGHER, LOWER, NEITHER = "higher", "lower", ""


@dataclass(frozen=True)
class Measure:
    """What one number of result.json or metrics.csv is.

    Attributes:
        name: `split/name`, e.g. "test/acc"; that of a family has a hole, e.g. "test/acc_step{t}".
        title: What tables and axes call it, without the unit.
        unit: What it is printed in; empty for a number without one.
        better: Which way is better: HIGHER, LOWER or NEITHER.
        meaning: What it is, in a sentence.
        source: The module of this package that computes it; empty if it was not declared.
        digits: Decimals in print.
        factor: From the number to what is printed, e.g. 1e-6 for millions.
        bounds: Between which it lies, by its nature.
        kind: What it belongs with: "accuracy", "certainty", "teacher", "activity", "cost", "folded", "training".
        brief: Whether the table of a single run shows it.
        derived: Computes it from the other numbers of the run; None if the run wrote it down.
    """

    name: str
    title: str
    unit: str = ""
    better: str = NEITHER
    meaning: str = ""
    source: str = ""
    digits: int = 2
    factor: float = 1.0
    bounds: tuple[float, float] = (-inf, inf)
    kind: str = ""
    brief: bool = False
    derived: Derivation | None = None

    @property
    def heading(self) -> str:
        """Title and unit, for an axis or a column: "test accuracy in %"."""
        comma = "," if "," in self.title else ""
        return f"{self.title}{comma} in {self.unit}" if self.unit else self.title

    @property
    def is_family(self) -> bool:
        """Whether it stands for many: one per time step or per part of a loss."""
        return "{" in self.name

    def of(self, numbers: Numbers) -> float | None:
        """Give this number of a run; None if it was not measured."""
        found = numbers.get(self.name)
        return self.derived(numbers) if found is None and self.derived else found

    def printed(self, value: float) -> str:
        """Write a value without its unit, e.g. "97.50"."""
        return f"{value * self.factor:.{self.digits}f}"

    def member(self, name: str) -> "Measure | None":
        """Give one of a family by its name; None if it is none of it."""
        pattern = re.sub(r"\\{(\w+)\\}", lambda hole: "(.+)" if hole[1] == "part" else r"(\d+)", re.escape(self.name))
        found = re.fullmatch(pattern, name)
        fill = "{part}" if "{part}" in self.name else "{t}"
        if not (self.is_family and found):
            return None
        title, meaning = (text.replace(fill, found[1]) for text in (self.title, self.meaning))
        return replace(self, name=name, title=title, meaning=meaning)


def percent(split: str, name: str, title: str, better: str, meaning: str, source: str, kind: str) -> Measure:
    """Declare a share of the images or neurons of a split, from 0 to 100."""
    return Measure(f"{split}/{name}", title, "%", better, meaning, source, bounds=(0, 100), kind=kind)
