"""What a student has learned."""

from tser_lightning.measure.cka import linear_cka, step_cka
from tser_lightning.measure.energy import ASSUMPTIONS, energy_mj, student_energy, teacher_energy
from tser_lightning.measure.features import penultimate_features
from tser_lightning.measure.firing import Firing, FiringRates, LayerFiring
from tser_lightning.measure.gradients import cosines, gradient_cosines
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.measure.operations import Count, LayerOperations, Operations
from tser_lightning.measure.student_measures import StudentMeasures
from tser_lightning.measure.timesteps import accuracy_at_timesteps

__all__ = [
    "ASSUMPTIONS",
    "Count",
    "Firing",
    "FiringRates",
    "LayerFiring",
    "LayerOperations",
    "OperationCounter",
    "Operations",
    "StudentMeasures",
    "accuracy_at_timesteps",
    "cosines",
    "energy_mj",
    "gradient_cosines",
    "linear_cka",
    "penultimate_features",
    "step_cka",
    "student_energy",
    "teacher_energy",
]
