"""What a student has learned."""

from tser_lightning.measure.firing import Firing, FiringRates, LayerFiring
from tser_lightning.measure.student_measures import StudentMeasures

__all__ = ["Firing", "FiringRates", "LayerFiring", "StudentMeasures"]
