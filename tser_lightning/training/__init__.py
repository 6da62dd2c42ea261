"""Training of a student by a teacher.

The names below are imported when first used: weights are read without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tser_lightning.training.checkpoints import save_network
    from tser_lightning.training.distiller import Distiller
    from tser_lightning.training.evaluation import Evaluation
    from tser_lightning.training.recipe import Machine, Recipe
    from tser_lightning.training.teacher import SingleStep, Teacher, check_teacher
    from tser_lightning.training.trainer import evaluate_network, fit
    from tser_lightning.training.weights import load_weights

_HOMES = {
    "Distiller": "distiller",
    "Evaluation": "evaluation",
    "Machine": "recipe",
    "Recipe": "recipe",
    "SingleStep": "teacher",
    "Teacher": "teacher",
    "check_teacher": "teacher",
    "evaluate_network": "trainer",
    "fit": "trainer",
    "load_weights": "weights",
    "save_network": "checkpoints",
}
__all__ = [
    "Distiller",
    "Evaluation",
    "Machine",
    "Recipe",
    "SingleStep",
    "Teacher",
    "check_teacher",
    "evaluate_network",
    "fit",
    "load_weights",
    "save_network",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
