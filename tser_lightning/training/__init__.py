"""Training of a student by a teacher."""

from tser_lightning.training.checkpoints import save_network
from tser_lightning.training.distiller import Distiller
from tser_lightning.training.exam import Exam
from tser_lightning.training.fit import examine, fit
from tser_lightning.training.recipe import Machine, Recipe
from tser_lightning.training.teacher import Once, Teacher, check_teacher
from tser_lightning.training.weights import load_weights

__all__ = [
    "Distiller",
    "Exam",
    "Machine",
    "Once",
    "Recipe",
    "Teacher",
    "check_teacher",
    "examine",
    "fit",
    "load_weights",
    "save_network",
]
