"""What the classification of an image costs."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import Any

from tser_lightning.records.measures.declaration import LOWER, Derivation, Measure

MILLIONS: Any = {"unit": "M", "better": LOWER, "source": "measure.energy", "factor": 1e-6, "bounds": (0, inf)}


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
            source="measure.energy",
            digits=4,
            bounds=(0, inf),
            kind="cost",
        )


def _same_as(name: str) -> Derivation:
    return lambda numbers: numbers.get(name)


MEASURES = (*_costs("test", ""), *_costs("teacher", " of the teacher"))
