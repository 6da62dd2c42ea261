"""What a student has learned."""

from tser_lightning.measure.student_measures import StudentMeasures

__all__ = ["StudentMeasures"]
