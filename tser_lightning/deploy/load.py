"""Load a trained student from the two files that hold it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tser_lightning.deploy.hub import SCHEME, pulled
from tser_lightning.deploy.trained import TrainedStudent
from tser_lightning.errors import UsageError
from tser_lightning.models import Student
from tser_lightning.plain_yaml import BYTES
from tser_lightning.registry.build import build_student
from tser_lightning.registry.targets import targets
from tser_lightning.registry.trust import NAMES, check_received, damaged
from tser_lightning.training import load_weights


def load_student(path: str | Path) -> TrainedStudent:
    """Load a trained student from `student.safetensors` and the `student.json` beside it; no config is needed.

    Args:
        path: The file, the folder that both lie in, or a place on the Hugging Face Hub, `hf://OWNER/NAME[@REVISION]`.

    Returns:
        The student in eval mode, with its classes, its early exit and how it sees images.

    Raises:
        UsageError: A missing or damaged file.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> import tser_lightning as tl
        >>> from tser_lightning.registry.options import configured
        >>> from tser_lightning.training import save_network
        >>> parts = {"student": "cnn_small", "neuron": "lif", "norm": "bn"}
        >>> settings = configured({group: {"name": name} for group, name in parts.items()})
        >>> card = {**settings, "num_classes": 2, "shape": [1, 8, 8], "classes": ["cat", "dog"]}
        >>> with TemporaryDirectory() as folder:  # what a finished run leaves in its directory
        ...     student = tl.build_student("cnn_small", num_classes=2, in_channels=1)
        ...     save_network(student, Path(folder, "student.safetensors"), card)
        ...     loaded = load_student(folder)
        >>> loaded.classes, torch.equal(loaded.net.fc.weight, student.net.fc.weight)
        (['cat', 'dog'], True)
    """
    path = pulled(str(path)) if str(path).startswith(SCHEME) else Path(path)
    path = path / "student.safetensors" if path.is_dir() else path
    card_file = path.with_suffix(".json")
    if not card_file.is_file():
        raise UsageError(
            what=f"there is no {card_file}",
            why="it says what the weights beside it belong to",
            fix="both files of a run directory, side by side",
        )
    card = _read_card(card_file)
    if path.is_file() and NAMES.issuperset(targets(card)):  # code of the user's own may ask its tensors for values
        with torch.device("meta"):  # a width of 10^6 costs nothing here
            numbers = sum(parameter.numel() for parameter in _student_of(card, card_file).parameters())
        if numbers > path.stat().st_size:
            raise damaged(card_file, f"its network has {numbers} numbers, {path} is smaller than that")
    student = _student_of(card, card_file)
    load_weights(student, path, whose="student")
    try:
        return TrainedStudent(student, card).eval()
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(card_file, f"its exit cannot be read: {type(error).__name__} {str(error)[:120]}") from error


def _read_card(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > BYTES:
            raise ValueError("it is too large")
        card = json.loads(file.read_text())
        check_received(card, file)
        names = card.get("classes")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("its classes are not a list of names")
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, UsageError) else damaged(file, str(error)) from error
    return dict(card)


def _student_of(card: Mapping[str, Any], file: Path) -> Student:
    try:
        return build_student(card, num_classes=card["num_classes"], in_channels=card["shape"][0])
    except (KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise damaged(file, f"{type(error).__name__} {str(error)[:120]}") from error
