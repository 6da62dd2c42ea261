"""What the numbers of a run are: every measure is declared here, once.

Tables, figures, the page, CSV, LaTeX, W&B and its dashboard read these declarations, and `report.measure=NAME` compares
runs by any of them. A new measure is a line here: what it is called, its unit, which way is better, what it means and
which module computes it. A number that nobody declared is shown under its own name, with no say in what is better.
"""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import Any

Numbers = Mapping[str, Any]
Derivation = Callable[[Numbers], float | None]

HIGHER, LOWER, NEITHER = "higher", "lower", ""
SPLITS = {"test": "test", "val": "validation"}


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


def steps_alone(numbers: Numbers, split: str) -> list[float]:
    """Give the accuracies of the single time steps, in percent."""
    found = (numbers.get(f"{split}/acc_step{t}") for t in range(1, len(numbers) + 1))
    return [accuracy for accuracy in found if accuracy is not None]


def _mean_of_steps(split: str) -> Derivation:
    def derived(numbers: Numbers) -> float | None:
        steps = steps_alone(numbers, split)
        return statistics.fmean(steps) if steps else None

    return derived


def _spread_of_steps(split: str) -> Derivation:
    def derived(numbers: Numbers) -> float | None:
        steps = steps_alone(numbers, split)
        return statistics.stdev(steps) if len(steps) > 1 else None

    return derived


def _percent(split: str, name: str, title: str, better: str, meaning: str, source: str, kind: str) -> Measure:
    return Measure(f"{split}/{name}", title, "%", better, meaning, source, bounds=(0, 100), kind=kind)


def _measured(split: str, word: str) -> Iterable[Measure]:
    """Declare what is measured on the images of a split."""
    accuracy = "measure.accuracy"
    yield _percent(
        split, "acc", f"{word} accuracy", HIGHER, "images whose class the mean of the logits of all time steps gives",
        accuracy, "accuracy",
    )  # fmt: skip
    yield _percent(
        split, "acc5", f"{word} accuracy, top 5", HIGHER, "images whose class is among the five largest of that mean",
        accuracy, "accuracy",
    )  # fmt: skip
    yield _percent(
        split, "acc_t{t}", f"{word} accuracy at t={{t}}", HIGHER,
        "the mean of the logits of steps 1 to {t}: the student stopped there", accuracy, "accuracy",
    )  # fmt: skip
    yield _percent(
        split, "acc_step{t}", f"{word} accuracy, step {{t}} alone", HIGHER, "the logits of step {t} by themselves",
        accuracy, "accuracy",
    )  # fmt: skip
    yield replace(
        _percent(
            split, "acc_step_mean", f"{word} accuracy, mean of single steps", HIGHER,
            "the accuracies of the single time steps, averaged over the steps", "records.measures", "accuracy",
        ),
        derived=_mean_of_steps(split),
    )  # fmt: skip
    yield Measure(
        f"{split}/acc_step_std", f"{word} accuracy, spread over steps", "points", LOWER,
        "standard deviation (T - 1) of the accuracies of the single time steps: how unlike the steps are",
        "records.measures", bounds=(0, 100), kind="accuracy", derived=_spread_of_steps(split),
    )  # fmt: skip
    for name, of, what in (("", "", "the mean of the logits"), ("_step{t}", ", step {t} alone", "step {t} alone")):
        yield _percent(
            split, f"ece{name}", f"{word} calibration error{of}", LOWER,
            f"expected calibration error (ECE) of {what}: how far confidence is from accuracy, over 15 bins",
            "measure.calibration", "certainty",
        )  # fmt: skip
        yield Measure(
            f"{split}/entropy{name}", f"{word} entropy{of}", "nats", NEITHER,
            f"entropy of the softmax of {what}, averaged over images: how unsure the student is",
            "measure.calibration", 3, bounds=(0, inf), kind="certainty",
        )  # fmt: skip


AGREEMENT, FIRING, ENERGY = "measure.agreement", "measure.firing", "measure.energy"

