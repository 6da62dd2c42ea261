"""The numbers that the paper prints, from experiments/paper.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

FILE = "paper.yaml"
ANY = "all"


@dataclass(frozen=True)
class PublishedAccuracy:
    """A printed accuracy.

    Attributes:
        mean: Top-1 in percent.
        std: As printed behind the +-; over how many runs is not said.
        doubt: Why it is not to be taken as a target; empty if nothing is known against it.
        here: What our runs have otherwise than was published, e.g. "selection=val"; empty if nothing is known.
    """

    mean: float
    std: float | None = None
    doubt: str = ""
    here: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def paper() -> Mapping[str, Any]:
    """Give the content of experiments/paper.yaml; in a wheel it lies beside the package's modules, in `_data`."""
    package = Path(__file__).resolve().parent.parent
    places = [folder / "experiments" / FILE for folder in (package / "_data", package.parent)]
    found = next((place for place in places if place.is_file()), None)
    assert found is not None, f"the installation is broken: {FILE} is in none of {places}"
    content: Mapping[str, Any] = yaml.safe_load(found.read_text())
    return content


def teacher_of(student: str) -> str | None:
    """Name the teacher of a student's published numbers of distillation; None if there are none."""
    found: str | None = paper()["taught_by"].get(student)
    return found


def published(data: str, student: str, timesteps: int | None, method: str) -> PublishedAccuracy | None:
    """Look up what the paper prints for a method.

    Args:
        data: A name in conf/data.
        student: The name of a student.
        timesteps: T.
        method: A name in conf/loss.
    """
    entry = _at(paper()["accuracy"], data, student, timesteps, method)
    if entry is None:
        return None
    mean, std = entry if isinstance(entry, list) else (entry, None)
    return PublishedAccuracy(mean, std, _doubt(data, student, timesteps, method))


def published_methods(data: str, student: str, timesteps: int | None) -> list[str]:
    """List the methods for which a number is printed in a setting, in the order of paper.yaml."""
    return list(_at(paper()["accuracy"], data, student, timesteps) or ())


def _doubt(data: str, student: str, timesteps: int | None, method: str) -> str:
    places = [(steps, name) for steps in (timesteps, ANY) for name in (method, ANY)]
    found = (_at(paper()["doubts"], data, student, steps, name) for steps, name in places)
    return next((str(text) for text in found if text), "")


def _at(tree: Any, *keys: Any) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
