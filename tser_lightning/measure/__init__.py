"""What a student has learned."""

from tser_lightning.measure.energy import ASSUMPTIONS, energy_mj, student_energy, teacher_energy
from tser_lightning.measure.firing import Firing, FiringRates, LayerFiring
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.measure.operations import Count, LayerOperations, Operations
from tser_lightning.measure.student_measures import StudentMeasures

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
    "energy_mj",
    "student_energy",
    "teacher_energy",
]