OF_THE_TEST = (
    replace(
        _percent(
            "test", "agreement", "agreement with the teacher", HIGHER, "images that student and teacher classify alike",
            AGREEMENT, "teacher",
        ),
        brief=True,
    ),
    Measure(
        "test/kl_teacher", "KL to the teacher", "nats", LOWER,
        "KL(teacher || mean of the student's logits) at temperature 1, averaged over images", AGREEMENT, 3,
        bounds=(0, inf), kind="teacher",
    ),
    _percent(
        "test", "acc_teacher_fooled", "accuracy where the teacher is fooled", HIGHER,
        "among the images that the teacher gets confidently wrong", AGREEMENT, "teacher",
    ),
    _percent(
        "test", "copied_teacher_fooled", "copies where the teacher is fooled", LOWER,
        "images on which the student repeats a confident error of the teacher's, among those errors", AGREEMENT,
        "teacher",
    ),
    _percent("teacher", "acc", "accuracy of the teacher", HIGHER, "on the test split", AGREEMENT, "teacher"),
    _percent(
        "teacher", "fooled", "teacher confidently wrong", LOWER, "test images that the teacher gets confidently wrong",
        AGREEMENT, "teacher",
    ),
    replace(
        _percent(
            "test", "firing_rate", "firing rate", NEITHER, "spikes per neuron and time step, averaged over neurons",
            FIRING, "activity",
        ),
        brief=True,
    ),
    _percent(
        "test", "firing_rate_layers", "firing rate, mean of layers", NEITHER, "the same, averaged over layers", FIRING,
        "activity",
    ),
    _percent("test", "dead_neurons", "dead neurons", LOWER, "neurons that no test image made fire", FIRING, "activity"),
    Measure(
        "test/dead_layers", "dead layers", "", LOWER, "layers of which no neuron ever fired", FIRING, 0,
        bounds=(0, inf), kind="activity",
    ),
    Measure(
        "test/saturated_layers", "saturated layers", "", LOWER, "layers that fire nearly always", FIRING, 0,
        bounds=(0, inf), kind="activity",
    ),
)  # fmt: skip


MILLIONS: Any = {"unit": "M", "better": LOWER, "source": ENERGY, "factor": 1e-6, "bounds": (0, inf)}


def _costs(split: str, whose: str) -> Iterable[Measure]:
    """Declare what the classification of an image costs, as a network stands and with BatchNorm folded into weights."""
    for tail, folded in (("", ""), ("_folded", ", BatchNorm folded")):
        kind, name = "folded" if tail else "cost", f"{whose}{folded}"
        ops = Measure(
            f"{split}/ops{tail}", f"OPs{name}", meaning="operations of all kinds per image", kind=kind, **MILLIONS
        )
        yield ops if split == "test" else replace(ops, derived=_same_as(f"{split}/macs{tail}"))  # an ANN has no others
        yield Measure(
            f"{split}/acs{tail}",
            f"ACs{name}",
            meaning="additions that a spike causes, per image",
            kind=kind,
            **MILLIONS,
        )
        yield Measure(
            f"{split}/macs{tail}",
            f"MACs{name}",
            meaning="multiplications with additions, per image",
            kind=kind,
            **MILLIONS,
        )
        yield Measure(
            f"{split}/energy{tail}_mj",
            f"energy{name}",
            unit="mJ",
            better=LOWER,
            meaning="arithmetic of one image at 45 nm: 0.9 pJ per AC, 4.6 pJ per MAC",
            source=ENERGY,
            digits=4,
            bounds=(0, inf),
            kind="cost",
        )


def _same_as(name: str) -> Derivation:
    return lambda numbers: numbers.get(name)


OF_TRAINING = (
    Measure(
        "train/seconds", "training", "s", LOWER, "wall time of all processes that had a part in it",
        "training.trainer", 0,
        bounds=(0, inf), kind="cost",
    ),
    Measure(
        "train/seconds_per_step", "time per step", "s", LOWER,
        "an epoch, its validation included, by its optimiser steps: the median over epochs", "tasks.distill", 4,
        bounds=(0, inf), kind="cost",
    ),
    Measure(
        "train/peak_memory_mb", "peak memory", "MiB", LOWER, "the most that the training held at once",
        "training.trainer", 0, bounds=(0, inf), kind="cost",
    ),
    _percent(
        "val", "best_acc", "best validation accuracy", HIGHER, "the highest of any epoch; searches go by it",
        "training.distiller", "training",
    ),
    Measure(
        "train/loss", "training loss", "", LOWER, "all terms with their weights, averaged over an epoch",
        "training.distiller", 3, kind="training",
    ),
    *(
        Measure(
            f"train/{part}", f"training {word}", "", NEITHER, f"the {word} of the loss without its weight",
            "training.distiller", 3, kind="training",
        )
        for part, word in (
            ("ce", "cross-entropy"), ("kl", "KL to the teacher"), ("entropy", "entropy of the student"),
        )
    ),
    Measure(
        "train/{part}", "training: {part}", "", NEITHER,
        "the term {part} of the loss without its weight, averaged over an epoch", "training.distiller", 3,
        kind="training",
    ),
)  # fmt: skip

MEASURES: list[Measure] = [
    *_measured("test", "test"),
    *OF_THE_TEST,
    *_costs("test", ""),
    *_costs("teacher", " of the teacher"),
    *OF_TRAINING,
    *_measured("val", "validation"),
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
